"""Windows of samples for series × steps, and what is reckoned over all of them at once.

A window is (end - width, end], as index range [lo, hi) into the samples of all series, one after the other. Sums are made
in long double from the window's own samples (never as a difference of running sums, which loses digits), so that they
agree with Prometheus' compensated ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from kymograph.promql.frame import Grid
from kymograph.promql.index import Ints
from kymograph.promql.labels import Bools, Labels
from kymograph.promql.limits import pulse
from kymograph.promql.source import Floats, SeriesSet

_BLOCK = 2_000_000  # cells of rectangles worked on at once
_CACHED = 32_768  # cells of series × steps worked on at once: what a core's cache holds of a few arrays of them
_SAMPLES = 131_072  # samples whose steps are reckoned at once, for the same reason and so that they take no room
# functions whose windows begin with the value that stands then, as a sample before it set it
CARRIED = frozenset(("integrate", "integrate_positive", "integrate_negative", "increase_pure"))
_DENSE = 24  # samples per stored sample above which windows are reckoned by doubling


def positions(series: SeriesSet, grid: Grid) -> Ints:
    """For each series and step, the index one past its last sample at or before the step. int64 [S, T]."""
    if grid.step == 0 and grid.count > 1:  # the same place at every step
        return np.repeat(positions(series, Grid(grid.start, 0, 1)), grid.count, axis=1)
    size, count = len(series.labels), grid.count
    step = max(grid.step, 1)
    found = np.empty((size, count), np.int64)
    for low, high in _blocks(series.offsets):
        first = int(series.offsets[low])
        column = series.times[first : series.offsets[high]] - (grid.start - step + 1)
        column //= step  # the first step that is not before the sample
        np.maximum(column, 0, out=column)
        np.minimum(column, count, out=column)
        column += np.repeat(np.arange(high - low) * (count + 1), np.diff(series.offsets[low : high + 1]))
        # counted over all series of the block at once: those before a series are its offset
        counted = np.cumsum(np.bincount(column, minlength=(high - low) * (count + 1)))
        found[low:high] = counted.reshape(-1, count + 1)[:, :count]
        found[low:high] += first
    return found


def _blocks(offsets: Ints) -> Iterator[tuple[int, int]]:
    """Series [low, high) of some `_SAMPLES` samples, or one series of more."""
    low, size = 0, len(offsets) - 1
    while low < size:
        high = max(low + 1, int(np.searchsorted(offsets, offsets[low] + _SAMPLES, "right")) - 1)
        yield low, high
        low = high


@dataclass(frozen=True)
class Windows:
    """A range vector at every step.

    Attributes:
        series: the samples; no staleness markers among them.
        grid: ends of the windows, µs; its step is 0 where they are the same at every step (`@`).
        width: µs.
        steps: evaluation times, µs [T]; they differ from the ends by offset and `@`.
        skip: samples left out at the start of each window; 1 for what is reckoned from sample to sample.
        carry: how long before the window a sample may be and still stand for its beginning, µs.
    """

    series: SeriesSet
    grid: Grid
    width: int
    steps: Ints
    skip: int = 0
    carry: int = 0

    @property
    def labels(self) -> list[Labels]:
        return self.series.labels

    @property
    def values(self) -> Floats:
        return self.series.values

    @property
    def times(self) -> Ints:
        return self.series.times

    @cached_property
    def hi(self) -> Ints:
        return positions(self.series, self.grid)

    @cached_property
    def lo(self) -> Ints:
        found = positions(self.series, Grid(self.grid.start - self.width, self.grid.step, self.grid.count))
        return np.minimum(found + self.skip, self.hi) if self.skip else found

    @cached_property
    def count(self) -> Ints:
        """Samples per window, int64 [S, T]."""
        return self.hi - self.lo

    def steps_of(self, values: Floats) -> Windows:
        """Windows over other values, those of each sample reckoned from the one before it: without the first."""
        series = SeriesSet(self.labels, self.times, values, self.series.offsets)
        return Windows(series, self.grid, self.width, self.steps, skip=1)

    @property
    def ends(self) -> Ints:
        return self.grid.times

    @cached_property
    def starts(self) -> Ints:
        """Starts of the windows, which they do not contain, µs [T]."""
        return self.ends - self.width

    @property
    def reached(self) -> Ints:
        """Until when what begins at `times` reaches: a sample does not."""
        return self.times

    @cached_property
    def before(self) -> Ints:
        """What stands when a window begins: the index of the last sample before it, -1 where there is none near enough."""
        found = self.lo - 1
        until = self.at(self.reached, found)
        there = (found >= self.series.offsets[:-1, None]) & (until <= self.starts) & (until > self.starts - self.carry)
        return np.where(there, found, -1)

    def blocks(self) -> Iterator[Windows]:
        """The same in parts of whole series, each small enough for its temporary arrays to stay in the cache."""
        rows = max(1, _CACHED // max(1, self.grid.count))
        size, offsets = len(self.labels), self.series.offsets
        if size <= rows:
            yield self
            return
        for first in range(0, size, rows):
            last = min(size, first + rows)
            low, high = int(offsets[first]), int(offsets[last])
            part = SeriesSet(
                self.labels[first:last], self.times[low:high], self.values[low:high], offsets[first : last + 1] - low
            )
            yield replace(self, series=part)

    def spanning(self, lo: Ints, hi: Ints) -> Windows:
        """Windows over the same samples from `lo` up to `hi`, both [S, T]."""
        found = Windows(self.series, self.grid, self.width, self.steps)
        found.__dict__.update(lo=lo, hi=hi)
        return found

    @property
    def shown(self) -> SeriesSet:
        """The samples of the only window, as a range vector shows them."""
        return self.series

    def at(self, values: Any, places: Ints) -> Any:
        """`values` at sample indices; anything where there is no sample."""
        return values.take(places, mode="clip") if len(values) else np.zeros(places.shape, values.dtype)

    @property
    def first(self) -> Floats:
        found: Floats = self.at(self.values, self.lo)
        return found

    @property
    def last(self) -> Floats:
        found: Floats = self.at(self.values, self.hi - 1)
        return found

    def padded(self, least: int = 1) -> Iterator[tuple[Ints, Ints, Bools]]:
        """Windows of at least so many samples as rectangles.

        Yields:
            Flat positions of R windows in [S, T], sample indices [R, M], and which of these are within the window;
            the others repeat its first sample.
        """
        counts = self.count.ravel()
        chosen = np.flatnonzero(counts >= least)
        chosen = chosen[np.argsort(counts[chosen], kind="stable")]
        low = self.lo.ravel()
        while len(chosen):
            pulse()
            rows = np.searchsorted(np.arange(1, len(chosen) + 1) * counts[chosen], _BLOCK, side="right")
            part, chosen = chosen[: max(1, int(rows))], chosen[max(1, int(rows)) :]
            places = np.arange(counts[part[-1]])
            inside = places < counts[part][:, None]
            yield part, low[part][:, None] + np.where(inside, places, 0), inside

    def sums(self, values: Floats) -> tuple[Floats, Any]:
        """Sum of `values` (one per sample) over each window: float64 [S, T], and as long double."""
        if not len(values):
            return np.zeros(self.lo.shape), np.zeros(self.lo.shape, np.longdouble)
        finite = bool(np.isfinite(values).all())
        if finite and bool((values == np.rint(values)).all()) and float(np.abs(values).sum()) < 2**53:
            running = np.concatenate([[0.0], np.cumsum(values)])  # whole numbers: exact
            whole: Floats = running[self.hi] - running[self.lo]
            return whole, whole
        wide = self._reduced(np.add, values.astype(np.longdouble))
        found = wide.astype(np.float64)
        if values.min() < 0 < values.max() and finite:
            size = self._reduced(np.add, np.abs(values))
            for row, step in np.argwhere((np.abs(found) < size * 2.0**-20) & (self.count > 0)):
                # what cancels almost whole needs more digits than a long double has
                found[row, step] = some = compensated(values[self.lo[row, step] : self.hi[row, step]])
                wide[row, step] = some
        return found, wide

    def highest(self) -> Floats:
        """Largest value of each window; NaN only where there is nothing else."""
        found: Floats = self._reduced(np.fmax, self.values)
        return found

    def lowest(self) -> Floats:
        found: Floats = self._reduced(np.fmin, self.values)
        return found

    def _reduced(self, operation: np.ufunc, values: Any) -> Any:
        shape = self.lo.shape
        if not len(values) or not self.lo.size:
            return np.zeros(shape, values.dtype)
        lo, count = self.lo.ravel(), self.count.ravel()
        if int(count.sum()) > _DENSE * len(values):
            return _doubled(operation, values, lo, count).reshape(shape)
        pairs = np.stack([lo, self.hi.ravel()], axis=1).ravel()
        found = operation.reduceat(np.append(values, values[-1:]), pairs)[::2]
        found[count == 0] = 0  # where reduceat gives the sample after it
        return found.reshape(shape)

    def flagged(self, flags: Bools) -> Ints:
        """How many samples of each window but its first have a flag."""
        running = np.concatenate([[0], np.cumsum(flags)])
        found: Ints = running[self.hi] - running[np.minimum(self.lo + 1, self.hi)]
        return found


def compensated(values: Floats) -> float:
    """The sum of finite values as Prometheus makes it (Kahan's, in Neumaier's form); exact where that overflows.

    It keeps one compensation beside the sum: what spans more digits than both have is lost there, so it is here.
    """
    running = np.cumsum(values)
    if not np.isfinite(running).all():
        return exact_sum(values)
    before = np.append(0.0, running[:-1])
    larger, smaller = np.where(np.abs(before) >= np.abs(values), (before, values), (values, before))
    lost = (larger - running) + smaller
    return float(running[-1] + np.cumsum(lost)[-1])


def exact_sum(values: Floats) -> float:
    """The sum of finite values, rounded once."""
    # fsum gives up when a partial sum overflows, even where the whole does not
    return math.fsum(values) if np.abs(values).max(initial=0.0) < 1e300 else math.fsum(values * 2.0**-64) * 2.0**64


def _doubled(operation: np.ufunc, values: Any, lo: Ints, count: Ints) -> Any:
    """Reduce [lo, lo + count) from runs of 1, 2, 4, … samples: O(samples × log) instead of O(window samples)."""
    found = np.full(len(lo), 0 if operation is np.add else np.nan, values.dtype)
    place = lo.copy()
    width = 1
    while width <= count.max():
        used = np.flatnonzero(count & width)
        found[used] = operation(found[used], values[place[used]])
        place[used] += width
        values = operation(values[:-width], values[width:])
        width *= 2
    return found
