"""Influx line protocol: a body of lines to columns, many lines at a time.

A Python loop over lines takes 4 µs each. So the places of newlines and spaces are found with NumPy, the pieces between
them become Arrow arrays, and lines with the same field names and types are converted together. Lines that are not plain
(escapes, quotes, comments, anything broken) go one by one through `wire.influx_line`, which decides what is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.errors import InvalidInput
from kymograph.model.time import MAX_TIME
from kymograph.wire.influx_faults import Faults
from kymograph.wire.influx_line import Line, Type, Unterminated, read_line
from kymograph.wire.influx_prefix import Prefixes
from kymograph.wire.influx_values import count_of, integers, kinds_of, pieces, typed

# (µs per unit, units per µs); exactly one of them is 1
PRECISIONS = {
    **dict.fromkeys(("ns", "n"), (1, 1000)),
    **dict.fromkeys(("us", "u", "µs", "µ"), (1, 1)),
    "ms": (1_000, 1),
    "s": (10**6, 1),
    "m": (60 * 10**6, 1),
    "h": (3600 * 10**6, 1),
}
# lines of one body; what is kept of each while it is read is many times an empty line
MOST_LINES = 2_000_000
# sets of fields that are looked for in one body, and lines that are looked at for it, beside 16 times every line; the
# lines of any further set are read one by one
_SHAPES = 256
_LOOKS = 1_000_000
_NEWLINE, _SPACE, _COMMA, _QUOTE, _HASH, _BACKSLASH, _RETURN, _TAB = b'\n ,"#\\\r\t'
_TYPES = {kind: pa.type_for_alias(kind) for kind in ("float64", "int64", "uint64", "bool", "string")}

Ints = np.ndarray[Any, np.dtype[np.int64]]
Places = np.ndarray[Any, np.dtype[Any]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass
class Points:
    """Lines with the same field names, in the same order, of the same types.

    Attributes:
        lines: int64, the number of each line, from 1.
        series: int64, measurement and tags of each line as a code of the `Prefixes`.
        times: int64 µs.
        fields: float64, int64, uint64, bool or string arrays without nulls, by name.
    """

    lines: Ints
    series: Ints
    times: Ints
    fields: dict[str, pa.Array]


@dataclass
class Parsed:
    """The points of a body and the faults of its broken lines."""

    points: list[Points] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)


def parse(body: bytes, prefixes: Prefixes, *, precision: str = "ns", now: int) -> Parsed:
    """The points of a body.

    Args:
        body: lines; a line feed inside a quoted text does not end a line. Less than 2 GiB.
        prefixes: gives measurement and tags their codes, and remembers them for the next body.
        precision: unit of the times: ns, us, ms, s, m or h. Times finer than a microsecond are floored.
        now: µs, for lines without a time.

    Raises:
        InvalidInput: no such precision, or more lines than `MOST_LINES`.
    """
    if body.count(b"\n") > MOST_LINES:
        raise InvalidInput(f"the body has more than {MOST_LINES:,} lines", hint="send fewer in one request")
    if precision not in PRECISIONS:
        raise InvalidInput(f"{precision[:40]!r} is no precision", hint="ns, us, ms, s, m or h")
    return _Body(body, prefixes, PRECISIONS[precision], now).read()


class _Body:
    def __init__(self, body: bytes, prefixes: Prefixes, unit: tuple[int, int], now: int) -> None:
        self._body = body
        self._buffer = pa.py_buffer(body)
        self._data: Bytes = np.frombuffer(body, np.uint8)
        self._prefixes = prefixes
        self._unit = unit
        self._now = now
        self._parsed = Parsed()
        # one pass finds line ends, spaces and everything odd below them
        places = np.flatnonzero(self._data <= _SPACE)
        kinds = self._data[places]
        ends = places[kinds == _NEWLINE]
        if len(body) and body[-1] != _NEWLINE:
            ends = np.append(ends, len(body))
        self._spaces: Ints = places[kinds == _SPACE]
        self._odd: Ints = places[(kinds != _NEWLINE) & (kinds != _SPACE)]
        self._starts: Ints = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
        self._ends: Ints = ends
        # lines that are read one by one: their places, from 0
        self._careful: list[Ints] = []

    def read(self) -> Parsed:
        if len(self._ends):
            plain, middle, last = self._plain()
            self._careful.append(np.flatnonzero(~plain & (self._ends > self._starts)))
            self._plain_lines(np.flatnonzero(plain), middle[plain], last[plain])
            self._careful_lines(np.unique(np.concatenate(self._careful)))
        return self._parsed

    def _plain(self) -> tuple[Bools, Ints, Ints]:
        """Which lines are `prefix fields` or `prefix fields time` without anything special, and where their spaces are.

        The second space of a line without a time is where it ends.
        """
        data, starts, ends = self._data, self._starts, self._ends
        spaces = self._spaces
        count = len(ends)
        if len(spaces) == 2 * count and bool(
            ((spaces[::2] > starts) & (spaces[1::2] > spaces[::2] + 1) & (spaces[1::2] < ends - 1)).all()
        ):
            plain, middle, last = np.ones(count, np.bool_), spaces[::2], spaces[1::2]
        else:
            before = np.searchsorted(spaces, starts)
            found = np.searchsorted(spaces, ends) - before
            spaces = np.append(spaces, [len(data)] * 2)
            middle = spaces[before]
            last = np.where(found == 2, spaces[before + 1], ends)
            plain = ((found == 1) | (found == 2)) & (middle > starts) & (last > middle + 1)
            plain &= (found == 1) | (last < ends - 1)
        for special in (self._odd, self._places(b'"'), self._places(b"\\")):
            plain[np.searchsorted(ends, special)] = False
        plain[data[np.minimum(starts, len(data) - 1)] == _HASH] = False
        return plain, middle, last

    def _places(self, character: bytes) -> Ints:
        """Where a character is that is mostly nowhere."""
        return np.flatnonzero(self._data == character[0]) if character in self._body else np.empty(0, np.int64)

    def _plain_lines(self, rows: Ints, middle: Ints, last: Ints) -> None:
        if not len(rows):
            return
        starts, ends = self._starts[rows], self._ends[rows]
        stamped = last < ends
        times = np.full(len(rows), self._now, np.int64)
        if stamped.all():
            times, fit = self._times(self._pieces(last + 1, ends))
        elif stamped.any():
            times[stamped], some = self._times(self._pieces(last[stamped] + 1, ends[stamped]))
            fit = np.ones(len(rows), np.bool_)
            fit[stamped] = some
        else:
            fit = np.ones(len(rows), np.bool_)
        codes = self._prefixes.codes(self._pieces(starts, middle))
        fit &= codes >= 0
        for picked, columns, good in _shapes(_Fields(self._buffer, middle + 1, last)):
            good &= fit[picked]
            if good.all():
                kept = picked
            else:
                kept = picked[good]
                columns = {name: column.filter(pa.array(good)) for name, column in columns.items()}
                self._careful.append(rows[picked[~good]])
            if columns and len(kept):
                self._parsed.points.append(Points(rows[kept] + 1, codes[kept], times[kept], columns))

    def _times(self, texts: pa.Array) -> tuple[Ints, Bools]:
        """µs of the texts, and which of them are times in range."""
        numbers, fit = integers(texts, pa.int64())
        return self._scaled(numbers.to_numpy(), fit)

    def _scaled(self, numbers: Ints, fit: Bools) -> tuple[Ints, Bools]:
        micros, finer = self._unit
        if finer > 1:
            return numbers // finer, fit
        fit = fit & (numbers >= -(MAX_TIME // micros)) & (numbers <= MAX_TIME // micros)
        return np.where(fit, numbers, 0) * micros, fit

    def _pieces(self, starts: Ints, ends: Ints) -> pa.Array:
        return pieces(self._buffer, starts, ends)

    def _careful_lines(self, rows: Ints) -> None:
        several = _Several()
        for row, text in self._whole(rows.tolist()):
            stripped = text.strip(b" \t\r")
            if not stripped or stripped[:1] == b"#":
                continue
            try:
                line = read_line(text.removesuffix(b"\r"))
                time = self._now if line.time is None else self._micros(line.time)
                several.add(row + 1, line, self._prefixes.code(line.prefix), time)
            except ValueError as problem:
                shown = text[:200].decode("utf-8", "replace")
                self._parsed.faults.add(row + 1, str(problem), shown)
        self._parsed.points += several.points()

    def _micros(self, number: int) -> int:
        micros, finer = self._unit
        time = number * micros // finer
        if not -MAX_TIME <= time <= MAX_TIME or not -(2**63) <= number < 2**63:
            raise ValueError(f"has a time out of range: {number}")
        return time

    def _whole(self, rows: list[int]) -> Iterator[tuple[int, bytes]]:
        """Each line with its place; a text that is not closed on its line goes on to the next line with a quote."""
        gone = -1
        for place, row in enumerate(rows):
            if row <= gone:
                continue
            text = self._body[self._starts[row] : self._ends[row]]
            if text.count(b'"') % 2:
                until = next((r for r in rows[place + 1 :] if self._quotes(r) % 2), None)
                joined = None if until is None else self._body[self._starts[row] : self._ends[until]]
                if joined is not None and _closes(text, joined):
                    gone, text = until if until is not None else row, joined
            yield row, text

    def _quotes(self, row: int) -> int:
        return self._body.count(b'"', int(self._starts[row]), int(self._ends[row]))


def _closes(text: bytes, joined: bytes) -> bool:
    """Whether a line is broken off inside a text, and whole together with what follows."""
    try:
        read_line(text)
    except Unterminated:
        try:
            read_line(joined)
        except ValueError:
            return False
        return True
    except ValueError:
        pass
    return False


class _Several:
    """Lines read one by one, gathered by names and types of their fields."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[tuple[str, Type], ...], tuple[list[int], list[int], list[int], list[Any]]] = {}

    def add(self, number: int, line: Line, code: int, time: int) -> None:
        shape = tuple((name, kind) for name, kind, _ in line.fields)
        lines, series, times, values = self._shapes.setdefault(shape, ([], [], [], []))
        lines.append(number)
        series.append(code)
        times.append(time)
        values.append([value for _, _, value in line.fields])

    def points(self) -> Iterator[Points]:
        for shape, (lines, series, times, values) in self._shapes.items():
            columns = zip(shape, zip(*values, strict=True), strict=True)
            fields = {name: pa.array(column, _TYPES[kind]) for (name, kind), column in columns}
            yield Points(np.array(lines, np.int64), np.array(series, np.int64), np.array(times, np.int64), fields)


