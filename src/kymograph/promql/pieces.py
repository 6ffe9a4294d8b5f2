"""Pieces: samples, and summaries that stand for many of them.

A piece reaches from its first sample to its last one. Pieces of one series do not overlap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kymograph.model.summary import Summaries, samples
from kymograph.promql.frame import Frame, Grid
from kymograph.promql.index import Ints
from kymograph.promql.labels import Bools, Labels
from kymograph.promql.source import Floats, SeriesSet
from kymograph.promql.windows import positions


@dataclass(frozen=True)
class Pieces:
    """Pieces of S series, one after the other, each ascending in time.

    Attributes:
        labels: S label sets.
        rows: the pieces; `series` is the place in `labels`.
        offsets: int64, S + 1; series i is [offsets[i], offsets[i + 1]).
        tiers: what they were read from, in words: "raw", or names of tables.
    """

    labels: list[Labels]
    rows: Summaries
    offsets: Ints
    tiers: tuple[str, ...]

    @classmethod
    def of(cls, labels: list[Labels], rows: Summaries, tiers: tuple[str, ...]) -> Pieces:
        """From rows sorted by series and time."""
        counts = np.bincount(rows.series, minlength=len(labels))
        return cls(labels, rows, np.concatenate([[0], np.cumsum(counts)]), tiers)

    @property
    def whole(self) -> Bools:
        """Per piece: whether it is one sample, which no window can cut."""
        single: Bools = self.rows["count"] == 1
        return single

    def live(self) -> Pieces:
        """Less the staleness markers."""
        first = np.ascontiguousarray(self.rows["first"])
        stale = SeriesSet(self.labels, self.rows["first_time"], first, self.offsets).stale & self.whole
        return Pieces.of(self.labels, self.rows.taken(~stale), self.tiers) if stale.any() else self

    def samples(self, *, means: bool) -> SeriesSet:
        """Points for functions that need samples: first and last of each piece, its mean between them if asked for."""
        rows = self.rows
        many = np.flatnonzero(~self.whole)
        mean = rows["sum"][many] / rows["count"][many]
        middle = rows["first_time"][many] + (rows["last_time"][many] - rows["first_time"][many]) // 2
        more = rows["count"][many] > 2 if means else np.zeros(len(many), np.bool_)
        series = np.concatenate([rows.series, rows.series[many], rows.series[many][more]])
        times = np.concatenate([rows["first_time"], rows["last_time"][many], middle[more]])
        values = np.concatenate([rows["first"], rows["last"][many], mean[more]])
        order = np.lexsort((times, series))
        counts = np.bincount(series, minlength=len(self.labels))
        return SeriesSet(self.labels, times[order], values[order], np.concatenate([[0], np.cumsum(counts)]))


def newest_of(pieces: Pieces, grid: Grid, lookback: int) -> tuple[Frame, Floats, Bools]:
    """The newest value of each series within the look-back, its time in seconds, and where it is interpolated, [S, T].

    A step inside a summary has the value on the straight line between its first and its last sample.
    """
    rows = pieces.rows
    size, count = len(pieces.labels), grid.count
    if not len(rows):
        nowhere = np.zeros((size, count), np.bool_)
        return Frame(pieces.labels, np.zeros((size, count)), nowhere), np.zeros((size, count)), nowhere
    begun = SeriesSet(pieces.labels, rows["first_time"], rows["first"], pieces.offsets)
    newest = positions(begun, grid) - 1
    present = newest >= pieces.offsets[:-1, None]
    newest = np.maximum(newest, 0)
    first, last = rows["first_time"][newest], rows["last_time"][newest]
    ended = last <= grid.times
    value = rows["last"][newest]
    share = (grid.times - first) / np.maximum(last - first, 1)
    begin = rows["first"][newest]
    # right at the first sample, whatever infinity the last one is
    values = np.where(ended, value, np.where(share == 0, begin, begin + (value - begin) * share))
    times = np.where(ended, last, grid.times)
    stale = SeriesSet(pieces.labels, rows["first_time"], np.ascontiguousarray(rows["last"]), pieces.offsets).stale
    present &= (times > grid.times - lookback) & ~stale[newest]
    return Frame(pieces.labels, values, present), times / 1e6, present & ~ended


def of_samples(series: SeriesSet) -> Summaries:
    """Each sample as a piece."""
    places = np.repeat(np.arange(len(series.labels)), np.diff(series.offsets))
    return samples(places, series.times, series.values)


def points_of(pieces: Pieces, function: str) -> SeriesSet:
    """Samples in place of pieces, for a function that summaries cannot answer."""
    return pieces.samples(means=function not in _FROM_SAMPLE_TO_SAMPLE)


# these look from one sample to the next, where a mean in between would be a step that never was
_FROM_SAMPLE_TO_SAMPLE = frozenset(
    [
        "irate",
        "idelta",
        "ideriv",
        "changes",
        "resets",
        "increases_over_time",
        "decreases_over_time",
        "ascent_over_time",
        "descent_over_time",
        "rollup_rate",
        "rollup_increase",
        "rollup_delta",
        "rollup_deriv",
    ]
)
