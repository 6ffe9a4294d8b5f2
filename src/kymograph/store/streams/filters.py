"""Ready-made work for `process`: copies, decimation, resampling, moving means and medians."""

from __future__ import annotations

from typing import Any

import numpy as np

from kymograph.errors import InvalidInput
from kymograph.model.interval import Intervals
from kymograph.model.stream import DATA, TIMESTAMP, Layout
from kymograph.store.streams.arrays import Array
from kymograph.store.streams.process import Stretch, process
from kymograph.store.streams.stream import Stream


def copy(source: Stream, destination: Stream, **bounds: Any) -> Intervals:
    """Copy what the destination lacks; layouts of equal width, values that the destination's type holds exactly."""
    return process(source, destination, lambda stretch: stretch.own, **bounds)


def decimate(source: Stream, destination: Stream, factor: int = 4, **bounds: Any) -> Intervals:
    """Mean, minimum and maximum of every `factor` rows, never across a gap; a shorter rest at the end of an interval counts.

    Args:
        destination: floats of three times the columns: all means, all minima, all maxima. Its time is the mean, floored.
    """
    if factor < 2:
        raise InvalidInput(f"the factor is at least 2, not {factor}")
    _check(destination, 3 * source.layout.count)

    def work(stretch: Stretch) -> tuple[Array, int]:
        own = stretch.own
        used = len(own) if stretch.final else len(own) // factor * factor
        return grouped(own[:used], factor, destination.layout), used

    return process(source, destination, work, **bounds)


def grouped(rows: Array, factor: int, wide: Layout) -> Array:
    """Mean, minimum and maximum of every `factor` rows, the last group of what is left; see `decimate`.

    Args:
        rows: structured `timestamp` and `data` of shape (n, columns), without a gap.
        wide: floats of three times the columns.
    """
    firsts = np.arange(0, len(rows), factor)
    out = np.empty(len(firsts), wide.rows)
    if not len(rows):
        return out
    data = rows[DATA].astype(np.float64)
    counts = np.diff(firsts, append=len(rows))
    parts = [np.add.reduceat(data, firsts, axis=0) / counts[:, None]]
    parts += [ufunc.reduceat(data, firsts, axis=0) for ufunc in (np.fmin, np.fmax)]
    out[DATA] = np.concatenate(parts, axis=1)
    times = rows[TIMESTAMP]
    base = times[firsts]
    # relative to the first of each group, so that no sum of times overflows
    out[TIMESTAMP] = base + np.add.reduceat(times - np.repeat(base, counts), firsts) // counts
    return out


def resample(source: Stream, destination: Stream, step: int, **bounds: Any) -> Intervals:
    """Linear interpolation at whole multiples of `step` µs that lie between the first and last row of an interval."""
    if step < 1:
        raise InvalidInput(f"the step is at least 1 µs, not {step}")
    _check(destination, source.layout.count)

    def work(stretch: Stretch) -> Array:
        times = stretch.rows[TIMESTAMP]
        if not len(times):
            return np.empty(0, destination.layout.rows)
        low, high = max(stretch.start, int(times[0])), min(stretch.end - 1, int(times[-1]))
        grid = np.arange(-(-low // step), high // step + 1, dtype=np.int64) * step
        out = np.empty(len(grid), destination.layout.rows)
        out[TIMESTAMP] = grid
        # relative to the first, so that float64 holds every µs
        base = times[0]
        for place in range(source.layout.count):
            out[DATA][:, place] = np.interp(
                (grid - base).astype(np.float64), (times - base).astype(np.float64), stretch.rows[DATA][:, place]
            )
        return out

    return process(source, destination, work, before=1, after=1, **bounds)


def mean_filter(source: Stream, destination: Stream, width: int, **bounds: Any) -> Intervals:
    """Moving mean over `width` rows (odd) around each; narrower at the ends of an interval."""
    return _windowed(source, destination, width, _means, bounds)


def median_filter(source: Stream, destination: Stream, width: int, **bounds: Any) -> Intervals:
    """Moving median over `width` rows (odd) around each; narrower at the ends of an interval."""
    return _windowed(source, destination, width, _medians, bounds)


def _windowed(source: Stream, destination: Stream, width: int, kernel: Any, bounds: dict[str, Any]) -> Intervals:
    if width < 1 or width % 2 == 0:
        raise InvalidInput(f"the width is an odd number of rows, not {width}")
    _check(destination, source.layout.count)
    half = width // 2

    def work(stretch: Stretch) -> Array:
        out = np.empty(stretch.last - stretch.first, destination.layout.rows)
        out[TIMESTAMP] = stretch.own[TIMESTAMP]
        if len(out):
            out[DATA] = kernel(stretch.rows[DATA].astype(np.float64), half)[stretch.first : stretch.last]
        return out

    return process(source, destination, work, before=half, after=half, **bounds)


def _means(values: Array, half: int) -> Array:
    """Means of windows that are cut off at the ends, in float64."""
    count = len(values)
    # sums of each window by itself: differences of running sums would carry an error along
    padded = np.concatenate([np.zeros((half, values.shape[1])), values, np.zeros((half, values.shape[1]))])
    sums = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1, axis=0).sum(axis=-1)
    rows = np.arange(count)
    widths = np.minimum(rows + half, count - 1) - np.maximum(rows - half, 0) + 1
    means: Array = sums / widths[:, None]
    return means


def _medians(values: Array, half: int) -> Array:
    padding = np.full((half, values.shape[1]), np.nan)
    padded = np.concatenate([padding, values, padding])
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1, axis=0)
    medians: Array = np.nanmedian(windows, axis=-1)
    return medians


def _check(destination: Stream, count: int) -> None:
    layout: Layout = destination.layout
    if layout.count != count or layout.dtype.kind != "f":
        raise InvalidInput(
            f"{destination.path} has the layout {layout.name}", hint=f"float32_{count} or float64_{count} takes this"
        )
