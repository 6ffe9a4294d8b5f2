"""Statistics over windows: `*_over_time` and MetricsQL's relatives.

Every function takes Windows (and scalars [T]) and gives values and presence, both [S, T].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from kymograph.promql.labels import Bools
from kymograph.promql.rates import Answer
from kymograph.promql.source import Floats, SeriesSet
from kymograph.promql.windows import Windows


def _there(windows: Windows) -> Bools:
    found: Bools = windows.count >= 1
    return found


def sums(windows: Windows) -> Answer:
    return windows.sums(windows.values)[0], _there(windows)


def means(windows: Windows) -> Answer:
    total, wide = windows.sums(windows.values)
    # a sum beyond float64 still has a mean within it
    mean = np.where(np.isfinite(total), total / windows.count, (wide / windows.count).astype(np.float64))
    return mean, _there(windows)


def counts(windows: Windows) -> Answer:
    return windows.count.astype(np.float64), _there(windows)


def per_window(windows: Windows, reckon: Callable[[Floats, Bools], Floats], least: int = 1) -> Floats:
    """A function of padded values [R, M] and their mask, applied to every window of at least so many samples."""
    found = np.zeros(windows.lo.size)
    for part, places, inside in windows.padded(least):
        found[part] = reckon(windows.values[places], inside)
    return found.reshape(windows.lo.shape)


def variance(values: Floats, inside: Bools) -> Floats:
    """Population variance of each row; the first value is taken off first, so that equal values give 0 exactly."""
    count = inside.sum(axis=1)
    wide = values.astype(np.longdouble)
    shifted = np.where(inside, wide - wide[:, :1], 0.0)
    mean = shifted.sum(axis=1) / count
    apart = np.where(inside, shifted - mean[:, None], 0.0)
    found = ((apart * apart).sum(axis=1) / count).astype(np.float64)
    # an infinite value is no distance from itself, but its variance is not 0
    return np.where(np.isinf(values[:, 0]), np.nan, found)


def quantile(values: Floats, inside: Bools, q: Any) -> Floats:
    """The q-quantile of each row, linear between neighbours, NaN counting as the smallest value."""
    ranked = np.sort(np.where(inside, values, np.nan), axis=1)
    count = inside.sum(axis=1)
    blank = (np.isnan(values) & inside).sum(axis=1)
    rank = np.clip(np.nan_to_num(q), 0.0, 1.0) * (count - 1)
    low = np.floor(rank).astype(np.int64)
    high = np.minimum(low + 1, count - 1)
    weight = rank - low
    rows = np.arange(len(values))
    below, above = (np.where(i < blank, np.nan, ranked[rows, np.maximum(i - blank, 0)]) for i in (low, high))
    # between equal infinities, and at a rank that is one value's own, there is nothing to interpolate
    found = np.where(weight == 0, below, below * (1 - weight) + above * weight)
    found = np.where(np.isnan(q), np.nan, np.where(q < 0, -np.inf, np.where(q > 1, np.inf, found)))
    return np.asarray(found, np.float64)


def quantiles(windows: Windows, q: Floats) -> Answer:
    found = np.zeros(windows.lo.size)
    for part, places, inside in windows.padded():
        found[part] = quantile(windows.values[places], inside, q[part % len(q)])
    return found.reshape(windows.lo.shape), _there(windows)


def _between_quartiles(values: Floats, inside: Bools) -> Floats:
    return quantile(values, inside, 0.75) - quantile(values, inside, 0.25)


def _apart_from_median(values: Floats, inside: Bools) -> Floats:
    middle = quantile(values, inside, 0.5)
    found = quantile(np.abs(values - middle[:, None]), inside, 0.5)
    return np.where((np.isnan(values) & inside).any(axis=1), np.nan, found)


def _first_place(values: Floats, inside: Bools, last: bool, largest: bool) -> Any:
    number = inside & ~np.isnan(values)
    # NaN counts only where there is nothing else
    used = inside & (number | ~number.any(axis=1, keepdims=True))
    worth = np.where(number, values if largest else -values, -np.inf)
    hit = used & ((worth == worth.max(axis=1, where=used, initial=-np.inf)[:, None]) | ~number)
    return (hit.shape[1] - 1 - hit[:, ::-1].argmax(axis=1)) if last else hit.argmax(axis=1)


def when(windows: Windows, *, largest: bool) -> Answer:
    """Seconds of the last sample with the largest or smallest value."""
    found = np.zeros(windows.lo.size)
    for part, places, inside in windows.padded():
        column = _first_place(windows.values[places], inside, True, largest)
        found[part] = windows.times[places[np.arange(len(part)), column]] / 1e6
    return found.reshape(windows.lo.shape), _there(windows)


def _at_first(windows: Windows) -> Answer:
    return windows.at(windows.times, windows.lo) / 1e6, _there(windows)


def _at_last(windows: Windows) -> Answer:
    return windows.at(windows.times, windows.hi - 1) / 1e6, _there(windows)


def share(windows: Windows, bound: Floats, compare: np.ufunc, *, of_all: bool) -> Answer:
    """How many samples compare to the bound (one per step), or which part of all."""
    found = np.zeros(windows.lo.size)
    for part, places, inside in windows.padded():
        values, limit = windows.values[places], bound[part % len(bound)][:, None]
        hits = (compare(values, limit) & inside).sum(axis=1)
        found[part] = hits / inside.sum(axis=1) if of_all else hits
    return found.reshape(windows.lo.shape), _there(windows)


def _steps(windows: Windows) -> Floats:
    """From each sample's predecessor to it."""
    found = np.zeros(len(windows.values))
    found[1:] = np.diff(windows.values)
    return found


