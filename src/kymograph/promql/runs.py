"""Samples of several parts put together by series, where they come as runs: stretches of one series in order of time.

Parts of a scan are sorted by series and time, so that putting them together is mostly copying whole runs, and nothing at
all where there is one part. Only runs that overlap in time (late samples that are not sealed yet) make it a sort.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kymograph.promql.index import Ints
from kymograph.promql.labels import Bools

_Floats = np.ndarray[Any, np.dtype[np.float64]]
_SHORT = 32  # samples per run below which picking samples is quicker than copying runs


@dataclass(frozen=True)
class Part:
    """Samples of R runs, one after the other.

    Attributes:
        series: int64 of shape (R,): the series of each run.
        bounds: int64 of shape (R + 1,): run i is [bounds[i], bounds[i + 1]).
        times: int64 µs of all samples; values: float64.
    """

    series: Ints
    bounds: Ints
    times: Ints
    values: _Floats

    @classmethod
    def of(cls, series: Ints, times: Ints, values: _Floats) -> Part:
        """Samples with their series each, sorted by series and time; a series may be in several places."""
        bounds = edges(series)
        return cls(series[bounds[:-1]], bounds, times, values)

    def less(self, dropped: Bools) -> Part:
        """Without the samples where a mask is true."""
        before = np.concatenate(([0], np.cumsum(dropped)))
        bounds = self.bounds - before[self.bounds]
        some = np.flatnonzero(np.diff(bounds))
        kept = np.append(bounds[some], bounds[-1])
        return Part(self.series[some], kept, self.times[~dropped], self.values[~dropped])

    def only(self, runs: Bools) -> Part:
        """Some of the runs."""
        return self if runs.all() else self.less(np.repeat(~runs, np.diff(self.bounds)))


def edges(series: Ints) -> Ints:
    """Where runs of equal numbers begin, and where the last one ends."""
    inner = np.flatnonzero(series[1:] != series[:-1]) + 1
    return np.concatenate(([0], inner, [len(series)])) if len(series) else np.zeros(1, np.int64)


def joined(parts: Sequence[Part], size: int) -> tuple[Ints, _Floats, Ints]:
    """All samples by series, each ascending in time.

    Returns:
        times, values, and offsets of the `size` series.
    """
    parts = [part for part in parts if len(part.series)]
    if not parts:
        return np.zeros(0, np.int64), np.zeros(0), np.zeros(size + 1, np.int64)
    series = np.concatenate([part.series for part in parts])
    lengths = np.concatenate([np.diff(part.bounds) for part in parts])
    offsets = np.concatenate(([0], np.cumsum(np.bincount(series, lengths, size).astype(np.int64))))
    first = np.concatenate([part.times[part.bounds[:-1]] for part in parts])
    last = np.concatenate([part.times[part.bounds[1:] - 1] for part in parts])
    order = np.lexsort((first, series))
    apart = (series[order[1:]] != series[order[:-1]]) | (first[order[1:]] > last[order[:-1]])
    if not apart.all():
        return *_sorted(parts, series, lengths), offsets
    if (order[1:] > order[:-1]).all():
        return _one([part.times for part in parts]), _one([part.values for part in parts]), offsets
    if lengths.sum() < _SHORT * len(lengths):
        starts = np.cumsum(lengths) - lengths
        places = np.repeat(starts[order] - (np.cumsum(lengths[order]) - lengths[order]), lengths[order])
        places += np.arange(len(places))
        return _one([part.times for part in parts])[places], _one([part.values for part in parts])[places], offsets
    times, values = [], []
    for part in parts:
        for low, high in zip(part.bounds[:-1].tolist(), part.bounds[1:].tolist(), strict=True):
            times.append(part.times[low:high])
            values.append(part.values[low:high])
    ordered = order.tolist()
    return np.concatenate([times[i] for i in ordered]), np.concatenate([values[i] for i in ordered]), offsets


def picked(times: Ints, values: _Floats, offsets: Ints, rows: Ints) -> tuple[Ints, _Floats, Ints]:
    """Copies of the samples of some series in the order of `rows`: times, values and offsets."""
    low, high = offsets[rows], offsets[rows + 1]
    bounds = np.concatenate(([0], np.cumsum(high - low)))
    if bounds[-1] < _SHORT * len(rows) or not len(rows):
        places = np.arange(int(bounds[-1])) + np.repeat(low - bounds[:-1], high - low)
        return times[places], values[places], bounds
    spans = list(map(slice, low.tolist(), high.tolist()))
    return np.concatenate([times[span] for span in spans]), np.concatenate([values[span] for span in spans]), bounds


def _one(arrays: Sequence[Any]) -> Any:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _sorted(parts: Sequence[Part], series: Ints, lengths: Ints) -> tuple[Ints, _Floats]:
    """Sample by sample, where runs overlap."""
    times, values = _one([part.times for part in parts]), _one([part.values for part in parts])
    each = np.repeat(series, lengths)
    low, span = int(times.min()), int(times.max()) - int(times.min()) + 1
    if (int(series.max()) + 1) * span < 2**62:
        # parts are sorted runs, and a stable sort of runs is a merge
        order = np.argsort(each * span + (times - low), kind="stable")
    else:
        order = np.lexsort((times, each))
    return times[order], values[order]
