"""Runs of summaries that are in place of samples, of buckets (time - width, time].

A bucket of SQL begins where one of these ends, so a sample right there belongs to the next one: it is the last of its
summary, known by value and time, and is taken off. What is cut anywhere else is counted whole where it begins, or left
out where the range cuts it; the answer is approximate then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from kymograph.model.schema import SAMPLES
from kymograph.model.summary import Summaries, stacked
from kymograph.model.time import MAX_TIME, MIN_TIME, TIME, TIME_TYPE
from kymograph.sql.buckets import Floor
from kymograph.sql.partial.measures import Measure
from kymograph.sql.partial.tier import RAW, Replaced, Tier, TierKeeper
from kymograph.sql.partial.tiers import (
    COLUMNS,
    Asked,
    Rest,
    Routed,
    Summarised,
    batch_of,
    outlives,
    plain,
    rest_of,
    route,
)

_Bools = np.ndarray[Any, np.dtype[np.bool_]]
_USED = ("count", "sum", "min", "max", "first_time", "last_time", "m2", "first", "last")
_COLUMNS = {"rows": "count", **COLUMNS}
_TIMES = {"valid": "count", "least": "first_time", "most": "last_time"}


def answered(keeper: TierKeeper, source: Summarised, asked: Asked) -> Routed | None:
    """What summaries in place of samples and beside them have of a selection; None where none is needed."""
    selection = asked.selection
    tiers = keeper.tiers_of(source.table, lambda: source.series(selection.matchers))
    found = None
    if source.table == SAMPLES and keeper.replaced_upto() is not None:
        found = keeper.replaced(source.series(selection.matchers), selection.start, selection.end)
    if found is None:
        routed = _beside(source, tiers, asked) if tiers else None
        return routed if routed is not None and (routed.runs or routed.approximate) else None
    runs, approximate = _runs(source, found, asked)
    top = int(found.boundary.max()) + 1
    rest = []
    for bound in np.unique(found.boundary).tolist():
        low = bound + 1 if selection.start is None or bound >= selection.start else selection.start
        high = top if selection.end is None else min(top, selection.end)
        if low < high:
            # nothing is older than the oldest time there can be
            rest.append(Rest(low if low > MIN_TIME else None, high, found.ids[found.boundary == bound]))
    whole = Routed((runs,), rest, (*found.tables, *((RAW,) if rest else ())), approximate, True)
    if selection.end is not None and selection.end <= top:
        return whole
    after = replace(selection, start=top if selection.start is None else max(top, selection.start))
    others = _beside(source, tiers, replace(asked, selection=after))
    return Routed(
        (*whole.runs, *others.runs),
        [*rest, *others.rest],
        tuple(dict.fromkeys((*whole.tiers, *others.tiers))),
        approximate or others.approximate,
        True,
    )


def _beside(source: Summarised, tiers: Sequence[Tier], asked: Asked) -> Routed:
    routed = route(source, tiers, asked)
    if routed is not None:
        return routed
    # what no tier tells apart is left to the rows, though they may be gone
    missing = any(outlives(tier, asked.selection) for tier in tiers)
    return Routed((), rest_of(asked.selection, ()), (RAW,), missing, missing)


def _runs(source: Summarised, found: Replaced, asked: Asked) -> tuple[pa.RecordBatch, bool]:
    """The summaries as runs, and whether they are only about what the samples were."""
    start = MIN_TIME if asked.selection.start is None else asked.selection.start
    end = MAX_TIME if asked.selection.end is None else asked.selection.end
    rows, doubtful = _divided(found.rows, start, end, asked.floor, asked.measures)
    first, last = rows["first_time"], rows["last_time"]
    inside = (first >= start) & (last < end)
    approximate = bool((~inside & (first < end) & (last >= start)).any())
    rows, doubtful = rows.taken(inside), doubtful[inside]
    arrays: dict[str, Any] = {name: plain(source.labelled(pa.array(rows.series), name)) for name in asked.labels}
    if asked.floor is not None:
        starts = asked.floor(rows["first_time"])
        doubtful = doubtful | (starts != asked.floor(rows["last_time"]))
        arrays[TIME] = pa.array(starts).view(TIME_TYPE)
    for name, measure in asked.measures.items():
        values = rows[(_TIMES if measure.column == TIME else _COLUMNS)[measure.kind]]
        arrays[name] = pa.array(values).view(TIME_TYPE) if measure.type == TIME_TYPE else pa.array(values)
    return batch_of(arrays, asked.schema), approximate or bool(doubtful.any())


def _divided(
    rows: Summaries, start: int, end: int, floor: Floor | None, measures: Mapping[str, Measure]
) -> tuple[Summaries, _Bools]:
    """The summaries, those that are cut right before their last sample or hold two samples in two; and which of them are
    not what their samples would give.
    """
    first, last = rows["first_time"], rows["last_time"]
    crossed = ((first < start) & (last >= start)) | ((first < end) & (last >= end))
    known = (last == start) | (last == end)
    if floor is not None:
        crossed |= floor(first) != floor(last)
        known |= floor(last) == last
    apart = crossed & (first < last) & (known | (rows["count"] == 2))
    kinds = {measure.kind for measure in measures.values() if measure.column != TIME}
    doubtful = np.isnan(rows["sum"]) if kinds & {"least", "most"} else np.zeros(len(rows), np.bool_)
    if not apart.any():
        return rows, doubtful
    cut = rows.taken(apart)
    pair, value = cut["count"] == 2, cut["last"]
    one = np.ones(len(cut), np.int64)
    zero = np.where(np.isfinite(value), 0.0, np.nan)
    lasts = _of(cut, one, value, value, value, cut["last_time"], cut["last_time"], zero, value, value)
    with np.errstate(all="ignore"):
        left = np.where(pair, cut["first"], cut["sum"] - value)
        # Welford's step, taken back
        step = (value - cut["sum"] / cut["count"]) * (value - left / (cut["count"] - 1))
        square = np.where(pair, zero, np.maximum(cut["m2"] - step, 0.0))
    low, high = (np.where(pair, cut["first"], cut[name]) for name in ("min", "max"))
    until = np.where(pair, cut["first_time"], cut["last_time"] - 1)
    before = np.where(pair, cut["first"], value)
    others = _of(cut, cut["count"] - 1, left, low, high, cut["first_time"], until, square, cut["first"], before)
    # another sample may have been the least, or the most, too
    unsure = np.isnan(left) if kinds & {"total", "floats", "apart"} else np.zeros(len(cut), np.bool_)
    # nobody knows the one before the last
    unsure |= "last" in kinds
    for kind, name in (("least", "min"), ("most", "max")):
        if kind in kinds:
            unsure |= cut[name] == value
    doubt = np.concatenate([doubtful[~apart], doubtful[apart] | (unsure & ~pair), np.isnan(value) & doubtful[apart]])
    return stacked([rows.taken(~apart), others, lasts], _USED), doubt


def _of(cut: Summaries, *statistics: Any) -> Summaries:
    return Summaries(cut.series, cut.bucket, dict(zip(_USED, statistics, strict=True)))
