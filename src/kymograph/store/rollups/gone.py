"""Samples that a rollup can no longer be made of: summarised in place, pushed out of their ring, or too old for the
retention of their series. Its rows stay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from kymograph.engine.interface import Engine
from kymograph.model.matcher import Matcher
from kymograph.model.schema import SAMPLES, SERIES_ID
from kymograph.model.summary import Ints
from kymograph.model.time import TIME
from kymograph.promql.tiers import BEGINNING
from kymograph.store.retention.series import SeriesRetention
from kymograph.store.rollups.definition import Rollup
from kymograph.store.rollups.sources import group_numbers, numbered

# By ids of scalar series, ascending: the time up to which, itself included, each has no samples of its own any more, µs.
Bounds = Callable[[Ints], Ints]


def ring_bounds(engine: Engine, ids: Ints) -> Ints:
    """Up to when samples of rings may have been pushed out; BEGINNING for series that are no rings."""
    rings = engine.rings.all()
    found = np.full(len(ids), BEGINNING, np.int64)
    mine = np.flatnonzero(np.isin(ids, np.fromiter(rings, np.int64))) if rings else np.zeros(0, np.int64)
    if not len(mine) or SAMPLES not in engine.tables():
        return found
    newest = engine.latest(SAMPLES, [Matcher(SERIES_ID, "in", frozenset(ids[mine].tolist()))])
    for number, time in zip(newest[SERIES_ID].to_pylist(), newest[TIME].cast(pa.int64()).to_pylist(), strict=True):
        ring = rings[number]
        found[np.searchsorted(ids, number)] = (time // ring.step - ring.slots + 1) * ring.step - 1
    return found


class Gone:
    """What is neither there as samples nor in place of them: only rollups know more."""

    def __init__(self, engine: Engine, aged: SeriesRetention) -> None:
        self._engine, self._aged = engine, aged

    def __call__(self, ids: Ints) -> Ints:
        """See `Bounds`."""
        return np.maximum(ring_bounds(self._engine, ids), self._aged.bounds(ids))

    def any(self) -> bool:
        """Whether that can be so of any series."""
        return bool(self._engine.rings.all() or self._aged.lines())


def gone_of(engine: Engine, rollup: Rollup, bounds: Bounds) -> Callable[[pa.Table], Ints]:
    """For rows of a rollup's table: the time up to which samples of theirs may be gone, µs; BEGINNING where none is."""
    ids = np.fromiter(engine.series(), np.int64) if SAMPLES in rollup.tables else np.zeros(0, np.int64)
    each = bounds(ids) if len(ids) else ids
    ids, each = ids[each > BEGINNING], each[each > BEGINNING]
    if not len(ids):
        return lambda rows: np.full(rows.num_rows, BEGINNING, np.int64)
    if rollup.query:
        return lambda rows: np.full(rows.num_rows, int(each.max()), np.int64)
    known = pa.table({SERIES_ID: pa.array(ids)})
    if not rollup.by_series:
        groups, labels = group_numbers(engine.series(), ids, rollup.labels)
        known = pa.table(labels.of(groups))

    def of(rows: pa.Table) -> Ints:
        columns = {}
        for label in rollup.labels:
            column = rows[label]
            plain = column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
            columns[label] = pa.chunked_array([*known[label].chunks, *plain.chunks], known[label].type)
        numbers, _ = numbered(pa.table(columns), rollup.labels)
        highest = np.full(int(numbers.max()) + 1, BEGINNING, np.int64)
        np.maximum.at(highest, numbers[: len(ids)], each)
        return highest[numbers[len(ids) :]]

    return of