class _Fields:
    """The part of each line that holds its fields, by where it begins and ends."""

    def __init__(self, buffer: pa.Buffer, begins: Ints, ends: Ints) -> None:
        self._buffer, self._begins, self._ends = buffer, begins, ends

    def __len__(self) -> int:
        return len(self._begins)

    def text(self, row: int) -> bytes:
        return bytes(self._buffer[int(self._begins[row]) : int(self._ends[row])])

    @cached_property
    def _texts(self) -> pa.Array:
        return pieces(self._buffer, self._begins, self._ends)

    @cached_property
    def _commas(self) -> Ints:
        return np.asarray(count_of(self._texts, ","))

    def columns(self, rows: Ints, keys: dict[str, bytes]) -> tuple[Ints, dict[str, pa.Array]]:
        """Those of the rows that have exactly these field names, and their values as texts."""
        whole = len(rows) == len(self)
        if len(keys) == 1:
            begins, ends = (self._begins, self._ends) if whole else (self._begins[rows], self._ends[rows])
            columns, same = _columns(self._buffer, begins[:, None], ends[:, None], keys)
            rows = rows if same.all() else rows[same]
            # what follows a comma is another field
            (name, values), *_ = columns.items()
            more = count_of(values, ",") > 0
            return (rows[~more], {name: values.filter(pa.array(~more))}) if more.any() else (rows, columns)
        rows = rows[self._commas[rows] == len(keys) - 1]
        parts = pc.split_pattern(self._texts if len(rows) == len(self) else self._texts.take(pa.array(rows)), ",")
        offsets = np.frombuffer(parts.values.buffers()[1], np.int32)[: len(parts.values) + 1]
        shape = (-1, len(keys))
        columns, same = _columns(
            parts.values.buffers()[2], offsets[:-1].reshape(shape), offsets[1:].reshape(shape), keys
        )
        return rows if same.all() else rows[same], columns


