"""Rates and differences of counters and gauges over windows, as Prometheus reckons them.

Every function takes Windows and gives values and presence, both [S, T]. Seconds are µs / 1e6.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kymograph.promql.labels import Bools
from kymograph.promql.source import Floats
from kymograph.promql.windows import Windows

Answer = tuple[Floats, Bools]


def fell(values: Floats) -> Bools:
    """Per sample: whether it is less than the one before (of whatever series)."""
    flags: Bools = np.zeros(len(values), np.bool_)
    flags[1:] = values[1:] < values[:-1]
    return flags


def lost(windows: Windows) -> Floats:
    """Per sample: what a counter had reached before it was reset there, otherwise 0."""
    flags = fell(windows.values)
    starts = windows.series.offsets[:-1]
    flags[starts[starts < len(flags)]] = False
    return np.where(flags, np.roll(windows.values, 1), 0.0)


def _gain(windows: Windows, counter: bool) -> Floats:
    """Last less first; of a counter with what was lost at resets added."""
    gain = windows.last - windows.first
    if not counter:
        return gain
    gone = lost(windows)
    if gone.any():
        gain += windows.steps_of(gone).sums(gone)[0]
    return gain


def extrapolated(windows: Windows, *, counter: bool, per_second: bool) -> Answer:
    """`rate`, `increase` and `delta`: the difference, extrapolated to the window's ends where the samples reach near."""
    span = windows.at(windows.times, windows.lo), windows.at(windows.times, windows.hi - 1)
    gain = _gain(windows, counter)
    found = reach(windows, gain, windows.first, span, windows.count, counter=counter, per_second=per_second)
    return found, windows.count >= 2


def reach(
    windows: Windows,
    gain: Floats,
    low: Floats,
    span: tuple[Any, Any],
    count: Any,
    *,
    counter: bool,
    per_second: bool,
) -> Floats:
    """A gain between the first and the last sample, extrapolated to the window's ends where the samples reach near.

    Near is 1.1 times their average distance, otherwise half of it; a counter is not followed below zero.

    Args:
        low: value of the first sample.
        span: times of the first and of the last sample, µs.
        count: samples.
    """
    first, last = span
    sampled = (last - first) / 1e6
    average = sampled / (count - 1)
    to_start = (first - (windows.ends - windows.width)) / 1e6
    to_end = (windows.ends - last) / 1e6
    near = average * 1.1
    to_start = np.where(to_start >= near, average / 2, to_start)
    if counter:
        to_zero = sampled * (low / gain)
        shorter = (gain > 0) & (low >= 0) & (to_zero < to_start)
        to_start = np.where(shorter, to_zero, to_start)
    to_end = np.where(to_end >= near, average / 2, to_end)
    factor = (sampled + to_start + to_end) / sampled
    if per_second:
        factor = factor / (windows.width / 1e6)
    found: Floats = gain * factor
    return found


def rate(windows: Windows) -> Answer:
    return extrapolated(windows, counter=True, per_second=True)


def increase(windows: Windows) -> Answer:
    return extrapolated(windows, counter=True, per_second=False)


def delta(windows: Windows) -> Answer:
    return extrapolated(windows, counter=False, per_second=False)


def irate(windows: Windows) -> Answer:
    last, before = windows.last, windows.at(windows.values, windows.hi - 2)
    seconds = (windows.at(windows.times, windows.hi - 1) - windows.at(windows.times, windows.hi - 2)) / 1e6
    return np.where(last < before, last, last - before) / seconds, windows.count >= 2


def idelta(windows: Windows) -> Answer:
    return windows.last - windows.at(windows.values, windows.hi - 2), windows.count >= 2


def increase_pure(windows: Windows) -> Answer:
    """MetricsQL: the counter's gain since the sample before the window, or since 0 where there is none."""
    some, stands = windows.count >= 1, windows.before >= 0
    begun = windows.first - windows.at(windows.values, windows.before) + windows.at(lost(windows), windows.lo)
    gain = _gain(windows, True) + np.where(stands, begun, windows.first)
    return np.where(some, gain, 0.0), some | stands


def changes(windows: Windows) -> Answer:
    values = windows.values
    flags = np.zeros(len(values), np.bool_)
    flags[1:] = (values[1:] != values[:-1]) & ~(np.isnan(values[1:]) & np.isnan(values[:-1]))
    return windows.flagged(flags).astype(np.float64), windows.count >= 1


def resets(windows: Windows) -> Answer:
    return windows.flagged(fell(windows.values)).astype(np.float64), windows.count >= 1


def deriv(windows: Windows) -> Answer:
    """Slope of the least squares line through the window, per second."""
    slope, _ = _regressed(windows, at_step=False)
    return slope, windows.count >= 2


def predict_linear(windows: Windows, seconds: Floats) -> Answer:
    """Value of that line so many seconds after the evaluation time."""
    slope, level = _regressed(windows, at_step=True)
    return slope * seconds + level, windows.count >= 2


def _total(terms: Floats) -> Floats:
    """Sums of rows, with the digits of a compensated sum."""
    found: Floats = terms.sum(axis=1, dtype=np.longdouble).astype(np.float64)
    return found


def _regressed(windows: Windows, *, at_step: bool) -> tuple[Floats, Floats]:
    """Slope and level of the line at the first sample of each window, or at the evaluation time."""
    slope, level = np.zeros(windows.lo.size), np.zeros(windows.lo.size)
    for part, places, inside in windows.padded(2):
        values, times = windows.values[places], windows.times[places]
        origin = windows.steps[part % len(windows.steps)] if at_step else times[:, 0]
        x = np.where(inside, (times - origin[:, None]) / 1e6, 0.0)
        y = np.where(inside, values, 0.0)
        count = inside.sum(axis=1)
        sum_x, sum_y, sum_xy, sum_xx = (_total(terms) for terms in (x, y, x * y, x * x))
        slope[part] = (sum_xy - sum_x * sum_y / count) / (sum_xx - sum_x * sum_x / count)
        level[part] = sum_y / count - slope[part] * sum_x / count
        constant = (values == values[:, :1]).all(axis=1)
        infinite = np.isinf(values[:, 0])
        slope[part] = np.where(constant, np.where(infinite, np.nan, 0.0), slope[part])
        level[part] = np.where(constant, np.where(infinite, np.nan, values[:, 0]), level[part])
    return slope.reshape(windows.lo.shape), level.reshape(windows.lo.shape)


def smoothed(windows: Windows, smoothing: Floats, trend: Floats) -> Answer:
    """Double exponential smoothing (Holt's linear method): the level at the last sample. One factor each per step."""
    found = np.zeros(windows.lo.size)
    for part, places, inside in windows.padded(2):
        values = windows.values[places]
        share, tilt = smoothing[part % len(smoothing)], trend[part % len(trend)]
        before, level = np.zeros(len(part)), values[:, 0].copy()
        slope = values[:, 1] - values[:, 0]
        for column in range(1, values.shape[1]):
            more = inside[:, column]
            if column > 1:
                slope = np.where(more, tilt * (level - before) + (1 - tilt) * slope, slope)
            new = share * values[:, column] + (1 - share) * (level + slope)
            before, level = np.where(more, level, before), np.where(more, new, level)
        found[part] = level
    return found.reshape(windows.lo.shape), windows.count >= 2
