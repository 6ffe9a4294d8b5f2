"""Sums that are stored already: rollups of a stand-in's table give the runs of whole buckets, the table the rest."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.engine.interface import Scan
from kymograph.errors import LimitExceeded
from kymograph.model.matcher import Matcher
from kymograph.model.schema import LABEL_TYPE
from kymograph.model.summary import Ints
from kymograph.model.time import TIME, TIME_TYPE, micros_of
from kymograph.sql.buckets import Floor
from kymograph.sql.partial.measures import Measure
from kymograph.sql.partial.tier import RAW, Range, Tier
from kymograph.sql.prune import Selection

# below this, reading two tables costs more than it saves
_LEAST_BUCKETS = 8
_MOST_STRETCHES = 32
_EXACT = 2.0**53
# what of a summary a measure is
COLUMNS = {
    "valid": "count",
    "total": "sum",
    "floats": "sum",
    "least": "min",
    "most": "max",
    "apart": "sum",
    "square": "m2",
    "first": "first",
    "last": "last",
    "begun": "first_time",
    "ended": "last_time",
}


class Summarised(Protocol):
    """A source whose rows may be in tiers, too; see `TableSource`.

    Attributes:
        table: the engine's table that its rows are in.
    """

    table: str

    def in_tier(self, tier: Tier, labels: Collection[str]) -> bool: ...

    def of_tier(
        self, tier: Tier, matchers: Sequence[Matcher], span: Range, labels: Sequence[str], columns: Sequence[str]
    ) -> tuple[dict[str, Any], pa.Table]: ...

    def series(self, matchers: Sequence[Matcher]) -> Ints: ...

    def labelled(self, ids: pa.Array, label: str) -> Any: ...

    def of_series(self, ids: Ints, start: int | None, end: int | None, columns: Sequence[str]) -> Scan: ...


@dataclass(frozen=True)
class Asked:
    """What runs are wanted of a table.

    Attributes:
        labels: those that are asked for.
        floor: the bucket that a time belongs to; None where that does not matter.
        schema: of the runs.
    """

    selection: Selection
    labels: Sequence[str]
    measures: Mapping[str, Measure]
    floor: Floor | None
    schema: pa.Schema


class Rest(NamedTuple):
    """What is to be read from the table itself: [start, end) µs, None where a side is open; of these series, None: of all."""

    start: int | None
    end: int | None
    ids: Ints | None = None


@dataclass(frozen=True)
class Routed:
    """What stored sums have of an answer.

    Attributes:
        runs: their rows as runs.
        rest: what is to be read from the table itself.
        tiers: names of what is read.
        approximate: whether rows that are asked for may be in neither.
        alone: whether rows may be gone from the table that the runs stand for.
    """

    runs: tuple[pa.RecordBatch, ...]
    rest: list[Rest]
    tiers: tuple[str, ...]
    approximate: bool
    alone: bool


class _Plan(NamedTuple):
    """A tier that may answer; `missing` µs of rows that are asked for are neither in its `spans` nor in the table."""

    missing: int
    tier: Tier
    spans: list[Range]


def route(source: Summarised, tiers: Sequence[Tier], asked: Asked) -> Routed | None:
    """The runs that a tier has of a selection, or None where none has: of those that miss least the coarsest."""
    wanted = {*asked.labels, *(name for name, _ in asked.selection.labels)}
    fitting = [
        tier
        for tier in tiers
        if source.in_tier(tier, wanted)
        and all(m.kind == "rows" or m.column in tier.fields for m in asked.measures.values())
    ]
    oldest = min((tier.oldest for tier in fitting), default=0)
    plans = []
    for tier in fitting:
        spans = _spans(tier, asked.selection)
        if spans:
            plans.append(_Plan(_missing(tier, oldest, rest_of(asked.selection, spans)), tier, spans))
    for plan in sorted(plans, key=lambda plan: plan.missing):
        try:
            routed = _routed(source, plan, asked)
        except LimitExceeded:
            if outlives(plan.tier, asked.selection):
                raise
            continue
        if routed is not None:
            return routed
    return None


def _routed(source: Summarised, plan: _Plan, asked: Asked) -> Routed | None:
    tier, spans = plan.tier, plan.spans
    rows = pa.concat_tables([_read(source, tier, asked, span) for span in spans])
    guessed = False
    doubtful = _doubtful(rows, tier, asked.measures) if tier.scalar else np.zeros(0, np.bool_)
    if doubtful.any():
        times = micros_of(rows[TIME].combine_chunks())
        buckets = np.unique(times[doubtful])
        guessed = bool((buckets < tier.lost).any())
        again = buckets[buckets >= tier.lost]
        spans = _without(spans, [(time, time + tier.width) for time in again.tolist()])
        if not spans or (len(spans) > _MOST_STRETCHES and not outlives(tier, asked.selection)):
            return None
        rows = rows.filter(pa.array(~np.isin(times, again)))
    runs = _runs(rows, tier, asked)
    if runs is None:
        return None
    rest = rest_of(asked.selection, spans)
    names = (tier.table, RAW) if rest else (tier.table,)
    return Routed((runs,), rest, names, plan.missing > 0 or guessed, outlives(tier, asked.selection))


def outlives(tier: Tier, selection: Selection) -> bool:
    """Whether rows that the tier has summarised may be gone from the selection."""
    return tier.oldest < tier.lost and (selection.start is None or selection.start < tier.lost)


def _spans(tier: Tier, selection: Selection) -> list[Range]:
    """Stretches of whole buckets inside the selection that the tier has; none where it would save little."""
    width = tier.width
    low = tier.oldest // width
    if selection.start is not None:
        low = max(low, -(-selection.start // width))
    high = tier.upto // width
    if selection.end is not None:
        high = min(high, selection.end // width)
    needed = outlives(tier, selection)
    if high - low < (1 if needed else _LEAST_BUCKETS):
        return []
    bad = [(start // width * width, -(-end // width) * width) for start, end in tier.touched]
    spans = _without([(low * width, high * width)], bad)
    return spans if needed or len(spans) <= _MOST_STRETCHES else []


def _without(spans: Sequence[Range], bad: Sequence[Range]) -> list[Range]:
    """What of the ranges lies in none of the others."""
    found: list[Range] = []
    for at, end in spans:
        for low, high in sorted(bad):
            if low < end and high > at:
                if low > at:
                    found.append((at, low))
                at = max(at, high)
        if at < end:
            found.append((at, end))
    return found


def rest_of(selection: Selection, spans: Sequence[Range]) -> list[Rest]:
    """What of a selection lies in none of the ranges."""
    rest: list[Rest] = []
    at = selection.start
    for start, end in spans:
        if at is None or at < start:
            rest.append(Rest(at, start))
        at = end
    if selection.end is None or at is None or at < selection.end:
        rest.append(Rest(at, selection.end))
    return rest


def _missing(tier: Tier, oldest: int, rest: Sequence[Rest]) -> int:
    """µs of what is left for the table where its rows may be gone; nothing has been older than `oldest`."""
    spans = [
        (oldest if low is None else max(oldest, low), tier.lost if high is None else min(high, tier.lost))
        for low, high, _ in rest
    ]
    return sum(max(high - low, 0) for low, high in spans)


def _read(source: Summarised, tier: Tier, asked: Asked, span: Range) -> pa.Table:
    """Rows of a tier: its columns, and those of the labels, marked by a character that no column's name has."""
    columns = [TIME, tier.rows]
    for measure in asked.measures.values():
        if measure.kind != "rows":
            before = tier.fields[measure.column]
            columns += [f"{before}{name}" for name in ("count", "sum", "min", "max", "positive", "negative")]
            columns.append(before + COLUMNS[measure.kind])
    labels, rows = source.of_tier(tier, asked.selection.matchers, span, asked.labels, list(dict.fromkeys(columns)))
    for name, column in labels.items():
        rows = rows.append_column(f"\0{name}", plain(column))
    return rows


