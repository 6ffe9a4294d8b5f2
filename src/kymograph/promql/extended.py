"""Windows whose edges have values of their own: the selectors `anchored` and `smoothed`.

`anchored` takes the newest sample before the window for its beginning, and its last one for its end. `smoothed` takes the
straight lines between the samples around each edge. Neither looks further than the look-back, and where nothing is there
the nearest sample inside stands. Nothing is extrapolated. Staleness markers do not count.

Source: the documentation of Prometheus, "Extended range selectors".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from kymograph.promql.ast import Edge
from kymograph.promql.frame import Grid
from kymograph.promql.index import Ints
from kymograph.promql.labels import Bools
from kymograph.promql.rates import Answer, changes, lost, resets
from kymograph.promql.source import Floats, SeriesSet
from kymograph.promql.windows import Windows, positions


@dataclass(frozen=True)
class EdgeWindows(Windows):
    """A range vector, and what is at its edges.

    Attributes:
        edge: how the values there are found; `carry` is how far away a sample may be for it, µs.
    """

    edge: Edge = "anchored"

    @cached_property
    def inner(self) -> Ints:
        """One past the last sample before the window's end: one at the end is the edge's. int64 [S, T]."""
        ended = positions(self.series, Grid(self.grid.start - 1, self.grid.step, self.grid.count))
        return np.maximum(ended, self.lo)

    @cached_property
    def after(self) -> Ints:
        """The index of the first sample at the window's end or after it, -1 where there is none near enough."""
        there = (self.inner < self.series.offsets[1:, None]) & (
            self.at(self.times, self.inner) <= self.ends + self.carry
        )
        return np.where(there, self.inner, -1)

    def line(self, before: Ints, after: Ints, times: Ints, *, counter: bool) -> Floats:
        """The straight line from one sample to the next; a counter that was reset in between began at 0."""
        low, high = self.at(self.values, before), self.at(self.values, after)
        begin, end = self.at(self.times, before), self.at(self.times, after)
        low = np.where(high < low, 0.0, low) if counter else low
        # in ms, for the same last digit as Prometheus
        found: Floats = low + (high - low) * ((times - begin) / 1e3) / ((end - begin) / 1e3)
        return found

    def left(self, counter: bool) -> Floats:
        """What the window begins with. float64 [S, T], meaningless where there is no sample after the beginning."""
        stands = self.at(self.values, self.before)
        if self.edge == "smoothed":
            behind = self.at(self.times, self.before) < self.starts
            stands = np.where(behind, self.line(self.before, self.lo, self.starts, counter=counter), stands)
        return np.where(self.before >= 0, stands, self.first)

    def right(self, counter: bool) -> Floats:
        """What it ends with. float64 [S, T], meaningless where there is no sample after the beginning."""
        if self.edge == "anchored":
            return self.last
        beyond = self.at(self.times, self.after) > self.ends
        # one that is the first of all has no line to it
        beyond &= (self.inner > self.lo) | (self.before >= 0)
        stands = np.where(
            beyond, self.line(self.after - 1, self.after, self.ends, counter=counter), self.at(self.values, self.after)
        )
        return np.where(self.after >= 0, stands, self.at(self.values, self.inner - 1))

    @property
    def present(self) -> Bools:
        """Where there is a value at both edges."""
        found: Bools = self.count >= 1
        return found if self.edge == "anchored" else found | ((self.before >= 0) & (self.after >= 0))

    @property
    def anchored(self) -> Windows:
        """The same windows with the sample that stands for their beginning as their first one."""
        return self.spanning(np.where(self.before >= 0, self.before, self.lo), self.hi)

    @property
    def shown(self) -> SeriesSet:
        """The samples inside the only window, between the values at its edges, as of a gauge."""
        there = self.count[:, 0] >= 1
        if self.edge == "smoothed":
            there |= self.after[:, 0] >= 0
        rows = np.flatnonzero(there)
        low, high = self.lo[rows, 0], self.inner[rows, 0]
        owner = np.repeat(rows, high - low)
        places = np.arange(len(owner)) + np.repeat(low - np.concatenate([[0], np.cumsum(high - low)])[:-1], high - low)
        series = np.concatenate([rows, owner, rows])
        edges = [np.full(len(rows), at) for at in (self.starts[0], self.ends[0])]
        times = np.concatenate([edges[0], self.times[places], edges[1]])
        values = np.concatenate([self.left(False)[rows, 0], self.values[places], self.right(False)[rows, 0]])
        order = np.argsort(series, kind="stable")
        counts = np.bincount(series, minlength=len(self.labels))
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return SeriesSet(self.labels, times[order], values[order], offsets)


def _gain(windows: EdgeWindows, *, counter: bool, per_second: bool = False) -> Answer:
    """From edge to edge; of a counter with what was lost at resets added."""
    left, right = windows.left(counter), windows.right(counter)
    found = right - left
    if counter:
        some = windows.inner > windows.lo
        ended = np.where(some, windows.at(windows.values, windows.inner - 1), left)
        begun = np.where(some & (windows.first < left), left, 0.0)
        gone = lost(windows)
        inside = windows.spanning(np.minimum(windows.lo + 1, windows.inner), windows.inner).sums(gone)[0]
        found = found + (begun + inside + np.where(right < ended, ended, 0.0))
    return found / (windows.width / 1e6) if per_second else found, windows.present


def between(windows: EdgeWindows) -> Answer:
    """At the ends: on the line between the samples around them, or the value before where none comes after."""
    stands = windows.at(windows.values, windows.before)
    within = (windows.at(windows.times, windows.before) < windows.ends) & (windows.after >= 0)
    line = windows.line(windows.before, windows.after, windows.ends, counter=False)
    return np.where(within, line, stands), windows.before >= 0


def _counted(function: Callable[[Windows], Answer], windows: EdgeWindows) -> Answer:
    return function(windows.anchored)[0], windows.present


_GAINS: dict[str, Callable[[EdgeWindows], Answer]] = {
    "rate": partial(_gain, counter=True, per_second=True),
    "increase": partial(_gain, counter=True),
    "delta": partial(_gain, counter=False),
}
# what each selector is for
EXTENDED: dict[Edge, dict[str, Callable[[EdgeWindows], Answer]]] = {
    "anchored": {**_GAINS, "changes": partial(_counted, changes), "resets": partial(_counted, resets)},
    "smoothed": _GAINS,
}
