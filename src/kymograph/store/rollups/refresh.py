"""Making a stretch of a rollup's rows anew: what is to be there is written over what was there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.engine.interface import Engine
from kymograph.model.batch import conform
from kymograph.model.matcher import Matcher
from kymograph.model.schema import TableSchema
from kymograph.model.summary import Ints
from kymograph.model.time import TIME, micros_of
from kymograph.store.rollups.definition import ROWS, Rollup
from kymograph.store.rollups.sources import numbered
from kymograph.store.rollups.touched import Range

_STEP_ROWS = 200_000
Bools = np.ndarray[Any, np.dtype[np.bool_]]


def replace(
    engine: Engine,
    rollup: Rollup,
    fresh: pa.Table,
    span: Range,
    deleted: Sequence[Range],
    lost: int,
    gone: Callable[[pa.Table], Ints],
) -> int:
    """Make `fresh` the rollup's rows of a range. Returns rows written.

    Rows of the source older than `lost` (µs) have gone to its retention, and samples up to `gone(rows)` otherwise.

    A row that would be gone, or would count less than it did, is only replaced where rows of the source were deleted:
    elsewhere the source has lost them to its retention, and the summary is all that is left of them.
    """
    schema = engine.tables()[rollup.name]
    counting = () if rollup.query else ("count" if rollup.of_samples else ROWS,)
    there = engine.scan(rollup.name, (), *span, [*schema.labels, TIME, *counting]).table()
    if there.num_rows:
        fresh = _settled(engine, schema, fresh, there, counting, deleted, lost, gone)
    batch = conform(fresh, schema)
    for first in range(0, batch.num_rows, _STEP_ROWS):
        engine.append(rollup.name, batch.slice(first, _STEP_ROWS))
    written: int = batch.num_rows
    return written


def _settled(
    engine: Engine,
    schema: TableSchema,
    fresh: pa.Table,
    there: pa.Table,
    counting: tuple[str, ...],
    deleted: Sequence[Range],
    lost: int,
    gone: Callable[[pa.Table], Ints],
) -> pa.Table:
    """What of `fresh` is to be written, once the rows that are to go are gone."""
    new, old = _keys(fresh, there, schema.labels)
    times, begun = (micros_of(rows[TIME].combine_chunks()) for rows in (there, fresh))
    # an SQL rollup knows no counts: it is what its statement says, as far back as there are rows to ask
    before, after = (
        rows[counting[0]].fill_null(0).to_numpy() if counting else np.ones(rows.num_rows) for rows in (there, fresh)
    )
    same, known = _matched(new, old, before)
    left = _matched(old, new, after)[1]
    # a row that counts less goes before it comes again, so that those who have summarised it learn of the deletion
    lower = (left < before) & (within(times, deleted) | (False if counting else times >= lost))
    _remove(engine, schema, there, times, lower & (times > gone(there)))
    less = (after < known) | (begun < lost)
    kept = same & ((less & ~within(begun, deleted)) | (begun <= gone(fresh)))
    return fresh.filter(pa.array(~kept)) if kept.any() else fresh


def _matched(keys: Ints, known: Ints, counts: Any) -> tuple[Bools, Any]:
    """Which of the keys are among the known ones, and the counts of these; 0 for the others."""
    if not len(known):
        return np.zeros(len(keys), np.bool_), np.zeros(len(keys))
    order = np.argsort(known)
    at = order[np.minimum(np.searchsorted(known[order], keys), len(known) - 1)]
    same = known[at] == keys
    return same, np.where(same, counts[at], 0)


def _remove(engine: Engine, schema: TableSchema, there: pa.Table, times: Ints, vanished: Bools) -> None:
    """Remove rows: those of whole buckets at once, and where others stay, by what tells them apart."""
    if not vanished.any():
        return
    places, of = np.unique(times, return_inverse=True)
    emptied = np.bincount(of, ~vanished, len(places)) == 0
    for first, last in _stretches(emptied):
        engine.delete(schema.name, (), int(places[first]), int(places[last]) + 1)
    some = np.flatnonzero(vanished & ~emptied[of])
    if not len(some):
        return
    numbers, known = numbered(there, schema.labels)
    for number in np.unique(numbers[some]).tolist():
        mine = np.flatnonzero(numbers == number)
        mine = mine[np.argsort(times[mine])]
        values = {label: values[number].as_py() for label, values in known.columns.items()}
        matchers = [Matcher(label, "=", "" if value is None else value) for label, value in values.items()]
        for first, last in _stretches(vanished[mine]):
            engine.delete(schema.name, matchers, int(times[mine[first]]), int(times[mine[last]]) + 1)


def _stretches(chosen: Bools) -> list[tuple[int, int]]:
    """First and last index of every run of neighbours that are chosen."""
    flips = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]])))
    found: list[tuple[int, int]] = [(int(start), int(end) - 1) for start, end in flips.reshape(-1, 2)]
    return found


def _keys(fresh: pa.Table, there: pa.Table, labels: Sequence[str]) -> tuple[Ints, Ints]:
    """One number per row, equal where labels and time are."""
    columns = {}
    for name in (*labels, TIME):
        first, second = (_plain(rows[name]) for rows in (fresh, there))
        columns[name] = pa.chunked_array([*first.chunks, *second.cast(first.type).chunks], first.type)
    numbers, _ = numbered(pa.table(columns), [*labels, TIME])
    return numbers[: fresh.num_rows], numbers[fresh.num_rows :]


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts and numbers as they are, times as integers."""
    if pa.types.is_dictionary(column.type):
        return column.cast(pa.string())
    return pc.cast(column, pa.int64()) if pa.types.is_timestamp(column.type) else column


def within(times: Ints, ranges: Sequence[Range]) -> Bools:
    """Which times lie in one of the ranges."""
    inside = np.zeros(len(times), np.bool_)
    for start, end in ranges:
        inside |= (times >= start) & (times < end)
    return inside