def _shapes(fields: _Fields) -> Iterator[tuple[Ints, dict[str, pa.Array], Bools]]:
    """Rows with equal field names and types: their places, their columns, and which of them are good.

    Without columns, the rows are to be read one by one.
    """
    left = np.arange(len(fields))
    looks = _LOOKS + 16 * len(fields)
    for _ in range(_SHAPES):
        looks -= len(left)
        if not len(left) or looks < 0:
            break
        keys = _keys(fields.text(int(left[0])))
        if keys is None:
            yield left[:1], {}, np.zeros(1, np.bool_)
            left = left[1:]
            continue
        # the first row is among them
        picked, columns = fields.columns(left, keys)
        left = np.setdiff1d(left, picked, assume_unique=True) if len(picked) < len(left) else left[:0]
        yield from _by_type(picked, columns)
    if len(left):
        yield left, {}, np.zeros(len(left), np.bool_)


def _keys(text: bytes) -> dict[str, bytes] | None:
    """Field names of `a=1,b=2` with the bytes that begin each field; None where one has no value, is none or is there twice."""
    pairs = [piece.partition(b"=") for piece in text.split(b",")]
    try:
        keys = {key.decode(): key + equals for key, equals, value in pairs if value and 0 < len(key) <= 255}
    except UnicodeDecodeError:
        return None
    return None if len(keys) < len(pairs) or "__name__" in keys or "\0" in text.decode("latin-1") else keys