def _sum_of_steps(windows: Windows, *, up: bool) -> Answer:
    steps = _steps(windows)
    part = np.maximum(steps, 0.0) if up else np.maximum(-steps, 0.0)
    return windows.steps_of(part).sums(part)[0], _there(windows)


def _count_of_steps(windows: Windows, *, up: bool) -> Answer:
    steps = _steps(windows)
    return windows.flagged(steps > 0 if up else steps < 0).astype(np.float64), _there(windows)


def _slope(windows: Windows, before: Any) -> Answer:
    """Rise from the sample at the index `before` to the last one, per second."""
    seconds = (windows.at(windows.times, windows.hi - 1) - windows.at(windows.times, before)) / 1e6
    return (windows.last - windows.at(windows.values, before)) / seconds, windows.count >= 2


def _zscore(windows: Windows) -> Answer:
    spread = np.sqrt(per_window(windows, variance))
    apart = windows.last - means(windows)[0]
    return np.where(apart == 0, 0.0, apart / spread), _there(windows)


def integral(windows: Windows) -> Answer:
    """MetricsQL `integrate`: each value times the seconds until the next one, the last until the window's end.

    What stands when the window begins counts until its first sample, so that windows side by side add up.
    """
    areas = np.zeros(len(windows.values))
    areas[1:] = windows.values[:-1] * (np.diff(windows.times) / 1e6)
    some, stands = _there(windows), windows.before >= 0
    rest = windows.last * (windows.ends - windows.at(windows.times, windows.hi - 1)) / 1e6
    begin = np.where(some, windows.at(windows.times, windows.lo), windows.ends)
    ahead = windows.at(windows.values, windows.before) * (begin - windows.starts) / 1e6
    found = windows.steps_of(areas).sums(areas)[0] + np.where(some, rest, 0.0) + np.where(stands, ahead, 0.0)
    return found, some | stands


def _ends_added(left: Floats, right: Floats) -> tuple[Floats, Floats]:
    """Sums of neighbours, and what float64 lost of them (Knuth's TwoSum); halves where only the sum overflows."""
    total = left + right
    back = total - left
    lost = (left - (total - back)) + (right - back)
    over = np.isinf(total) & np.isfinite(left) & np.isfinite(right)
    half = np.where(over, left / 2 + right / 2, total / 2)
    return half, np.where(np.isfinite(total), lost / 2, 0.0)


