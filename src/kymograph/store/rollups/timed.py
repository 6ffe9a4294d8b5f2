"""Summaries in place of samples, and when their samples were: made of samples, put together, widened by late ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from kymograph.model.spacing import Spacing
from kymograph.model.summary import Floats, Ints, Summaries, blended, ceil_to, joined, stacked, summarised, together


@dataclass(frozen=True)
class Timed:
    """N summaries.

    Attributes:
        times: a text for each, as `Spacing.text` writes it; null where it is not known.
    """

    rows: Summaries
    times: pa.Array

    @classmethod
    def of(cls, series: Ints, times: Ints, values: Floats, width: int) -> Timed:
        """Of samples sorted by series and time, in buckets (end - width, end]."""
        rows = summarised(series, ceil_to(times, width), times, values)
        spacing = Spacing.of(np.repeat(np.arange(len(rows)), rows["count"]), times)
        return cls(rows, spacing.text())

    def taken(self, places: Ints) -> Timed:
        return Timed(self.rows.taken(places), self.times.take(pa.array(places)))

    def spacing(self) -> Spacing:
        return Spacing.read(self.times, self.rows["first_time"], self.rows["last_time"])


def coarser(parts: Sequence[Timed], width: int) -> Timed:
    """One summary per series and bucket from pieces that follow each other in time."""
    rows = stacked([part.rows for part in parts])
    rows = rows.of_bucket(ceil_to(rows.bucket, width))
    order = np.lexsort((rows["first_time"], rows.bucket, rows.series))
    pieces = Timed(rows, pa.concat_arrays([part.times for part in parts])).taken(order)
    made = joined(pieces.rows)
    if len(made) == len(pieces.rows):
        return pieces
    return Timed(made, pieces.spacing().joined(pieces.rows).text())


def widened(there: Timed, series: Ints, times: Ints, values: Floats, width: int) -> Timed:
    """The summaries of the buckets that samples lie in which are in none of `there`, with these."""
    fresh = Timed.of(series, times, values, width)
    there = there.taken(np.flatnonzero(np.isin(_keys(there.rows, width), _keys(fresh.rows, width))))
    made = blended(together([there.rows, fresh.rows]))
    old, new = (np.searchsorted(_keys(made, width), _keys(rows, width)) for rows in (there.rows, fresh.rows))
    before, more = there.spacing(), np.repeat(new, fresh.rows["count"])
    first = np.zeros(len(made), np.int64)
    head = np.append(True, more[1:] != more[:-1]) & ~np.isin(more, old)
    first[old], first[more[head]] = before.first, times[head]
    known = Spacing(first, old[before.row], before.width, before.steps)
    return Timed(made, known.with_samples(more[~head], times[~head]).text())


def _keys(rows: Summaries, width: int) -> Ints:
    """One number per series and bucket, in their order; buckets are at least a second wide."""
    found: Ints = rows.series * 2**40 + rows.bucket // width
    return found