def _columns(
    data: pa.Buffer, begins: Places, ends: Places, keys: dict[str, bytes]
) -> tuple[dict[str, pa.Array], Bools]:
    """Texts of the values of fields (rows × fields) whose names are these, and the rows where all names are."""
    same = np.ones(len(begins), np.bool_)
    view = np.frombuffer(data, np.uint8)
    for place, key in enumerate(keys.values()):
        long = begins[:, place] + len(key) < ends[:, place]
        same &= long
        at = begins[:, place] if long.all() else np.where(long, begins[:, place], 0)
        for step, byte in enumerate(key):
            same &= view[at + step] == byte
    if not same.all():
        begins, ends = begins[same], ends[same]
    columns = {
        name: pieces(data, begins[:, place] + len(key), ends[:, place])
        for place, (name, key) in enumerate(keys.items())
    }
    return columns, same


def _by_type(picked: Ints, columns: dict[str, pa.Array]) -> Iterator[tuple[Ints, dict[str, pa.Array], Bools]]:
    kinds = np.stack([kinds_of(column) for column in columns.values()])
    if (kinds == kinds[:, :1]).all():
        yield picked, *typed(columns, kinds[:, 0])
        return
    distinct, which = np.unique(kinds, axis=1, return_inverse=True)
    for place in range(distinct.shape[1]):
        rows = np.flatnonzero(which.reshape(-1) == place)
        some = {name: column.take(pa.array(rows)) for name, column in columns.items()}
        yield picked[rows], *typed(some, distinct[:, place])
