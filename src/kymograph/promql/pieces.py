"""Windows over pieces: samples, and summaries that stand for many of them.

A piece reaches from its first sample to its last one. Pieces of one series do not overlap. Where a window cuts none, its
answer is that of the samples themselves: exact for counts, extremes, first and last, to the rounding of sums elsewhere.
A piece that a window cuts gives the share of it that lies inside, as if its samples were spread evenly; `cut` says where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kymograph.model.summary import Summaries, area, lost_inside, means, samples
from kymograph.promql.frame import Frame, Grid
from kymograph.promql.index import Ints
from kymograph.promql.labels import Bools, Labels
from kymograph.promql.rates import Answer, reach
from kymograph.promql.source import Floats, SeriesSet
from kymograph.promql.windows import Windows, positions


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
    values = np.where(ended, value, begin + (value - begin) * share)
    times = np.where(ended, last, grid.times)
    stale = SeriesSet(pieces.labels, rows["first_time"], np.ascontiguousarray(rows["last"]), pieces.offsets).stale
    present &= (times > grid.times - lookback) & ~stale[newest]
    return Frame(pieces.labels, values, present), times / 1e6, present & ~ended


def of_samples(series: SeriesSet) -> Summaries:
    """Each sample as a piece."""
    places = np.repeat(np.arange(len(series.labels)), np.diff(series.offsets))
    return samples(places, series.times, series.values)


@dataclass(frozen=True)
class PieceWindows(Windows):
    """A range vector over pieces. `series` has the times of their first samples, and their sums as values."""

    pieces: Pieces | None = None

    @classmethod
    def over(cls, pieces: Pieces, grid: Grid, width: int, steps: Ints) -> PieceWindows:
        rows = pieces.rows
        series = SeriesSet(pieces.labels, rows["first_time"], rows["sum"], pieces.offsets)
        return cls(series, grid, width, steps, 0, pieces)

    @property
    def rows(self) -> Summaries:
        assert self.pieces is not None
        return self.pieces.rows

    @cached_property
    def starts(self) -> Ints:
        """Starts of the windows, which they do not contain, µs [T]."""
        return self.ends - self.width

    @cached_property
    def lo(self) -> Ints:
        """First piece that begins inside."""
        return positions(self.series, Grid(self.grid.start - self.width, self.grid.step, self.grid.count))

    @cached_property
    def hi(self) -> Ints:
        """One past the last piece that begins and ends inside; `lo` where there is none."""
        ended = SeriesSet(self.labels, self.rows["last_time"], self.series.values, self.series.offsets)
        return np.maximum(positions(ended, self.grid), self.lo)

    @cached_property
    def left(self) -> Ints:
        """The piece that the window's start cuts, -1 where there is none."""
        before = self.lo - 1
        there = (before >= self.series.offsets[:-1, None]) & (self.at(self.rows["last_time"], before) > self.starts)
        return np.where(there, before, -1)

    @cached_property
    def right(self) -> Ints:
        """The piece that only the window's end cuts, -1 where there is none."""
        there = (self.hi < self.series.offsets[1:, None]) & (self.at(self.rows["first_time"], self.hi) <= self.ends)
        return np.where(there, self.hi, -1)

    @cached_property
    def shares(self) -> tuple[Floats, Floats]:
        """How much of the cut pieces lies inside, by time; 0 where there is none."""
        rows = self.rows
        first, last = rows["first_time"], rows["last_time"]
        span = np.maximum(last - first, 1)
        inside = np.minimum(self.at(last, self.left), self.ends) - np.maximum(self.at(first, self.left), self.starts)
        left = np.where(self.left >= 0, inside / self.at(span, self.left), 0.0)
        inside = self.ends - self.at(first, self.right)
        right = np.where(self.right >= 0, inside / self.at(span, self.right), 0.0)
        return left, right

    @property
    def cut(self) -> Bools:
        """Where the answer is interpolated."""
        found: Bools = (self.left >= 0) | (self.right >= 0)
        return found

    @cached_property
    def present(self) -> Bools:
        found: Bools = (self.hi > self.lo) | self.cut
        return found

    @cached_property
    def weight(self) -> Floats:
        """Samples of each window; of cut pieces their share."""
        return self.total(self.rows["count"].astype(np.float64))

    def total(self, values: Floats) -> Floats:
        """Sum of something per piece over the windows, cut pieces by their share."""
        left, right = self.shares
        found = self.sums(values)[0]
        for places, share in ((self.left, left), (self.right, right)):
            if (places >= 0).any():
                found = found + np.where(places >= 0, share * self.at(values, places), 0.0)
        return found

    def between(self, values: Floats) -> Floats:
        """Sum of something from piece to piece (of each to the one before it) over the windows."""
        low = np.minimum(np.where(self.left >= 0, self.left, self.lo) + 1, len(self.rows))
        high = np.where(self.right >= 0, self.right + 1, self.hi)
        inner = _Fixed(self.series, self.grid, self.width, self.steps)
        inner.__dict__["lo"], inner.__dict__["hi"] = low, np.maximum(high, low)
        return inner.sums(values)[0]

    def extreme(self, operation: np.ufunc, name: str) -> Floats:
        values = self.rows[name]
        found = self._reduced(operation, values) if len(values) else np.zeros(self.lo.shape)
        found = np.where(self.hi > self.lo, found, np.nan)
        for places in (self.left, self.right):
            found = np.where(places >= 0, operation(found, self.at(values, places)), found)
        return np.asarray(found, np.float64)

    @cached_property
    def first_edge(self) -> tuple[Floats, Floats]:
        """Value and time (µs) at which the windows' samples begin; between two samples where a piece is cut."""
        rows = self.rows
        value, time = self.at(rows["first"], self.lo), self.at(rows["first_time"], self.lo).astype(np.float64)
        only = (self.hi == self.lo) & (self.left < 0)  # nothing but a cut piece at the end
        value = np.where(only, self.at(rows["first"], self.right), value)
        time = np.where(only, self.at(rows["first_time"], self.right), time)
        at_start = self._along(self.left, self.starts)
        cut = self.left >= 0
        return np.where(cut, at_start, value), np.where(cut, self.starts + np.zeros(time.shape), time)

    @cached_property
    def last_edge(self) -> tuple[Floats, Floats]:
        """Value and time (µs) at which they end."""
        rows = self.rows
        inside = self.hi > self.lo
        ahead = np.where(inside, self.hi - 1, self.left)
        value, time = self.at(rows["last"], ahead), self.at(rows["last_time"], ahead).astype(np.float64)
        beyond = ~inside & (self.left >= 0) & (time > self.ends)
        for places, cut in ((self.left, beyond), (self.right, self.right >= 0)):
            value = np.where(cut, self._along(places, self.ends), value)
            time = np.where(cut, self.ends + np.zeros(time.shape), time)
        return value, time

    def _along(self, places: Ints, times: Ints) -> Floats:
        """The straight line through a piece's first and last sample."""
        rows = self.rows
        first, start = self.at(rows["first"], places), self.at(rows["first_time"], places)
        share = (times - start) / np.maximum(self.at(rows["last_time"], places) - start, 1)
        found: Floats = first + (self.at(rows["last"], places) - first) * share
        return found

    def blocks(self) -> Iterator[Windows]:
        """The same in parts of whole series."""
        assert self.pieces is not None
        first = 0
        for block in super().blocks():
            last = first + len(block.labels)
            if last - first == len(self.labels):
                yield self
                return
            rows = self.rows.taken(slice(int(self.series.offsets[first]), int(self.series.offsets[last])))
            part = Pieces.of(block.labels, Summaries(rows.series - first, rows.bucket, rows.columns), self.pieces.tiers)
            yield PieceWindows.over(part, self.grid, self.width, self.steps)
            first = last


