"""Numbers that follow from all runs of a group at once: spread, first and last value.

The runs say their own sum, squared deviations and ends; here these become what plain sums and maxima over the group put
together. Spread is taken from the mean of the group, as in a second pass over its values, so nothing cancels.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.model.summary import Ints
from kymograph.model.time import TIME, micros_of
from kymograph.sql.partial.measures import GROUPED, Measure, StandIn

# beside the value that a group begins or ends with: when
_WHEN = "_when"


def within_runs(stand_in: StandIn, asked: Mapping[str, Measure]) -> dict[str, Measure]:
    """The measures of a run that those asked for follow from, by the name of their column."""
    found = dict(asked)
    for name, measure in asked.items():
        if measure.kind in ("first", "last"):
            kind: Any = "begun" if measure.kind == "first" else "ended"
            found[name + _WHEN] = Measure(kind, measure.column, pa.int64())
        elif measure.kind in ("apart", "square"):
            # all three, though the planner may have found that one is enough
            for needed in stand_in.spread(measure.column):
                found.setdefault(needed, stand_in.measures[needed])
    return found


def is_grouped(measures: Mapping[str, Measure]) -> bool:
    return any(measure.kind in GROUPED for measure in measures.values())


def grouped(
    runs: Sequence[pa.RecordBatch], keys: Collection[str], stand_in: StandIn, asked: pa.Schema
) -> list[pa.RecordBatch]:
    """All runs with what their groups, told apart by `keys`, are given; the columns of `asked` are kept."""
    if not runs:
        return []
    rows = pa.Table.from_batches(runs)
    group = _numbers(rows, keys)
    for name in asked.names:
        measure = stand_in.measures.get(name)
        if measure is not None and measure.kind == "square":
            rows = _spread(rows, group, stand_in.spread(measure.column))
        elif measure is not None and measure.kind in ("first", "last"):
            place = rows.schema.get_field_index(name)
            edge = pa.array(_ends(rows[name + _WHEN], group, last=measure.kind == "last"))
            alone = pc.if_else(edge, rows[name].combine_chunks(), pa.scalar(None, rows[name].type))
            rows = rows.set_column(place, rows.field(place), alone)
    batches: list[pa.RecordBatch] = rows.select(asked.names).cast(asked).combine_chunks().to_batches()
    return batches


def _numbers(rows: pa.Table, keys: Collection[str]) -> Ints:
    """Of each run the number of its group."""
    group = np.zeros(rows.num_rows, np.int64)
    for key in keys:
        if key == TIME:
            codes = np.unique(micros_of(rows[TIME].combine_chunks()), return_inverse=True)[1]
        else:
            encoded = rows[key].combine_chunks().dictionary_encode()
            codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64) + 1
        group = np.unique(group * (int(codes.max(initial=0)) + 1) + codes, return_inverse=True)[1]
    return group


def _spread(rows: pa.Table, group: Ints, names: tuple[str, str, str]) -> pa.Table:
    """Squared deviations from the mean of the group, and how far the runs' own means lie from it."""
    counts, sums, squares = (rows[name].fill_null(0).to_numpy() for name in names)
    with np.errstate(all="ignore"):
        mean = np.bincount(group, sums) / np.bincount(group, counts)
        apart = np.where(counts > 0, sums / counts - mean[group], 0.0)
        columns = counts * apart, squares + counts * apart * apart
    # processors make a NaN with a sign, which is the least number of all to SQL
    for name, column in zip(names[1:], columns, strict=True):
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.field(place), pa.array(np.where(np.isnan(column), np.nan, column)))
    return rows


def _ends(times: pa.ChunkedArray, group: Ints, *, last: bool) -> Any:
    """Which run of each group has its first sample, or its last: bool [N]."""
    when = times.to_numpy()
    order = np.lexsort((when, group))
    edge = np.ones(len(order), np.bool_)
    if last:
        edge[:-1] = group[order][1:] != group[order][:-1]
    else:
        edge[1:] = group[order][1:] != group[order][:-1]
    found = np.zeros(len(order), np.bool_)
    found[order[edge]] = True
    return found
