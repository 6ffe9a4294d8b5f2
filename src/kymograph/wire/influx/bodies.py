"""Influx line protocol: a body of lines to columns, many lines at a time.

A Python loop over lines takes 4 µs each. So the places of newlines and spaces are found with NumPy, the pieces between
them become Arrow arrays, and lines with the same field names and types are converted together. Lines that are not plain
(escapes, quotes, comments, anything broken) go one by one through `line`, which decides what is right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from kymograph.errors import InvalidInput
from kymograph.model.time import MAX_TIME
from kymograph.wire.influx.faults import Faults
from kymograph.wire.influx.line import Line, Type, Unterminated, read_line
from kymograph.wire.influx.prefix import Prefixes
from kymograph.wire.influx.shapes import Fields, shapes
from kymograph.wire.influx.values import integers, pieces, runs

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
_MOST_SPACES = 16_000_000
_LESS = "send less in one request"
# texts over several lines in one body
_MOST_OVER = 100_000
# bytes of one line
MOST_LINE = 2**20
_NEWLINE, _SPACE, _HASH = b"\n #"
# what is between the words of a line with a time, and behind it
_USUAL = np.frombuffer(b"  \n", np.uint8)
_TYPES = {kind: pa.type_for_alias(kind) for kind in ("float64", "int64", "uint64", "bool", "string")}

Ints = np.ndarray[Any, np.dtype[np.int64]]
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


def parse(body: bytes, prefixes: Prefixes, *, precision: str = "ns", now: int, cuts: Sequence[int] = ()) -> Parsed:
    """The points of a body.

    Args:
        body: lines; a line feed inside a quoted text does not end a line. Less than 2 GiB.
        prefixes: gives measurement and tags their codes, and remembers them for the next body.
        precision: unit of the times: ns, us, ms, s, m or h. Times finer than a microsecond are floored.
        now: µs, for lines without a time.
        cuts: numbers of lines, from 0, where what another sender wrote begins.

    Raises:
        InvalidInput: no such precision, or more lines than `MOST_LINES`, or far too many spaces.
    """
    if precision not in PRECISIONS:
        raise InvalidInput(f"{precision[:40]!r} is no precision", hint="ns, us, ms, s, m or h")
    return _Body(body, prefixes, PRECISIONS[precision], now, cuts).read()


class _Body:
    def __init__(self, body: bytes, prefixes: Prefixes, unit: tuple[int, int], now: int, cuts: Sequence[int]) -> None:
        self._body = body
        self._buffer = pa.py_buffer(body)
        self._data: Bytes = np.frombuffer(body, np.uint8)
        self._prefixes = prefixes
        self._unit = unit
        self._now = now
        self._cuts = cuts
        self._parsed = Parsed()
        # one pass finds line ends, spaces and everything odd below them
        low = self._data <= _SPACE
        if len(body) > _MOST_SPACES and np.count_nonzero(low) > _MOST_SPACES:
            raise InvalidInput(f"the body has more than {_MOST_SPACES:,} spaces", hint=_LESS)
        places = np.flatnonzero(low)
        kinds = self._data[places]
        if len(places) and not len(places) % 3 and (kinds.reshape(-1, 3) == _USUAL).all():
            three = places.reshape(-1, 3)
            ends, self._spaces, self._odd = three[:, 2].copy(), three[:, :2].reshape(-1), places[:0]
        else:
            ends = places[kinds == _NEWLINE]
            self._spaces = places[kinds == _SPACE]
            self._odd = places[(kinds != _NEWLINE) & (kinds != _SPACE)]
        if len(ends) > MOST_LINES:
            raise InvalidInput(f"the body has more than {MOST_LINES:,} lines", hint=_LESS)
        if len(body) and body[-1] != _NEWLINE:
            ends = np.append(ends, len(body))
        self._starts: Ints = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
        self._ends: Ints = ends
        # lines that are read one by one: their places, from 0
        self._careful: list[Ints] = []
        # lines inside whose texts other lines lie, and the last of these
        self._over: dict[int, int] = {}

    def read(self) -> Parsed:
        if len(self._ends):
            plain, middle, last = self._plain()
            lengths = self._ends - self._starts
            done = (lengths == 0) | (lengths > MOST_LINE)
            self._parsed.faults.add_all(np.flatnonzero(lengths > MOST_LINE) + 1, f"has more than {MOST_LINE:,} bytes")
            self._over = self._open_texts()
            for row, until in self._over.items():
                done[row + 1 : until + 1] = True
            plain &= ~done
            self._careful.append(np.flatnonzero(~plain & ~done))
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
        if character not in self._body:
            return np.empty(0, np.int64)
        if self._body.count(character) > _MOST_SPACES:
            raise InvalidInput(f"the body has more than {_MOST_SPACES:,} times {character.decode()}", hint=_LESS)
        return np.flatnonzero(self._data == character[0])

    def _plain_lines(self, rows: Ints, middle: Ints, last: Ints) -> None:
        if not len(rows):
            return
        starts, ends = self._starts[rows], self._ends[rows]
        stamped = last < ends
        times = np.full(len(rows), self._now, np.int64)
        if stamped.all():
            times, fit = self._times(last + 1, ends)
        elif stamped.any():
            times[stamped], some = self._times(last[stamped] + 1, ends[stamped])
            fit = np.ones(len(rows), np.bool_)
            fit[stamped] = some
        else:
            fit = np.ones(len(rows), np.bool_)
        codes = self._prefixes.codes(self._pieces(starts, middle), np.searchsorted(rows, self._cuts).tolist())
        fit &= codes >= 0
        for picked, columns, good in shapes(Fields(self._buffer, middle + 1, last)):
            good &= fit[picked]
            if good.all():
                kept = picked
            else:
                kept = picked[good]
                columns = {name: column.filter(pa.array(good)) for name, column in columns.items()}
                self._careful.append(rows[picked[~good]])
            if columns and len(kept):
                self._parsed.points.append(Points(rows[kept] + 1, codes[kept], times[kept], columns))

    def _times(self, begins: Ints, ends: Ints) -> tuple[Ints, Bools]:
        """µs of the texts between places, and which of them are times in range."""
        # a sender mostly gives all series of one moment
        heads = runs(self._data, begins, ends)
        if heads is not None:
            places = zip(begins[heads].tolist(), ends[heads].tolist(), strict=True)
            texts = [self._body[begin:end] for begin, end in places]
            if all(map(bytes.isdigit, texts)) and max(values := list(map(int, texts))) < 2**63:
                times, fit = self._scaled(np.array(values, np.int64), np.ones(len(values), np.bool_))
                sizes = np.diff(heads, append=len(begins))
                return np.repeat(times, sizes), np.repeat(fit, sizes)
        numbers, fit = integers(self._pieces(begins, ends), pa.int64())
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
        for row in rows.tolist():
            text = self._text(row, self._over.get(row))
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

    def _open_texts(self) -> dict[int, int]:
        """Places of lines that end inside a text, and of the line where it is closed.

        A text that is not closed on its line goes on to the next line with an odd number of quotes, if the two are a
        line then; else its line is broken, and no other.
        """
        rows = np.searchsorted(self._ends, self._places(b'"'))
        odd = np.flatnonzero(np.bincount(rows) % 2).tolist() if len(rows) else []
        found: dict[int, int] = {}
        last = -1
        for row, until in pairwise(odd[:_MOST_OVER]):
            start, end = int(self._starts[row]), int(self._ends[until])
            if row > last and end - start <= MOST_LINE and _closes(self._text(row), self._body[start:end]):
                found[row] = last = until
        return found

    def _text(self, row: int, until: int | None = None) -> bytes:
        return self._body[self._starts[row] : self._ends[row if until is None else until]]


def _closes(text: bytes, joined: bytes) -> bool:
    """Whether a line is broken off inside a text, and whole together with what follows."""
    if text.lstrip(b" \t")[:1] == b"#":
        return False
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