def discrete_integral(windows: Windows, strategy: Floats | None = None) -> Answer:
    """Prometheus' `integral`: over the samples alone, NaN counting as 0.

    Args:
        strategy: one per step: 0 takes the value at the left end of each interval, 1 at the right, anything else the
            mean of both.
    """
    seconds = np.diff(windows.times) / 1e6
    values = np.where(np.isnan(windows.values), 0.0, windows.values)
    asked = np.full(windows.lo.shape[1], 2.0) if strategy is None else strategy
    found = np.zeros(windows.lo.shape)
    left, right = values[:-1], values[1:]

    def area(heights: Floats) -> Floats:
        areas = np.zeros(len(values))
        areas[1:] = np.where(heights == 0, 0.0, heights * seconds)
        return windows.steps_of(areas).sums(areas)[0]

    for used, heights in (
        (asked == 0, (left,)),
        (asked == 1, (right,)),
        ((asked != 0) & (asked != 1), _ends_added(left, right)),
    ):
        if used.any():
            found[:, used] = sum(area(one)[:, used] for one in heights)
    return found, _there(windows)


def _signed(windows: Windows, sign: Callable[..., Any]) -> Windows:
    """The same windows over the values above, or below, zero; 0 in place of the others."""
    series = windows.series
    values = SeriesSet(series.labels, series.times, sign(series.values, 0.0), series.offsets)
    return replace(windows, series=values)


def _lag(windows: Windows) -> Answer:
    return (windows.ends - windows.at(windows.times, windows.hi - 1)) / 1e6, _there(windows)


def _lifetime(windows: Windows) -> Answer:
    span = windows.at(windows.times, windows.hi - 1) - windows.at(windows.times, windows.lo)
    return span / 1e6, _there(windows)


def _interval(windows: Windows) -> Answer:
    return _lifetime(windows)[0] / (windows.count - 1), windows.count >= 2


def _distinct(values: Floats, inside: Bools) -> Floats:
    ranked = np.sort(np.where(inside, values, values[:, :1]), axis=1)
    found: Floats = 1.0 + (np.diff(ranked, axis=1) > 0).sum(axis=1)
    return found


def _mode(values: Floats, inside: Bools) -> Floats:
    ranked = np.sort(np.where(inside, values, np.nan), axis=1)
    best, run, longest = ranked[:, 0].copy(), np.ones(len(values)), np.ones(len(values))
    for column in range(1, ranked.shape[1]):
        run = np.where(ranked[:, column] == ranked[:, column - 1], run + 1, 1)
        more = run > longest
        best, longest = np.where(more, ranked[:, column], best), np.where(more, run, longest)
    return best


def _geometric(values: Floats, inside: Bools) -> Floats:
    product: Floats = np.prod(np.where(inside, values, 1.0), axis=1)
    found: Floats = product ** (1 / inside.sum(axis=1))
    return found


