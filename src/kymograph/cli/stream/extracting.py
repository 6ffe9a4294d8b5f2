"""`kymo stream extract`: rows of a stream to standard output or a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click
import numpy as np

from kymograph.cli.progress import progress
from kymograph.cli.stream.place import Place, place
from kymograph.cli.stream.words import path, raw_times, shown, span, target
from kymograph.errors import InvalidInput
from kymograph.model.stream import TIMESTAMP, column_names, split_level
from kymograph.store.streams.files import FORMS, write_rows
from kymograph.wire.streams.binary import encode_binary
from kymograph.wire.streams.text import encode_text

Array = np.ndarray[Any, Any]


@click.command(short_help="Print the rows of PATH, or write them to a file.")
@target
@path
@span
@click.option("--bare", "-b", is_flag=True, help="Leave the times out.")
@click.option("--binary", "-B", is_flag=True, help="Packed little-endian rows instead of text.")
@click.option("--annotate", "-a", is_flag=True, help="Begin with comments: path, layout, range.")
@click.option("--markup", "-m", is_flag=True, help="Comments where intervals begin and end.")
@raw_times
@click.option("--count", "-c", is_flag=True, help="Only the number of rows.")
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="A file; .npy, .parquet, .h5 too."
)
def extract(
    *,
    target: str,
    path: str,
    start: int | None,
    end: int | None,
    bare: bool,
    binary: bool,
    annotate: bool,
    markup: bool,
    raw_times: bool,
    count: bool,
    output: Path | None,
) -> None:
    """Print the rows of PATH as lines `time v1 … vn`, times in µs; PATH~decim-16 is a level of the pyramid."""
    if binary and (annotate or markup):
        raise click.UsageError("comments are text: not with --binary")
    form = FORMS.get(output.suffix.lower(), "") if output is not None else ""
    if form and (bare or binary or annotate or markup):
        raise click.UsageError(f"a {form} file has a form of its own")
    with place(target) as there:
        layout = there.layout(path)
        if count:
            click.echo(there.count(path, start, end))
            return
        with progress(f"extract {path}", "rows") as report:
            chunks = _counted(there.chunks(path, start, end), report)
            if form and output is not None:
                dtype = layout.levels if split_level(path)[1] else layout.rows
                columns = column_names(layout, there.metadata(split_level(path)[0]))
                write_rows(output, form, chunks, dtype, columns)
                return
            pieces = (
                _marked(there, path, start, end, bare, raw_times, report)
                if markup
                else (_encoded(chunk, bare, binary) for chunk in chunks)
            )
            head = _head(path, layout.name, start, end, raw_times) if annotate else b""
            _write(head, pieces, output)


def _head(path: str, layout: str, start: int | None, end: int | None, raw: bool) -> bytes:
    lines = (f"path: {path}", f"layout: {layout}", f"start: {shown(start, raw)}", f"end: {shown(end, raw)}")
    return "".join(f"# {line}\n" for line in lines).encode()


def _marked(
    there: Place, path: str, start: int | None, end: int | None, bare: bool, raw: bool, report: Any
) -> Iterator[bytes]:
    done = 0
    for low, high in there.intervals(split_level(path)[0], start, end):
        yield f"# interval-start {shown(low, raw)}\n".encode()
        for chunk in there.chunks(path, low, high):
            done += len(chunk)
            report(done, None)
            yield _encoded(chunk, bare, False)
        yield f"# interval-end {shown(high, raw)}\n".encode()


def _encoded(rows: Array, bare: bool, binary: bool) -> bytes:
    if bare:
        names = [name for name in rows.dtype.names or () if name != TIMESTAMP]
        if binary:
            return (
                np.concatenate([rows[name] for name in names], axis=1).tobytes()
                if len(names) > 1
                else rows[names[0]].tobytes()
            )
        return encode_text(rows, times=False)
    return encode_binary(rows) if binary else encode_text(rows)


def _counted(chunks: Iterator[Array], report: Any) -> Iterator[Array]:
    done = 0
    for chunk in chunks:
        done += len(chunk)
        report(done, None)
        yield chunk


def _write(head: bytes, pieces: Iterator[bytes], output: Path | None) -> None:
    if output is None:
        _pour(head, pieces, sys.stdout.buffer)
        return
    part = output.with_name(output.name + ".part")
    try:
        with part.open("wb") as file:
            _pour(head, pieces, file)
        part.replace(output)
    except OSError as problem:
        raise InvalidInput(f"{output} cannot be written: {problem.strerror}") from problem
    finally:
        part.unlink(missing_ok=True)


def _pour(head: bytes, pieces: Iterator[bytes], file: BinaryIO) -> None:
    file.write(head)
    for piece in pieces:
        file.write(piece)
    file.flush()