class _Fixed(Windows):
    """Windows whose `lo` and `hi` are given."""


def _steps(windows: PieceWindows) -> dict[str, Floats]:
    """What lies between each piece and the one before it in its series."""
    rows = windows.rows
    before = np.roll(rows["last"], 1)
    seconds = np.zeros(len(rows))
    seconds[1:] = (rows["first_time"][1:] - rows["last_time"][:-1]) / 1e6
    return {
        "lost": np.where(rows["first"] < before, before, 0.0),
        "positive": area(np.maximum(before, 0.0), seconds),
        "negative": area(np.minimum(before, 0.0), seconds),
    }


def _gain(windows: PieceWindows, *, counter: bool) -> Floats:
    """Last less first; of a counter with what was lost at resets added."""
    gain = windows.last_edge[0] - windows.first_edge[0]
    if not counter:
        return gain
    inside, between = lost_inside(windows.rows), _steps(windows)["lost"]
    return gain + windows.total(inside) + windows.between(between)


def _extrapolated(windows: PieceWindows, *, counter: bool, per_second: bool) -> Answer:
    first, start = windows.first_edge
    last = windows.last_edge[1]
    gain = _gain(windows, counter=counter)
    found = reach(windows, gain, first, (start, last), windows.weight, counter=counter, per_second=per_second)
    return found, (windows.weight >= 2) & (last > start)


def _integral(windows: PieceWindows, signs: tuple[str, ...]) -> Answer:
    """Each value times the seconds until the next one, the last until the window's end."""
    between = _steps(windows)
    found = np.zeros(windows.lo.shape)
    value, time = windows.last_edge
    rest = np.where(windows.right >= 0, 0.0, (windows.ends - time) / 1e6)
    for sign in signs:
        kept = np.maximum(value, 0.0) if sign == "positive" else np.minimum(value, 0.0)
        found = found + windows.total(windows.rows[f"integral_{sign}"]) + windows.between(between[sign])
        found = found + area(kept, rest)
    return found, windows.present


