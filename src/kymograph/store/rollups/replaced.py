"""What SQL reads in place of samples: summaries up to the boundary of each series, and what came after they were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from kymograph.engine.interface import Engine
from kymograph.model.spacing import unseen
from kymograph.model.summary import Ints, Summaries, samples, stacked
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
    ids: Ints,
    span: tuple[int | None, int | None],
) -> Replaced | None:
    """What is in place of samples of these series in [start, end); None where nothing is.

    Args:
        bounds: by interval, coarsest first, up to when each series is summarised by it.
        late: ranges of samples that were sent again, or are in no summary yet.
    """
    start, end = span
    highest = np.maximum.reduce([np.full(len(ids), BEGINNING, np.int64), *bounds.values()])
    if not len(ids) or int(highest.max()) == BEGINNING or (start is not None and int(highest.max()) < start):
        return None
    parts: list[Summaries] = []
    tables: list[str] = []
    # before the summaries, which have them already when both are read while they are merged
    fresh = _late(engine, late, ids, span)
    below = np.full(len(ids), BEGINNING, np.int64)
    for interval, bound in bounds.items():
        table = table_of(interval)
        until = None if end is None else end + interval
        if table in engine.tables():
            check_summaries(engine.scan(table, matching(ids), start, until, [TIME]).rows, table)
        place = np.searchsorted(ids, fresh.series)
        came = fresh.taken((fresh.bucket > below[place]) & (fresh.bucket <= bound[place]))
        timed = level_rows(engine, table, ids, start, until, timed=bool(len(came)))
        rows = timed.rows
        came = came.taken(unseen(rows, timed.times, interval, came.series, came.bucket))
        place = np.searchsorted(ids, rows.series)
        rows = rows.taken((rows.bucket > below[place]) & (rows.bucket <= bound[place]))
        if len(rows):
            parts.append(rows)
            tables.append(table)
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
