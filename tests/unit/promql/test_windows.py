"""Everything reckoned over windows, against plain Python over each window."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from kymograph.promql.frame import Grid
from kymograph.promql.overtime import OVER_TIME, quantiles
from kymograph.promql.rates import changes, delta, deriv, increase, irate, rate, resets
from kymograph.promql.source import SeriesSet
from kymograph.promql.windows import Windows, exact_sum, positions

S = 1_000_000


def _set(seed: int, *, size: int = 5, counters: bool = False) -> SeriesSet:
    rng = np.random.default_rng(seed)
    times, values, offsets = [], [], [0]
    for number in range(size):
        count = 0 if number == 1 else int(rng.integers(1, 200))
        times.append(np.sort(rng.choice(1000, count, replace=False)) * S)
        steps = rng.normal(0, 100, count)
        if counters:
            steps = np.cumsum(np.abs(steps))
            steps[count // 2 :] -= steps[count // 2] if count else 0
        values.append(steps)
        offsets.append(offsets[-1] + count)
    return SeriesSet(
        [(("n", str(i)),) for i in range(size)], np.concatenate(times), np.concatenate(values), np.array(offsets)
    )


GRIDS = [
    (Grid(0, 7 * S, 150), 60 * S),
    (Grid(-50 * S, 100 * S, 12), 30 * S),
    (Grid(900 * S, 0, 1), 500 * S),
    (Grid(500 * S, 0, 3), 100 * S),
    (Grid(0, S, 1000), 400 * S),
]
Points = list[tuple[int, float]]


def _naive(
    series: SeriesSet, grid: Grid, width: int, function: Callable[[Points, int], float | None]
) -> list[list[float | None]]:
    found = []
    for row in range(len(series.labels)):
        part = slice(series.offsets[row], series.offsets[row + 1])
        points = list(zip(series.times[part].tolist(), series.values[part].tolist(), strict=True))
        answers: list[float | None] = []
        for end in grid.times.tolist():
            window = [(t, v) for t, v in points if end - width < t <= end]
            answers.append(function(window, end) if window else None)
        found.append(answers)
    return found


def _values(function: Callable[[list[float]], float]) -> Callable[[Points, int], float | None]:
    return lambda points, end: function([v for _, v in points])


def _mad(values: list[float]) -> float:
    middle = statistics.median(values)
    return statistics.median(abs(v - middle) for v in values)


NAIVE: dict[str, Callable[[Points, int], float | None]] = {
    "sum_over_time": _values(math.fsum),
    "avg_over_time": _values(statistics.fmean),
    "min_over_time": _values(min),
    "max_over_time": _values(max),
    "count_over_time": _values(lambda v: float(len(v))),
    "last_over_time": _values(lambda v: v[-1]),
    "first_over_time": _values(lambda v: v[0]),
    "stddev_over_time": _values(statistics.pstdev),
    "stdvar_over_time": _values(statistics.pvariance),
    "median_over_time": _values(statistics.median),
    "mad_over_time": _values(_mad),
    "sum2_over_time": _values(lambda v: math.fsum(x * x for x in v)),
    "range_over_time": _values(lambda v: max(v) - min(v)),
    "distinct_over_time": _values(lambda v: float(len(set(v)))),
    "ts_of_max_over_time": lambda points, end: max(points, key=lambda p: (p[1], p[0]))[0] / 1e6,
    "tmin_over_time": lambda points, end: min(points, key=lambda p: (p[1], p[0]))[0] / 1e6,
    "lag": lambda points, end: (end - points[-1][0]) / 1e6,
    "lifetime": lambda points, end: (points[-1][0] - points[0][0]) / 1e6,
    "integrate": lambda points, end: math.fsum(
        v * (t - s) / 1e6 for (s, v), (t, _) in zip(points, [*points[1:], (end, 0.0)], strict=True)
    ),
}


def _compare(found: tuple[np.ndarray, np.ndarray], wanted: list[list[float | None]]) -> None:
    values, present = found
    there = np.array([[answer is not None for answer in answers] for answers in wanted])
    assert np.array_equal(present, there), np.argwhere(present != there)[:5]
    numbers = np.array([[np.nan if answer is None else answer for answer in answers] for answers in wanted])
    np.testing.assert_allclose(values[there], numbers[there], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("place", range(len(GRIDS)))
@pytest.mark.parametrize("name", sorted(NAIVE))
def test_over_time(name: str, place: int) -> None:
    grid, width = GRIDS[place]
    series = _set(place)
    with np.errstate(all="ignore"):
        found = OVER_TIME[name](Windows(series, grid, width, grid.times))
    _compare(found, _naive(series, grid, width, NAIVE[name]))


def _increase(points: Points, end: int, width: int, *, counter: bool, per_second: bool) -> float | None:
    if len(points) < 2:
        return None
    gain = points[-1][1] - points[0][1]
    if counter:
        gain += sum(a for (_, a), (_, b) in pairwise(points) if b < a)
    sampled = (points[-1][0] - points[0][0]) / 1e6
    average = sampled / (len(points) - 1)
    start, rest = (points[0][0] - (end - width)) / 1e6, (end - points[-1][0]) / 1e6
    start = average / 2 if start >= 1.1 * average else start
    if counter and gain > 0 and points[0][1] >= 0:
        start = min(start, sampled * points[0][1] / gain)
    rest = average / 2 if rest >= 1.1 * average else rest
    return gain * (sampled + start + rest) / sampled / (width / 1e6 if per_second else 1)


@pytest.mark.parametrize("place", range(len(GRIDS)))
@pytest.mark.parametrize("name", ["rate", "increase", "delta"])
def test_extrapolation(name: str, place: int) -> None:
    grid, width = GRIDS[place]
    series = _set(place, counters=True)
    wanted = _naive(
        series,
        grid,
        width,
        lambda points, end: _increase(points, end, width, counter=name != "delta", per_second=name == "rate"),
    )
    with np.errstate(all="ignore"):
        found = {"rate": rate, "increase": increase, "delta": delta}[name](Windows(series, grid, width, grid.times))
    _compare(found, wanted)


@pytest.mark.parametrize("place", range(len(GRIDS)))
def test_changes_resets_irate_deriv(place: int) -> None:
    grid, width = GRIDS[place]
    series = _set(place, counters=True)
    windows = Windows(series, grid, width, grid.times)
    pairs = lambda points: list(pairwise(points))  # noqa: E731
    with np.errstate(all="ignore"):
        _compare(changes(windows), _naive(series, grid, width, lambda p, e: sum(a[1] != b[1] for a, b in pairs(p))))
        _compare(resets(windows), _naive(series, grid, width, lambda p, e: sum(b[1] < a[1] for a, b in pairs(p))))
        _compare(
            irate(windows),
            _naive(
                series,
                grid,
                width,
                lambda p, e: (
                    None
                    if len(p) < 2
                    else (p[-1][1] - (p[-2][1] if p[-1][1] >= p[-2][1] else 0)) / (p[-1][0] - p[-2][0]) * 1e6
                ),
            ),
        )
        _compare(
            deriv(windows),
            _naive(
                series,
                grid,
                width,
                lambda p, e: (
                    None
                    if len(p) < 2
                    else statistics.linear_regression([t / 1e6 for t, _ in p], [v for _, v in p]).slope
                ),
            ),
        )


def test_blocks_hold_the_same() -> None:
    series, grid = _set(3, size=200), Grid(0, S, 1000)
    whole = Windows(series, grid, 90 * S, grid.times)
    parts = list(whole.blocks())
    pieces = [OVER_TIME["max_over_time"](part)[0] for part in parts]
    assert len(parts) > 3
    assert [one for part in parts for one in part.labels] == series.labels
    present = whole.count > 0
    assert np.array_equal(np.concatenate(pieces)[present], OVER_TIME["max_over_time"](whole)[0][present])


def test_quantiles_take_one_parameter_per_step() -> None:
    series, grid = _set(4), Grid(100 * S, 100 * S, 5)
    windows = Windows(series, grid, 100 * S, grid.times)
    q = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    found, present = quantiles(windows, q)
    for row, step in np.argwhere(present):
        part = series.values[windows.lo[row, step] : windows.hi[row, step]]
        assert found[row, step] == pytest.approx(np.quantile(part, q[step]))


def test_positions_before_and_after_all_samples() -> None:
    series = SeriesSet([(), ()], np.array([10, 20, 15]), np.zeros(3), np.array([0, 2, 3]))
    assert positions(series, Grid(0, 5, 6)).tolist() == [[0, 0, 1, 1, 2, 2], [2, 2, 2, 3, 3, 3]]


def test_exact_sum_beyond_float64_on_the_way() -> None:
    big = 9.988465674311579e307
    assert exact_sum(np.array([big, big, -big, -big, 1.5])) == 1.5 or exact_sum(np.array([big, big, -big, -big])) == 0
