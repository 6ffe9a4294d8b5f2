"""Rows to the terminal, a pipe or a file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from kymograph.errors import InvalidInput
from kymograph.model.schema import TableSchema
from kymograph.store.exchange.export import encode, write_file, write_stream
from kymograph.store.exchange.form import Form, form_of
from kymograph.store.exchange.text import readable

# rows that decide how wide the columns of a printed table are
_MEASURED = 1000
_WIDEST = 60
FORMATS = ("table", "csv", "json", "parquet", "arrow")


def write_rows(
    rows: pa.RecordBatchReader,
    form: str,
    output: Path | None,
    schema: TableSchema | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write rows as table, csv, json, parquet or arrow to a file, or to standard output when `output` is None.

    Arrow goes to a file as an IPC file and to standard output as an IPC stream.

    Raises:
        InvalidInput: binary rows for a terminal.
    """
    if form == "table":
        _write_table(rows, output)
        return
    chosen: Form = form_of("", form)
    if output is not None:
        write_file(encode(rows, chosen, schema, progress), output)
        return
    if chosen == "arrow":
        chosen = "arrows"
    if chosen in ("parquet", "arrows") and sys.stdout.isatty():
        raise InvalidInput(f"{form} is not for a terminal", hint="give --output FILE, or pipe it somewhere")
    write_stream(encode(rows, chosen, schema, progress), sys.stdout.buffer)


def _write_table(rows: pa.RecordBatchReader, output: Path | None) -> None:
    lines = (line.encode() + b"\n" for line in table_lines(rows))
    if output is not None:
        write_file(lines, output)
    else:
        write_stream(lines, sys.stdout.buffer)


def table_lines(rows: pa.RecordBatchReader) -> Iterator[str]:
    """A header and a line per row; the first thousand rows decide the widths, longer values push on."""
    layout = None
    waiting: list[pa.RecordBatch] = []
    measured = 0
    for batch in rows:
        if layout is None:
            waiting.append(batch)
            measured += batch.num_rows
            if measured < _MEASURED:
                continue
            layout = Layout(rows.schema, waiting)
            yield from layout.header()
            for early in waiting:
                yield from layout.lines(early)
            waiting = []
        else:
            yield from layout.lines(batch)
    if layout is None:
        layout = Layout(rows.schema, waiting)
        yield from layout.header()
        for early in waiting:
            yield from layout.lines(early)


class Layout:
    """Widths and sides of the columns of a printed table, made from its first rows."""

    def __init__(self, schema: pa.Schema, sample: list[pa.RecordBatch]) -> None:
        self._names = schema.names
        self._right = [pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in schema.types]
        self._widths = [min(_WIDEST, len(_safe(name))) for name in self._names]
        for batch in sample:
            for place, column in enumerate(batch.slice(0, _MEASURED).columns):
                widest = max((len(cell) for cell in _cells(column)), default=0)
                self._widths[place] = max(self._widths[place], min(_WIDEST, widest))

    def header(self) -> Iterator[str]:
        yield self._line([_safe(name) for name in self._names])
        yield "  ".join("─" * width for width in self._widths)

    def lines(self, batch: pa.RecordBatch) -> Iterator[str]:
        if batch.num_columns:
            for row in zip(*map(_cells, batch.columns), strict=True):
                yield self._line(list(row))

    def _line(self, cells: list[str]) -> str:
        placed = zip(cells, self._widths, self._right, strict=True)
        return "  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in placed).rstrip()


def _cells(column: pa.Array) -> list[str]:
    return ["" if text is None else _safe(text) for text in readable(column).to_pylist()]


def _safe(text: str) -> str:
    """Text that cannot steer a terminal: control characters are written out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
