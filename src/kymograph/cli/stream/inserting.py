"""`kymo stream insert`: rows from files and pipes into a stream."""

from __future__ import annotations

import gzip
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import click
import numpy as np

from kymograph.cli.progress import progress
from kymograph.cli.stream.clock import DataClock
from kymograph.cli.stream.place import Place, place
from kymograph.cli.stream.words import dry_run, path, shown, span, target
from kymograph.cli.words import DURATION
from kymograph.client.inserting import ArrayInsertion
from kymograph.errors import InvalidInput, NotFound, Overlap
from kymograph.model.stream import DATA, Layout
from kymograph.store.streams.files import FORMS, read_rows, read_wav
from kymograph.wire.streams.binary import BinaryDecoder
from kymograph.wire.streams.text import TextDecoder

Array = np.ndarray[Any, Any]
_PIECE = 1 << 20
_VALUES = re.compile(rb"^(?=[ \t]*[^#\s])", re.MULTILINE)


@click.command(short_help="Insert the rows of files into PATH.")
@target
@path
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("--timestamp", "-t", is_flag=True, help="The data has no times: add them, at the rate of --rate.")
@click.option(
    "--rate", "-r", type=float, metavar="HZ", help="Rows per second of data without times; a WAV file brings its own."
)
@span
@click.option(
    "--max-gap",
    "-g",
    type=DURATION,
    default="10s",
    show_default=True,
    help="How far data without --start may be from the wall clock.",
)
@click.option("--binary", "-B", is_flag=True, help="Packed little-endian rows instead of text.")
@dry_run
def insert(
    *,
    target: str,
    path: str,
    files: tuple[str, ...],
    timestamp: bool,
    rate: float | None,
    start: int | None,
    end: int | None,
    max_gap: int,
    binary: bool,
    dry_run: bool,
) -> None:
    """Insert the rows of each FILE (text, .npy, .parquet, .h5, .wav; - or none is standard input) into PATH.

    Text and binary may be compressed with gzip. With --timestamp, row n has the time START + n / RATE; without --start
    the first row is now, and where the data falls behind the wall clock by more than --max-gap, a gap is left.
    """
    if timestamp != (rate is not None) and not (files and all(_form(file) == "wav" for file in files)):
        raise click.UsageError("--timestamp and --rate go together")
    with place(target, write=not dry_run, create=False) as there:
        layout = there.layout(path)
        clock = None if rate is None else DataClock(rate, start, max_gap)
        guard = _Guard(there, path, dry_run)
        with progress(f"insert {path}", "rows") as report:
            insertion = ArrayInsertion(layout, guard.send, start, end)
            for file in files or ("-",):
                for rows, broken in _rows(file, layout, clock, binary, start):
                    if broken:
                        insertion.finalize()
                    insertion.insert(rows)
                    guard.seen(len(rows))
                    report(guard.rows, None)
            insertion.finalize()
        said = "would be inserted" if dry_run else "inserted"
        click.echo(f"{path}: {guard.rows:,} rows {said}{guard.extent()}", err=True)


class _Guard:
    """Where blocks go: into the stream, or with a dry run nowhere but past the overlap check."""

    def __init__(self, there: Place, path: str, dry: bool) -> None:
        self._insert = partial(there.insert, path)
        self._covered = there.intervals(path, None, None) if dry else None
        self._path = path
        self.rows = 0
        self._low: int | None = None
        self._high: int | None = None

    def seen(self, rows: int) -> None:
        self.rows += rows

    def send(self, rows: Array, start: int, end: int) -> None:
        if self._covered is None:
            self._insert(rows, start, end)
        else:
            there = self._covered.overlap(start, end)
            if there is not None:
                raise Overlap(
                    f"{self._path}: [{start}, {end}) overlaps [{there[0]}, {there[1]}), which is covered already"
                )
        self._low = start if self._low is None else self._low
        self._high = end

    def extent(self) -> str:
        return "" if self._low is None else f", {shown(self._low)} to {shown(self._high)}"


def _form(file: str) -> str:
    return FORMS.get(Path(file).suffix.lower(), "")


def _rows(
    file: str, layout: Layout, clock: DataClock | None, binary: bool, start: int | None
) -> Iterator[tuple[Array, bool]]:
    """Rows with their times, and whether there is a gap before them."""
    form = _form(file) if file != "-" else ""
    if file != "-" and not Path(file).exists():
        raise NotFound(f"there is no file {file}")
    if form == "wav":
        rate, values = read_wav(Path(file), layout)
        used = clock or DataClock(rate, _needed(start), 0)
        yield from (used.stamp(piece, layout) for piece in values)
    elif form:
        if clock is not None:
            raise InvalidInput(f"{file} has times of its own", hint="leave --timestamp out")
        yield from ((rows, False) for rows in read_rows(Path(file), form, layout))
    else:
        with _opened(file) as source:
            yield from _raw(source, layout, clock, binary)


def _needed(start: int | None) -> int:
    if start is None:
        raise InvalidInput("a WAV file says nothing of its time", hint="give --start")
    return start


def _raw(source: BinaryIO, layout: Layout, clock: DataClock | None, binary: bool) -> Iterator[tuple[Array, bool]]:
    if clock is None:
        decoder: BinaryDecoder | TextDecoder = BinaryDecoder(layout) if binary else TextDecoder(layout)
    else:
        values = np.dtype([(DATA, layout.dtype, (layout.count,))])
        decoder = BinaryDecoder(layout, values) if binary else TextDecoder(layout)
    for data in _pieces(source, lines=not binary):
        # values without times are read as rows of time 0
        rows = decoder.feed(data if clock is None or binary else _VALUES.sub(b"0 ", data))
        if len(rows):
            yield (rows, False) if clock is None else clock.stamp(rows[DATA], layout)
    for rows in decoder.finish():
        yield (rows, False) if clock is None else clock.stamp(rows[DATA], layout)


def _pieces(source: BinaryIO, *, lines: bool) -> Iterator[bytes]:
    """What can be read at once, so that slow pipes are followed; text is cut at the ends of lines."""
    read = getattr(source, "read1", source.read)
    held = b""
    while data := read(_PIECE):
        if not lines:
            yield data
            continue
        held += data
        end = held.rfind(b"\n") + 1
        if end:
            yield held[:end]
            held = held[end:]
    if held:
        yield held


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    """The bytes of a file, or of standard input; unpacked where they begin as gzip does."""
    with ExitStack() as held:
        source: Any = sys.stdin.buffer if file == "-" else held.enter_context(Path(file).open("rb"))
        magic = source.peek(2)[:2] if hasattr(source, "peek") else b""
        packed = magic == b"\x1f\x8b"
        yield cast(BinaryIO, held.enter_context(gzip.open(source))) if packed else source
