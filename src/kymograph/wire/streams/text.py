"""Stream rows as ASCII lines, `time v1 … vn`: µs since 1970, then the values, with blanks between.

Empty lines and lines that begin with `#` are passed over. Times may be decimal fractions; what is after the point is cut
off. Numbers go out so that reading them gives the same bits; NaN payloads alone are lost.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
from pyarrow import csv

from kymograph.errors import InvalidInput
from kymograph.model.stream import DATA, TIMESTAMP, Layout

Array = np.ndarray[Any, Any]
# no row is longer than this: 1,025 numbers of at most 30 characters, and room
MAX_LINE = 64 * 1024
_BLANKS = re.compile(rb"[ \t\r\f\v]+")
_EDGES = re.compile(rb"^ | $|^(?:#[^\n]*)?\n", re.MULTILINE)
_INTEGER = re.compile(rb"[+-]?[0-9]{1,20}")
_DECIMAL = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?|[+-]?(?:nan|inf(?:inity)?)", re.I)


class TextDecoder:
    """Text cut anywhere, into arrays of whole rows."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._rest = b""
        self._line = 1

    def feed(self, data: bytes) -> Array:
        """The rows whose lines are complete now, of the dtype `Layout.rows`.

        Raises:
            InvalidInput: a line that is no row of the layout; names its number and what is wrong.
        """
        data = self._rest + data if self._rest else data
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        if len(self._rest) > MAX_LINE:
            number = self._line + data.count(b"\n")
            raise InvalidInput(f"line {number} is longer than {MAX_LINE} bytes")
        return self._rows(data[:end]) if end else np.empty(0, self._layout.rows)

    def finish(self) -> Iterator[Array]:
        """The row of a last line without its end."""
        last, self._rest = self._rest, b""
        if last.strip():
            yield self._rows(last + b"\n")

    def close(self) -> None:
        """Nothing is held."""

    def _rows(self, text: bytes) -> Array:
        """Rows of whole lines."""
        columns = _columns(text, self._layout) or _columns(_plain(text), self._layout)
        if columns is None:
            self._explain(text)
        self._line += text.count(b"\n")
        rows = np.empty(len(columns[0]), self._layout.rows)
        rows[TIMESTAMP] = columns[0]
        for place, column in enumerate(columns[1:]):
            rows[DATA][:, place] = column
        return rows

    def _explain(self, text: bytes) -> NoReturn:
        """Raise for the first line that is no row."""
        for number, line in enumerate(text.split(b"\n"), self._line):
            words = line.split()
            if not words or words[0].startswith(b"#"):
                continue
            if len(words) != 1 + self._layout.count:
                raise InvalidInput(
                    f"line {number} has {len(words)} numbers, {self._layout.name} takes {1 + self._layout.count}",
                    hint="the time in µs, then the values, with blanks between",
                )
            _check_number(number, words[0], np.dtype("<i8"), decimal=True)
            for word in words[1:]:
                _check_number(number, word, self._layout.dtype, decimal=self._layout.dtype.kind == "f")
        last = self._line + text.count(b"\n") - 1
        raise InvalidInput(f"lines {self._line} to {last} cannot be read")


def encode_text(rows: Array, *, times: bool = True) -> bytes:
    """Lines of structured rows: the time, then the values of all other fields in their order.

    Args:
        rows: one-dimensional, of `Layout.rows` or `Layout.levels`.
        times: False leaves the time out.
    """
    columns = [pa.array(np.ascontiguousarray(rows[TIMESTAMP]))] if times else []
    for name in rows.dtype.names or ():
        if name != TIMESTAMP:
            columns += [pa.array(np.ascontiguousarray(column)) for column in rows[name].reshape(len(rows), -1).T]
    if not len(rows):
        return b""
    out = io.BytesIO()
    table = pa.Table.from_arrays(columns, [str(place) for place in range(len(columns))])
    csv.write_csv(table, out, csv.WriteOptions(include_header=False, delimiter=" ", quoting_style="none"))
    return out.getvalue()


def _plain(text: bytes) -> bytes:
    """One blank between numbers, none around them, no empty lines, no comments."""
    text = _BLANKS.sub(b" ", text)
    # twice: a line that only held a blank is empty after the first time
    return _EDGES.sub(b"", _EDGES.sub(b"", text))


def _columns(text: bytes, layout: Layout) -> list[Array] | None:
    """Times and values of lines with single blanks; None where something is no number or too many."""
    if not text:
        return [np.empty(0, "<i8"), *(np.empty(0, layout.dtype) for _ in range(layout.count))]
    value = pa.from_numpy_dtype(layout.dtype)
    for time in (pa.int64(), pa.float64()):
        found = _read(text, [time, *([value] * layout.count)])
        if found is None:
            continue
        times, *values = (column.to_numpy() for column in found.columns)
        if times.dtype.kind == "f":
            if not bool((np.abs(times) < 2.0**63).all()):
                return None
            times = np.trunc(times).astype(np.int64)
        return [times, *values]
    return None


def _read(text: bytes, types: list[pa.DataType]) -> pa.Table | None:
    names = [str(place) for place in range(len(types))]
    try:
        return csv.read_csv(
            pa.py_buffer(text),
            csv.ReadOptions(column_names=names, block_size=max(1 << 20, len(text) // 4)),
            csv.ParseOptions(delimiter=" ", quote_char=False, ignore_empty_lines=False),
            csv.ConvertOptions(column_types=dict(zip(names, types, strict=True)), null_values=[], check_utf8=False),
        )
    except pa.ArrowException:
        return None


def _check_number(line: int, word: bytes, kind: np.dtype[Any], *, decimal: bool) -> None:
    shown = word[:40].decode("ascii", "backslashreplace")
    if not (_DECIMAL if decimal else _INTEGER).fullmatch(word):
        raise InvalidInput(f"line {line}: {shown} is no number that {kind} can hold")
    if kind.kind != "f":
        value = float(word)
        info = np.iinfo(kind)
        if not info.min <= (int(value) if np.isfinite(value) else np.inf) <= info.max or (
            not decimal and not info.min <= int(word) <= info.max
        ):
            raise InvalidInput(f"line {line}: {shown} is out of the range of {kind}, {info.min} to {info.max}")
