"""Sums that are stored already: rollups of a stand-in's table give the runs of whole buckets, the table the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from kymograph.engine.interface import Engine
from kymograph.model.schema import LABEL_TYPE
from kymograph.model.time import TIME, TIME_TYPE, micros_of
from kymograph.sql.buckets import Floor
from kymograph.sql.partial.measures import Measure
from kymograph.sql.partial.tier import RAW, Range, Tier
from kymograph.sql.prune import Selection

# below this, reading two tables costs more than it saves
_LEAST_BUCKETS = 8
_MOST_STRETCHES = 32
_EXACT = 2.0**53
_COLUMNS = {"valid": "count", "total": "sum", "floats": "sum", "least": "min", "most": "max"}


@dataclass(frozen=True)
class Routed:
    """What a tier gives of an answer.

    Attributes:
        runs: its rows as runs.
        rest: what is to be read from the table itself, [start, end) µs, None where a side is open.
        tiers: names of what is read.
        approximate: whether rows that are asked for may be in neither.
    """

    runs: pa.RecordBatch
    rest: list[tuple[int | None, int | None]]
    tiers: tuple[str, ...]
    approximate: bool


def route(
    engine: Engine,
    tiers: Sequence[Tier],
    selection: Selection,
    labels: Sequence[str],
    measures: Mapping[str, Measure],
    floor: Floor | None,
    schema: pa.Schema,
) -> Routed | None:
    """The runs that the coarsest fitting tier has of a selection, or None where none has.

    Args:
        labels: those that are asked for.
        floor: the bucket that a time belongs to; None where that does not matter.
        schema: of the runs.
    """
    for tier in tiers:
        if not tier.labels.issuperset([*labels, *(name for name, _ in selection.labels)]):
            continue
        if any(m.kind != "rows" and m.column not in tier.fields for m in measures.values()):
            continue
        spans = _spans(tier, selection)
        if not spans:
            continue
        rows = _read(engine, tier, selection, labels, measures, spans)
        runs = _runs(rows, tier, labels, measures, floor, schema)
        if runs is not None:
            rest, approximate = _rest(tier, selection, spans)
            return Routed(runs, rest, (tier.table, RAW) if rest else (tier.table,), approximate)
    return None


def _spans(tier: Tier, selection: Selection) -> list[Range]:
    """Stretches of whole buckets inside the selection that the tier has; none where it would save little."""
    width = tier.width
    low = tier.oldest // width
    if selection.start is not None:
        low = max(low, -(-selection.start // width))
    high = tier.upto // width
    if selection.end is not None:
        high = min(high, selection.end // width)
    if high - low < _LEAST_BUCKETS:
        return []
    spans, at = [], low
    for start, end in sorted(tier.touched):
        first, last = start // width, -(-end // width)
        if first > at:
            spans.append((at * width, min(first, high) * width))
        at = max(at, last)
    if at < high:
        spans.append((at * width, high * width))
    spans = [(start, end) for start, end in spans if start < end]
    return spans if len(spans) <= _MOST_STRETCHES else []


def _rest(tier: Tier, selection: Selection, spans: Sequence[Range]) -> tuple[list[tuple[int | None, int | None]], bool]:
    rest: list[tuple[int | None, int | None]] = []
    at = selection.start
    for start, end in spans:
        if at is None or at < start:
            rest.append((at, start))
        at = end
    if selection.end is None or (at is not None and at < selection.end):
        rest.append((at, selection.end))
    # rows that are gone are in no table but the tier's
    missing = [
        (max(tier.oldest, low if low is not None else tier.oldest), tier.lost if high is None else min(high, tier.lost))
        for low, high in rest
    ]
    return rest, any(low < high for low, high in missing)


def _read(
    engine: Engine,
    tier: Tier,
    selection: Selection,
    labels: Sequence[str],
    measures: Mapping[str, Measure],
    spans: Sequence[Range],
) -> pa.Table:
    columns = [*labels, TIME, tier.rows]
    for measure in measures.values():
        if measure.kind != "rows":
            before = tier.fields[measure.column]
            columns += [f"{before}{name}" for name in ("count", "sum", "min", "max", "positive", "negative")]
    names = list(dict.fromkeys(columns))
    return pa.concat_tables(
        [engine.scan(tier.table, selection.matchers, start, end, names).table() for start, end in spans]
    )


def _runs(
    rows: pa.Table,
    tier: Tier,
    labels: Sequence[str],
    measures: Mapping[str, Measure],
    floor: Floor | None,
    schema: pa.Schema,
) -> pa.RecordBatch | None:
    """None where a bucket of the tier meets two of the question, or a number is not the one that was asked for."""
    arrays: dict[str, pa.Array] = {}
    for label in labels:
        column = rows[label]
        arrays[label] = column.cast(pa.string()) if column.type == LABEL_TYPE else column
    if floor is not None:
        times = micros_of(rows[TIME].combine_chunks())
        starts = floor(times)
        if (starts != floor(times + (tier.width - 1))).any():
            return None
        arrays[TIME] = pa.array(starts).view(TIME_TYPE)
    for name, measure in measures.items():
        column = rows[tier.rows] if measure.kind == "rows" else _measured(rows, tier.fields[measure.column], measure)
        if column is None:
            return None
        arrays[name] = column
    table = pa.table({name: arrays[name] for name in schema.names}).cast(schema)
    return table.combine_chunks().to_batches()[0] if table.num_rows else pa.RecordBatch.from_pylist([], schema)


def _measured(rows: pa.Table, before: str, measure: Measure) -> Any:
    """A measure's column, None where the stored numbers are not what SQL would make of the rows."""
    column = rows[before + _COLUMNS[measure.kind]]
    if measure.kind in ("valid", "floats"):
        return column
    if measure.kind == "total":
        if pa.types.is_floating(measure.type):
            return column
        sizes = [pc.max(pc.abs(rows[f"{before}{sign}"])).as_py() or 0.0 for sign in ("positive", "negative")]
        return column.cast(measure.type) if max(sizes) < _EXACT else None
    # NaN is the greatest value to SQL, and no value to a summary
    if pc.any(pc.is_nan(rows[f"{before}sum"])).as_py():
        return None
    if pa.types.is_integer(measure.type) and (pc.max(pc.abs(column)).as_py() or 0.0) >= _EXACT:
        return None
    return column.cast(measure.type)
