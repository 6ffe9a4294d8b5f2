"""Influx lines into the store: a measurement is a table, one whose only field is `value` a metric."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from kymograph.errors import AlreadyExists, InvalidInput, LimitExceeded, NotFound
from kymograph.model.schema import TableSchema
from kymograph.store.ingest.columns import Part, Rejected, label_columns, merged, written_types
from kymograph.store.ingest.merging import completed, is_partial
from kymograph.store.naming import Kind
from kymograph.store.tables import RESERVED
from kymograph.wire.influx.bodies import Points, parse
from kymograph.wire.influx.faults import Faults
from kymograph.wire.influx.prefix import Prefixes

if TYPE_CHECKING:
    from kymograph.store.ingest.verbs import IngestVerbs as Store

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Describe = Callable[[Sequence[str], Kind], None]

VALUE = "value"
# beyond this, the float64 next to an integer may be another one
_EXACT = 2**53
_TABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*", re.ASCII)
_ATTEMPTS = 4


@dataclass
class LinesReport:
    """What became of the lines of one body.

    Attributes:
        rows: rows and samples stored.
        faults: the lines that were not taken, by number; see `Faults`.
    """

    rows: int = 0
    faults: Faults = field(default_factory=Faults)


def table_name(measurement: str) -> str:
    """The table of a measurement: its own name where a table may have it, else one that stands for it alone.

    As Prometheus escapes UTF-8 names: `U__`, then `_` doubled and every character that is not allowed as `_HEX_`.
    """
    if _TABLE_NAME.fullmatch(measurement):
        return measurement
    spelt = ("__" if c == "_" else c if _TABLE_NAME.fullmatch("_" + c) else f"_{ord(c):x}_" for c in measurement)
    return "U__" + "".join(spelt)


class LineWriter:
    """Writes bodies of lines into one store; remembers the series it has met. Safe in many threads."""

    def __init__(self) -> None:
        self._known = _Known()

    def write(
        self, store: Store, bodies: Sequence[bytes], precision: str, now: int, describe: Describe
    ) -> tuple[int, list[Faults]]:
        """Store bodies as one; see `Store.write_lines`. Returns the rows stored, and the faults of each body."""
        known = self._known
        if known.prefixes.full:
            known = self._known = _Known()
        body, ends = bodies[0], [0]
        if len(bodies) > 1:
            body = b"".join(each if each.endswith(b"\n") else each + b"\n" for each in bodies)
            ends = np.cumsum([_feeds(each) + (not each.endswith(b"\n")) for each in bodies]).tolist()
        parsed = parse(body, known.prefixes, precision=precision, now=now, cuts=ends[:-1])
        work = _Work(store, known, describe)
        scalar, wide = work.split(parsed.points)
        rows = work.store_samples(scalar)
        for table, parts in wide.items():
            rows += work.store_rows(table, parts)
        faults = parsed.faults
        faults.extend(work.faults)
        return rows, [faults] if len(bodies) == 1 else faults.divided(ends)


def together(bodies: Sequence[bytes]) -> list[list[int]]:
    """Which bodies, by their places, may be written as one.

    Not those with a text, which may go over a line's end, and not those with so many lines that they may be refused.
    """
    lone = [b'"' in body or _feeds(body) * 8 > len(body) + 1000 for body in bodies]
    plain = [place for place, alone in enumerate(lone) if not alone]
    return ([plain] if plain else []) + [[place] for place, alone in enumerate(lone) if alone]


def _feeds(body: bytes) -> int:
    """Line feeds in a body; where there are many, far faster than `bytes.count`."""
    return int(np.count_nonzero(np.frombuffer(body, np.uint8) == 10))


class _Known:
    """Prefixes, and the ids of those that are series of samples; -1 where none was asked for yet.

    Attributes:
        merging: held while rows take over fields of those they replace.
    """

    def __init__(self) -> None:
        self.prefixes = Prefixes()
        self._ids: Ints = np.empty(0, np.int64)
        self._lock = threading.Lock()
        self.merging = threading.Lock()

    def ids(self, codes: Ints) -> Ints:
        """The ids known so far, -1 where none is."""
        with self._lock:
            room = len(self.prefixes.series)
            if room > len(self._ids):
                self._ids = np.append(self._ids, np.full(2 * room - len(self._ids), -1))
            return self._ids[codes]

    def learn(self, codes: Ints, ids: Ints) -> None:
        with self._lock:
            self._ids[codes] = ids

    def forget(self) -> None:
        with self._lock:
            self._ids[:] = -1


class _Work:
    """One body on its way into the store."""

    def __init__(self, store: Store, known: _Known, describe: Describe) -> None:
        self._store = store
        self._known = known
        self._describe = describe
        self.faults = Faults()

    def split(self, points: list[Points]) -> tuple[list[Points], dict[str, list[Part]]]:
        """Samples of metrics, and rows by table.

        A lone number called `value` is a sample, unless its measurement is a table already or becomes one here.
        """
        prefixes, tables = self._known.prefixes, self._store.tables()
        lone = [_is_scalar(each) for each in points]
        numbers = [prefixes.measurement_of(each.series) for each in points]
        met = _distinct(np.concatenate(numbers)) if points else []
        names = {number: table_name(prefixes.measurements[number]) for number in met}
        wide = {number for number, name in names.items() if name in tables and name not in RESERVED}
        wide.update(n for is_lone, each in zip(lone, numbers, strict=True) if not is_lone for n in _distinct(each))
        scalar: list[Points] = []
        rows: dict[str, list[Part]] = {}
        for each, of, is_lone in zip(points, numbers, lone, strict=True):
            distinct = _distinct(of)
            alone = len(distinct) == 1
            if is_lone:
                as_rows = np.isin(of, [number for number in distinct if number in wide])
                if not as_rows.all():
                    scalar.append(_picked(each, None if not as_rows.any() else ~as_rows))
                distinct = [number for number in distinct if number in wide]
            for number in distinct:
                part = _picked(each, None if alone else of == number)
                rows.setdefault(names[number], []).append(Part(part.lines, part.series, part.times, part.fields))
        return scalar, rows

    def store_samples(self, scalar: list[Points]) -> int:
        """All samples in one step. Those of series that are one too many become faults."""
        if not scalar:
            return 0
        lines, codes, times, values, exact = (np.concatenate(each) for each in zip(*map(_samples, scalar), strict=True))
        if not exact.all():
            self._reject(lines[~exact], "has a number that float64 cannot hold exactly")
            lines, codes, times, values = (each[exact] for each in (lines, codes, times, values))
        if len(scalar) > 1:
            order = np.argsort(lines, kind="stable")
            lines, codes, times, values = (each[order] for each in (lines, codes, times, values))
        for _ in range(_ATTEMPTS):
            ids = self._ids(codes, lines)
            taken = ids >= 0
            try:
                if taken.all():
                    return self._store.append_samples(ids, times, values)
                return self._store.append_samples(ids[taken], times[taken], values[taken])
            except InvalidInput as problem:  # a series was deleted since its id was learnt
                self._known.forget()
                failure = problem
        raise failure

    def _ids(self, codes: Ints, lines: Ints) -> Ints:
        ids = self._known.ids(codes)
        new = np.unique(codes[ids < 0])
        if not len(new):
            return ids
        prefixes = self._known.prefixes
        series = [prefixes.series[code] for code in new.tolist()]
        named = [(prefixes.measurements[number], dict(tags)) for number, tags in series]
        try:
            self._known.learn(new, self._store.series_ids(named))
        except LimitExceeded as problem:
            self._reject(lines[ids < 0], f"is of a series that is one too many: {problem}")
            return ids
        self._describe(sorted({name for name, _ in named}), "gauge")
        return self._known.ids(codes)

    def store_rows(self, table: str, parts: list[Part]) -> int:
        """Rows of one table in one step; what does not fit its columns becomes faults."""
        for _ in range(_ATTEMPTS):
            faults = Faults()
            try:
                stored = self._try_rows(table, [replace(part, fields=dict(part.fields)) for part in parts], faults)
            except (AlreadyExists, _Widened):  # made, or changed, by somebody else meanwhile
                continue
            except InvalidInput as problem:
                for part in parts:
                    self.faults.add_all(part.lines, f"cannot be stored: {problem}")
                return 0
            self.faults.extend(faults)
            return stored
        raise AlreadyExists(f"table {table} is made and changed again and again while it is written to")

    def _try_rows(self, table: str, parts: list[Part], faults: Faults) -> int:
        def reject(refusal: Rejected) -> None:
            faults.add_all(refusal.lines, refusal.message)

        schema = self._store.tables().get(table)
        columns = label_columns(self._known.prefixes, parts, table, schema, reject)
        types = written_types(table, parts, schema, tuple(columns), self._store.options.max_fields, reject)
        rows = merged(parts, columns, types)
        if not rows.num_rows:
            return 0
        there = set() if schema is None else set(schema.columns)
        # a tag that only lines had which were rejected makes no label
        empty = [name for name in columns if name not in there and rows[name].null_count == rows.num_rows]
        rows = rows.drop_columns(empty)
        labels = [name for name in columns if name in rows.column_names]
        fields = {name: kind for name, kind in types.items() if name in rows.column_names}
        if schema is None:
            self._store.create_table(table, labels, fields)
            return self._store.write(table, rows)
        if there.issuperset(rows.column_names) and not is_partial(schema, rows):
            return self._store.write(table, rows)
        with self._known.merging:  # two halves of one row must not miss each other
            schema = self._widened(table, labels, fields)
            if is_partial(schema, rows):
                rows = completed(self._store.engine, schema, rows)
            return self._store.write(table, rows)

    def _widened(self, table: str, labels: Sequence[str], fields: dict[str, pa.DataType]) -> TableSchema:
        """The schema of a table, once it has these columns."""
        try:
            return self._store.add_columns(table, labels, fields)
        except (AlreadyExists, LimitExceeded, NotFound) as problem:
            raise _Widened from problem

    def _reject(self, lines: Ints, message: str) -> None:
        self.faults.add_all(lines, message)


class _Widened(Exception):
    """A table is not what it was when lines were fitted to it."""


def _distinct(numbers: Ints) -> list[int]:
    """The different ones of numbers that count from 0."""
    found: list[int] = np.flatnonzero(np.bincount(numbers)).tolist()
    return found


def _is_scalar(points: Points) -> bool:
    return list(points.fields) == [VALUE] and points.fields[VALUE].type != pa.string()


def _picked(points: Points, mask: Any) -> Points:
    if mask is None:
        return points
    keep = pa.array(mask)
    fields = {name: column.filter(keep) for name, column in points.fields.items()}
    return Points(points.lines[mask], points.series[mask], points.times[mask], fields)


def _samples(points: Points) -> tuple[Ints, Ints, Ints, Floats, Any]:
    """Lines, codes, times, values as float64, and whether each is that very number; truth is 1 and 0."""
    column = points.fields[VALUE]
    given = column.to_numpy(zero_copy_only=False)
    values = given.astype(np.float64)
    exact = np.ones(len(values), np.bool_)
    if pa.types.is_integer(column.type) and len(given) and (given.max() > _EXACT or given.min() < -_EXACT):
        exact = np.array([int(float(number)) == number for number in given.tolist()])
    return points.lines, points.series, points.times, values, exact