def _doubtful(rows: pa.Table, tier: Tier, measures: Mapping[str, Measure]) -> Any:
    """Which rows of a tier of samples are not what SQL makes of the samples: bool [N].

    A staleness marker is NaN to SQL, and NaN the greatest number; to a summary neither is anything.
    """
    found = np.zeros(rows.num_rows, np.bool_)
    for measure in measures.values():
        if measure.kind == "rows":
            continue
        before = tier.fields[measure.column]
        found |= pc.fill_null(pc.not_equal(rows[f"{before}count"], rows[tier.rows]), True).to_numpy()
        if measure.kind in ("least", "most"):
            found |= pc.fill_null(pc.is_nan(rows[f"{before}sum"]), True).to_numpy()
    return found


def _runs(rows: pa.Table, tier: Tier, asked: Asked) -> pa.RecordBatch | None:
    """None where a bucket of the tier meets two of the question, or a number is not the one that was asked for."""
    arrays: dict[str, Any] = {name: rows[f"\0{name}"] for name in asked.labels}
    if asked.floor is not None:
        times = micros_of(rows[TIME].combine_chunks())
        starts = asked.floor(times)
        if (starts != asked.floor(times + (tier.width - 1))).any():
            return None
        arrays[TIME] = pa.array(starts).view(TIME_TYPE)
    for name, measure in asked.measures.items():
        column = rows[tier.rows] if measure.kind == "rows" else _measured(rows, tier, measure)
        if column is None:
            return None
        arrays[name] = column
    return batch_of(arrays, asked.schema)


def plain(labels: Any) -> Any:
    """Labels as text where they are by dictionary."""
    return labels.cast(pa.string()) if labels.type == LABEL_TYPE else labels


def batch_of(arrays: Mapping[str, Any], schema: pa.Schema) -> pa.RecordBatch:
    """Columns by name as one batch."""
    table = pa.table({name: arrays[name] for name in schema.names}).cast(schema)
    return table.combine_chunks().to_batches()[0] if table.num_rows else pa.RecordBatch.from_pylist([], schema)


def _measured(rows: pa.Table, tier: Tier, measure: Measure) -> Any:
    """A measure's column, None where the stored numbers are not what SQL would make of the rows."""
    before = tier.fields[measure.column]
    column = rows[before + COLUMNS[measure.kind]]
    if measure.kind in ("first", "last") and pc.any(pc.not_equal(rows[f"{before}count"], rows[tier.rows])).as_py():
        return None  # a null may come first, which is no value of a summary
    if measure.kind in ("valid", "floats", "apart", "square", "begun", "ended"):
        return column
    if measure.kind == "total":
        if pa.types.is_floating(measure.type):
            return column
        sizes = [pc.max(pc.abs(rows[f"{before}{sign}"])).as_py() or 0.0 for sign in ("positive", "negative")]
        return column.cast(measure.type) if max(sizes) < _EXACT else None
    if pa.types.is_integer(measure.type) and (pc.max(pc.abs(column)).as_py() or 0.0) >= _EXACT:
        return None
    if measure.kind in ("first", "last"):
        return column.cast(measure.type)
    # NaN is the greatest value to SQL, and no value to a summary
    if not tier.scalar and pc.any(pc.is_nan(rows[f"{before}sum"])).as_py():
        return None
    return column.cast(measure.type)
