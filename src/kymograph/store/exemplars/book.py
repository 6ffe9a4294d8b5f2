"""The exemplars of one store: a table beside `samples` that holds so many of them, the newest.

Which are taken is Prometheus' rule (its `CircularExemplarStorage`): those of series that are there, newer than the
newest of their series, with labels of at most 128 characters. All others are passed over: an exemplar is a hint, and a
broken one must not cost the samples it came with.
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from kymograph.engine.interface import Engine
from kymograph.model.exemplar import MAX_CHARACTERS, Exemplar
from kymograph.model.matcher import Matcher
from kymograph.model.schema import SERIES_ID, TableSchema
from kymograph.model.time import MAX_TIME, MIN_TIME, TIME, TIME_TYPE, micros_of
from kymograph.store.naming import Labels
from kymograph.store.registration import SeriesIds

EXEMPLARS = "exemplars"
EXEMPLARS_SCHEMA = TableSchema(
    EXEMPLARS, (SERIES_ID,), (("value", pa.float64()), ("labels", pa.string())), by_series=True
)
# this part more than the bound may be there before the oldest go, so that they go many at a time
_SPARE = 8

_JSON = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))

# time in µs, bits of the value, labels as text
_Known = tuple[int, bytes, str]


class Exemplars:
    """Takes exemplars into one engine. Safe for many threads."""

    def __init__(self, engine: Engine, ids: SeriesIds, most: int) -> None:
        """`most`: how many are kept; 0 keeps none."""
        self._engine, self._ids, self._most = engine, ids, most
        self._lock = threading.Lock()
        # the newest of each series and no fewer than there are in all; None until asked for
        self._known: dict[int, _Known] | None = None
        self._count = 0

    def add(self, given: Sequence[Exemplar], now: int) -> list[bool]:
        """Store those that can be, in one durable step; tells which. `now`, µs, is the time of those without one."""
        taken = [False] * len(given)
        if not given or not self._most:
            return taken
        numbers = self._ids.known([(one.name, _sorted(one.series)) for one in given])
        if not any(number is not None for number in numbers):
            return taken
        with self._lock:
            if not self._made():
                return taken
            newest, fresh = self._newest(), dict[int, _Known]()
            rows: list[tuple[int, int, float, str]] = []
            for place, (number, one) in enumerate(zip(numbers, given, strict=True)):
                text = said(one.labels)
                time = now if one.time is None else one.time
                if number is None or text is None or not MIN_TIME <= time <= MAX_TIME:
                    continue
                said_now = (time, _bits(one.value), text)
                before = fresh.get(number) or newest.get(number)
                if not _is_new(said_now, before, stamped=one.stamped and one.time is not None):
                    continue
                fresh[number] = said_now
                rows.append((time, number, one.value, text))
                taken[place] = True
            if rows:
                self._append(rows)
                # what the engine refused may come again
                newest.update(fresh)
                if self._count > self._most + self._most // _SPARE:
                    self._cut()
        return taken

    def _made(self) -> bool:
        """Make the table where it is missing; False where another has its name, and nothing can be kept."""
        if EXEMPLARS not in self._engine.tables():
            self._engine.create_table(EXEMPLARS_SCHEMA)
            self._known = None
        return has_exemplars(self._engine)

    def _newest(self) -> dict[int, _Known]:
        """The newest exemplar of each series that has one; kept, since an engine that is written to tells it slowly."""
        if self._known is None:
            found = self._engine.latest(EXEMPLARS)
            columns = (found[SERIES_ID], found[TIME].cast(pa.int64()), found["value"], found["labels"])
            rows = zip(*(column.to_pylist() for column in columns), strict=True)
            self._known = {number: (time, _bits(value), text) for number, time, value, text in rows}
            self._count = self._engine.statistics(EXEMPLARS).rows
        return self._known

    def _append(self, rows: Sequence[tuple[int, int, float, str]]) -> None:
        times, numbers, values, texts = zip(*rows, strict=True)
        columns = [
            pa.array(times, TIME_TYPE),
            pa.array(numbers, pa.int64()),
            pa.array(values, pa.float64(), from_pandas=False),
            pa.array(texts, pa.string()),
        ]
        self._engine.append(EXEMPLARS, pa.RecordBatch.from_arrays(columns, schema=EXEMPLARS_SCHEMA.arrow))
        self._count += len(rows)

    def _cut(self) -> None:
        """Remove the oldest beyond the bound."""
        # counted anew, and without the series that have none any more
        self._known = None
        found = self._engine.scan(EXEMPLARS, columns=[TIME, SERIES_ID]).table()
        excess = found.num_rows - self._most
        if excess <= 0:
            return
        times = micros_of(found[TIME].combine_chunks())
        edge = int(np.partition(times, excess - 1)[excess - 1])
        at_edge = found[SERIES_ID].to_numpy()[times == edge]
        left = excess - int((times < edge).sum())
        if left == len(at_edge):
            self._engine.delete(EXEMPLARS, (), None, edge + 1)
        else:
            self._engine.delete(EXEMPLARS, (), None, edge)
            some = Matcher(SERIES_ID, "in", frozenset(at_edge[:left].tolist()))
            self._engine.delete(EXEMPLARS, [some], edge, edge + 1)


def has_exemplars(engine: Engine) -> bool:
    """Whether there is a table of them, and not one of that name that somebody made for something else."""
    schema = engine.tables().get(EXEMPLARS)
    return schema is not None and schema.by_series and schema.columns == EXEMPLARS_SCHEMA.columns


def delete_beside(engine: Engine, matchers: Sequence[Matcher], start: int | None, end: int | None) -> None:
    """Remove the exemplars of samples that are deleted: those of the same series and the same time."""
    if has_exemplars(engine):
        engine.delete(EXEMPLARS, matchers, start, end)


def _is_new(fresh: _Known, newest: _Known | None, *, stamped: bool) -> bool:
    if newest is None:
        return True
    return fresh[0] > newest[0] and (stamped or fresh[1:] != newest[1:])


def _sorted(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(pair for pair in labels.items() if pair[1]))


def _bits(value: float) -> bytes:
    """What tells every NaN and both zeros apart."""
    return struct.pack("<d", value)


def said(labels: Mapping[str, str]) -> str | None:
    """Labels as the text that is stored, JSON sorted by name without empty ones; None where they are none or too long."""
    if not isinstance(labels, Mapping):
        return None
    size = 0
    for name, value in labels.items():
        if not isinstance(name, str) or not isinstance(value, str) or not name:
            return None
        size += len(name) + len(value)
    if size > MAX_CHARACTERS:
        return None
    full = {name: value for name, value in labels.items() if value}
    text = _JSON.encode(full)
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text