def _variance(windows: PieceWindows) -> Floats:
    """Population variance: spread inside the pieces and spread of their means, by Chan, Golub and LeVeque's formula."""
    rows, mean = windows.rows, means(windows.rows)
    left, right = (share.ravel() for share in windows.shares)
    begins = np.where(windows.left >= 0, windows.left, windows.lo).ravel()
    ends = np.where(windows.right >= 0, windows.right + 1, windows.hi).ravel()
    ends = np.maximum(ends, np.where(windows.left.ravel() >= 0, begins + 1, begins))
    frame = _Fixed(windows.series, windows.grid, windows.width, windows.steps)
    frame.__dict__["lo"], frame.__dict__["hi"] = begins.reshape(windows.lo.shape), ends.reshape(windows.lo.shape)
    found = np.zeros(windows.lo.size)
    for part, places, inside in frame.padded():
        share = inside.astype(np.float64)
        share[:, 0] = np.where(windows.left.ravel()[part] >= 0, left[part], share[:, 0])
        at_end = np.flatnonzero(windows.right.ravel()[part] >= 0)
        share[at_end, ends[part][at_end] - begins[part][at_end] - 1] = right[part][at_end]
        weight = rows["count"][places] * share
        apart = np.where(inside, mean[places] - mean[places[:, :1]], 0.0)
        total = weight.sum(axis=1)
        apart -= ((weight * apart).sum(axis=1) / total)[:, None]
        spread = np.where(inside, rows["m2"][places] * share, 0.0) + weight * apart * apart
        found[part] = spread.sum(axis=1) / total
    return found.reshape(windows.lo.shape)


def _mean(windows: PieceWindows) -> Answer:
    return windows.total(windows.rows["sum"]) / windows.weight, windows.present


def _squares(windows: PieceWindows) -> Floats:
    rows = windows.rows
    return windows.total(rows["m2"] + rows["sum"] * rows["sum"] / rows["count"])


PIECEWISE: dict[str, Callable[[PieceWindows], Answer]] = {
    "sum_over_time": lambda w: (w.total(w.rows["sum"]), w.present),
    "sum_positive_over_time": lambda w: (w.total(w.rows["positive"]), w.present),
    "sum_negative_over_time": lambda w: (w.total(w.rows["negative"]), w.present),
    "avg_over_time": _mean,
    "count_over_time": lambda w: (w.weight, w.present),
    "min_over_time": lambda w: (w.extreme(np.fmin, "min"), w.present),
    "max_over_time": lambda w: (w.extreme(np.fmax, "max"), w.present),
    "range_over_time": lambda w: (w.extreme(np.fmax, "max") - w.extreme(np.fmin, "min"), w.present),
    "first_over_time": lambda w: (w.first_edge[0], w.present),
    "last_over_time": lambda w: (w.last_edge[0], w.present),
    "tfirst_over_time": lambda w: (w.first_edge[1] / 1e6, w.present),
    "tlast_over_time": lambda w: (w.last_edge[1] / 1e6, w.present),
    "ts_of_first_over_time": lambda w: (w.first_edge[1] / 1e6, w.present),
    "ts_of_last_over_time": lambda w: (w.last_edge[1] / 1e6, w.present),
    "present_over_time": lambda w: (np.ones(w.lo.shape), w.present),
    "absent_over_time": lambda w: (np.ones(w.lo.shape), ~w.present),
    "stdvar_over_time": lambda w: (_variance(w), w.present),
    "stddev_over_time": lambda w: (np.sqrt(_variance(w)), w.present),
    "sum2_over_time": lambda w: (_squares(w), w.present),
    "rate_over_sum": lambda w: (w.total(w.rows["sum"]) / (w.width / 1e6), w.present),
    "lifetime": lambda w: ((w.last_edge[1] - w.first_edge[1]) / 1e6, w.present),
    "lag": lambda w: ((w.steps - w.last_edge[1]) / 1e6, w.present),
    "scrape_interval": lambda w: ((w.last_edge[1] - w.first_edge[1]) / 1e6 / (w.weight - 1), w.weight >= 2),
    "integrate": lambda w: _integral(w, ("positive", "negative")),
    "integrate_positive": lambda w: _integral(w, ("positive",)),
    "integrate_negative": lambda w: _integral(w, ("negative",)),
    "rate": lambda w: _extrapolated(w, counter=True, per_second=True),
    "increase": lambda w: _extrapolated(w, counter=True, per_second=False),
    "delta": lambda w: _extrapolated(w, counter=False, per_second=False),
    "increase_pure": lambda w: (_gain(w, counter=True), w.present),
}


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
