"""Windows over pieces.

Where a window cuts no piece, its answer is that of the samples themselves: exact for counts, extremes, first and last,
to the rounding of sums elsewhere. A piece that a window cuts gives the share of it that lies inside, as if its samples
were spread evenly after the first; `PieceWindows.inexact` says where that matters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kymograph.model.summary import Summaries
from kymograph.promql.frame import Grid
from kymograph.promql.index import Ints
from kymograph.promql.labels import Bools
from kymograph.promql.pieces import Pieces
from kymograph.promql.source import Floats, SeriesSet
from kymograph.promql.windows import Windows, positions

# what needs of a piece whose first sample is taken off only what is known of the rest
SUMS = frozenset(
    [
        "sum_over_time",
        "sum_positive_over_time",
        "sum_negative_over_time",
        "avg_over_time",
        "count_over_time",
        "stddev_over_time",
        "stdvar_over_time",
        "sum2_over_time",
        "rate_over_sum",
        "last_over_time",
        "tlast_over_time",
        "ts_of_last_over_time",
        "present_over_time",
        "absent_over_time",
        "lag",
    ]
)
# statistics that every function needs, and those that only some do
BASIC = ("count", "sum", "first", "last", "first_time", "last_time")
_FURTHER = {
    "min_over_time": ("min",),
    "max_over_time": ("max",),
    "range_over_time": ("min", "max"),
    "stddev_over_time": ("m2", "min", "max"),
    "stdvar_over_time": ("m2", "min", "max"),
    "sum2_over_time": ("m2",),
    "sum_positive_over_time": ("positive",),
    "sum_negative_over_time": ("negative",),
    "integrate": ("integral_positive", "integral_negative"),
    "integrate_positive": ("integral_positive",),
    "integrate_negative": ("integral_negative",),
    "rate": ("increase",),
    "increase": ("increase",),
    "increase_pure": ("increase",),
}


def needed(function: str) -> tuple[str, ...]:
    """The statistics that a function over pieces reads."""
    return (*BASIC, *_FURTHER.get(function, ()))


EXTREMES = {"min_over_time": ("min",), "max_over_time": ("max",), "range_over_time": ("min", "max")}


@dataclass(frozen=True)
class PieceWindows(Windows):
    """A range vector over pieces. `series` has the times of their first samples, and their sums as values."""

    pieces: Pieces | None = None

    @classmethod
    def over(cls, pieces: Pieces, grid: Grid, width: int, steps: Ints, carry: int = 0) -> PieceWindows:
        rows = pieces.rows
        series = SeriesSet(pieces.labels, rows["first_time"], rows["sum"], pieces.offsets)
        return cls(series, grid, width, steps, 0, carry, pieces)

    @property
    def rows(self) -> Summaries:
        assert self.pieces is not None
        return self.pieces.rows

    @property
    def reached(self) -> Ints:
        found: Ints = self.rows["last_time"]
        return found

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
        """How much of the cut pieces' time lies inside; 0 where there is none."""
        rows = self.rows
        first, last = rows["first_time"], rows["last_time"]
        span = np.maximum(last - first, 1)
        inside = np.minimum(self.at(last, self.left), self.ends) - np.maximum(self.at(first, self.left), self.starts)
        left = np.where(self.left >= 0, inside / self.at(span, self.left), 0.0)
        inside = self.ends - self.at(first, self.right)
        right = np.where(self.right >= 0, inside / self.at(span, self.right), 0.0)
        return left, right

    @cached_property
    def cut(self) -> Bools:
        """Where a piece is cut."""
        found: Bools = (self.left >= 0) | (self.right >= 0)
        return found

    @cached_property
    def behind_first(self) -> Bools:
        """Where the window's start takes just the first sample off a piece, whose value is known."""
        begins, ends = self.at(self.rows["first_time"], self.left), self.at(self.rows["last_time"], self.left)
        found: Bools = (self.left >= 0) & (begins == self.starts) & (ends <= self.ends)
        return found

    def inexact(self, function: str) -> Bools:
        """Where the answer of a function is not that of the samples."""
        left = self.left >= 0
        if function in SUMS:
            left &= ~self.behind_first
        elif function in EXTREMES:
            first = self.at(self.rows["first"], self.left)
            inner = np.ones(left.shape, np.bool_)
            for name in EXTREMES[function]:
                inner &= first != self.at(self.rows[name], self.left)
            left &= ~(self.behind_first & inner)
        found: Bools = left | ((self.right >= 0) & (self.at(self.rows["first_time"], self.right) < self.ends))
        return found

    @cached_property
    def present(self) -> Bools:
        found: Bools = (self.hi > self.lo) | self.cut
        return found

    @cached_property
    def weight(self) -> Floats:
        """Samples of each window; of cut pieces as many as fall inside when they are spread evenly."""
        return self.total(self.rows["count"].astype(np.float64), np.ones(len(self.rows)))

    def total(self, values: Floats, firsts: Floats | None = None) -> Floats:
        """Sum of something per piece over the windows, of cut pieces by their share.

        Args:
            firsts: what the first sample of each piece contributes; None is nothing.
        """
        found = self.sums(values)[0]
        if not self.cut.any():
            return found
        own = np.zeros(len(values)) if firsts is None else firsts
        rest = values - own
        left, right = self.shares
        found = found + np.where(left > 0, left * self.at(rest, self.left), 0.0)
        found = found + np.where(right > 0, right * self.at(rest, self.right), 0.0)
        return found + np.where(self.right >= 0, self.at(own, self.right), 0.0)

    def between(self, values: Floats) -> Floats:
        """Sum of something from piece to piece (of each to the one before it) over the windows."""
        low = np.minimum(np.where(self.left >= 0, self.left, self.lo) + 1, len(self.rows))
        high = np.where(self.right >= 0, self.right + 1, self.hi)
        return self.spanning(low, np.maximum(high, low)).sums(values)[0]

    def extreme(self, operation: np.ufunc, name: str) -> Floats:
        values = self.rows[name]
        found = self._reduced(operation, values) if len(values) else np.zeros(self.lo.shape)
        found = np.where(self.hi > self.lo, found, np.nan)
        only_first = self.shares[1] == 0
        ahead = np.where(only_first, self.at(self.rows["first"], self.right), self.at(values, self.right))
        for places, extreme in ((self.left, self.at(values, self.left)), (self.right, ahead)):
            found = np.where(places >= 0, operation(found, extreme), found)
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
        # right at the first sample, whatever infinity the last one is
        found: Floats = np.where(share == 0, first, first + (self.at(rows["last"], places) - first) * share)
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
            yield PieceWindows.over(part, self.grid, self.width, self.steps, self.carry)
            first = last