OVER_TIME: dict[str, Callable[..., Answer]] = {
    "sum_over_time": sums,
    "avg_over_time": means,
    "count_over_time": counts,
    "min_over_time": lambda w: (w.lowest(), _there(w)),
    "max_over_time": lambda w: (w.highest(), _there(w)),
    "first_over_time": lambda w: (w.first, _there(w)),
    "last_over_time": lambda w: (w.last, _there(w)),
    "present_over_time": lambda w: (np.ones(w.lo.shape), _there(w)),
    "stddev_over_time": lambda w: (np.sqrt(per_window(w, variance)), _there(w)),
    "stdvar_over_time": lambda w: (per_window(w, variance), _there(w)),
    "mad_over_time": lambda w: (per_window(w, _apart_from_median), _there(w)),
    "median_over_time": lambda w: quantiles(w, np.array([0.5])),
    "ts_of_max_over_time": lambda w: when(w, largest=True),
    "ts_of_min_over_time": lambda w: when(w, largest=False),
    "ts_of_first_over_time": _at_first,
    "ts_of_last_over_time": _at_last,
    "tmax_over_time": lambda w: when(w, largest=True),
    "tmin_over_time": lambda w: when(w, largest=False),
    "tfirst_over_time": _at_first,
    "tlast_over_time": _at_last,
    "share_le_over_time": lambda w, bound: share(w, bound, np.less_equal, of_all=True),
    "share_gt_over_time": lambda w, bound: share(w, bound, np.greater, of_all=True),
    "share_eq_over_time": lambda w, bound: share(w, bound, np.equal, of_all=True),
    "count_le_over_time": lambda w, bound: share(w, bound, np.less_equal, of_all=False),
    "count_gt_over_time": lambda w, bound: share(w, bound, np.greater, of_all=False),
    "count_eq_over_time": lambda w, bound: share(w, bound, np.equal, of_all=False),
    "count_ne_over_time": lambda w, bound: share(w, bound, np.not_equal, of_all=False),
    "ascent_over_time": lambda w: _sum_of_steps(w, up=True),
    "descent_over_time": lambda w: _sum_of_steps(w, up=False),
    "increases_over_time": lambda w: _count_of_steps(w, up=True),
    "decreases_over_time": lambda w: _count_of_steps(w, up=False),
    "ideriv": lambda w: _slope(w, w.hi - 2),
    "deriv_fast": lambda w: _slope(w, w.lo),
    "rate_over_sum": lambda w: (sums(w)[0] / (w.width / 1e6), _there(w)),
    "zscore_over_time": _zscore,
    "sum2_over_time": lambda w: (w.sums(w.values * w.values)[0], _there(w)),
    "range_over_time": lambda w: (w.highest() - w.lowest(), _there(w)),
    "iqr_over_time": lambda w: (per_window(w, _between_quartiles), _there(w)),
    "geomean_over_time": lambda w: (per_window(w, _geometric), _there(w)),
    "mode_over_time": lambda w: (per_window(w, _mode), _there(w)),
    "distinct_over_time": lambda w: (per_window(w, _distinct), _there(w)),
    "integral": discrete_integral,
    "integrate": integral,
    "integrate_positive": lambda w: integral(_signed(w, np.maximum)),
    "integrate_negative": lambda w: integral(_signed(w, np.minimum)),
    "sum_positive_over_time": lambda w: sums(_signed(w, np.maximum)),
    "sum_negative_over_time": lambda w: sums(_signed(w, np.minimum)),
    "lag": _lag,
    "lifetime": _lifetime,
    "scrape_interval": _interval,
}


ROLLUPS = {
    "rollup_candlestick": {"open": "first", "close": "last", "low": "min", "high": "max"},
}
_MIN_MAX_AVG = {"min": "min", "max": "max", "avg": "avg"}


def rollup_names(function: str) -> dict[str, str]:
    """What a `rollup*` function gives: the value of its label `rollup`, and the statistic behind it."""
    return ROLLUPS.get(function, _MIN_MAX_AVG)


def rollup_part(windows: Windows, function: str, what: str) -> Answer:
    """One statistic over the window of the values, or of what lies between each sample and the one before it."""
    reckon = OVER_TIME[f"{rollup_names(function)[what]}_over_time"]
    if function in ("rollup", "rollup_candlestick"):
        return reckon(windows)
    values, seconds = windows.values, np.ones(len(windows.values))
    seconds[1:] = np.diff(windows.times) / 1e6
    if function == "rollup_scrape_interval":
        return reckon(windows.steps_of(seconds))
    steps = _steps(windows)
    if function in ("rollup_rate", "rollup_increase"):
        steps[1:] = np.where(steps[1:] < 0, values[1:], steps[1:])
    if function in ("rollup_rate", "rollup_deriv"):
        steps = steps / seconds
    return reckon(windows.steps_of(steps))
