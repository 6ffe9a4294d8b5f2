"""What SQL reads in place of samples: summaries up to the boundary of each series, and what came after they were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from kymograph.engine.interface import Engine
from kymograph.model.summary import Ints, Summaries, ceil_to, samples, stacked
from kymograph.model.time import TIME
from kymograph.promql.tiers import BEGINNING
from kymograph.sql.partial.tier import RAW, Range, Replaced, check_summaries
from kymograph.store.rollups.levels import level_rows, matching
from kymograph.store.rollups.lines import table_of
from kymograph.store.rollups.sources import sample_rows


def replaced(
    engine: Engine,
    bounds: Mapping[int, Ints],
    late: Sequence[Range],
    merging: int,
    ids: Ints,
    span: tuple[int | None, int | None],
) -> Replaced | None:
    """What is in place of samples of these series in [start, end); None where nothing is.

    Args:
        bounds: by interval, coarsest first, up to when each series is summarised by it.
        late: ranges of samples that may be in no summary yet, unless
        merging: summaries of this version already have them; 0: none has.
    """
    start, end = span
    highest = np.maximum.reduce([np.full(len(ids), BEGINNING, np.int64), *bounds.values()])
    if not len(ids) or int(highest.max()) == BEGINNING or (start is not None and int(highest.max()) < start):
        return None
    parts: list[Summaries] = []
    tables: list[str] = []
    fresh = _late(engine, late, ids, span)
    below = np.full(len(ids), BEGINNING, np.int64)
    for interval, bound in bounds.items():
        table = table_of(interval)
        until = None if end is None else end + interval
        if table in engine.tables():
            check_summaries(engine.scan(table, matching(ids), start, until, [TIME]).rows, table)
        rows, version = level_rows(engine, table, ids, start, until)
        place = np.searchsorted(ids, rows.series)
        mine = (rows.bucket > below[place]) & (rows.bucket <= bound[place])
        rows, version = rows.taken(mine), version[mine]
        if len(rows):
            parts.append(rows)
            tables.append(table)
        place = np.searchsorted(ids, fresh.series)
        came = fresh.taken((fresh.bucket > below[place]) & (fresh.bucket <= bound[place]))
        if merging and len(came):
            done = rows.taken(version == merging)
            came = came.taken(~np.isin(_keys(came, interval), _keys(done, interval)))
        if len(came):
            parts.append(came)
            tables.append(RAW)
        below = np.maximum(below, bound)
    return Replaced(ids, highest, stacked(parts), tuple(dict.fromkeys(tables)))


def _late(engine: Engine, late: Sequence[Range], ids: Ints, span: tuple[int | None, int | None]) -> Summaries:
    start, end = span
    parts = []
    for low, high in late:
        low, high = low if start is None else max(low, start), high if end is None else min(high, end)
        if low < high:
            parts.append(samples(*sample_rows(engine, low, high, ids)))
    return stacked(parts)


def _keys(rows: Summaries, interval: int) -> Ints:
    """One number per series and bucket; buckets are at least a second wide."""
    found: Ints = rows.series * 2**40 + ceil_to(rows.bucket, interval) // interval
    return found
