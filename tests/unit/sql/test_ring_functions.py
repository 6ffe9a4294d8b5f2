"""The functions of rings against naive Python, value by value."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kymograph.engine.memory import MemoryEngine
from kymograph.errors import QueryError
from kymograph.sql import ring_functions as functions
from kymograph.sql.session import SqlSession

Maybe = float | None


def column(dice: np.random.Generator, rows: int) -> list[Maybe]:
    some = [None, math.nan, math.inf, -math.inf, 0.0, -0.0, 1e300, 1.0, 2.0, 3.5]
    return [
        some[int(dice.integers(0, len(some)))] if dice.random() < 0.3 else float(dice.normal()) for _ in range(rows)
    ]


def naive(work: Callable[..., Maybe]) -> Callable[..., Maybe]:
    """Null where an argument is null, or dividing fails."""

    def run(*given: Any) -> Maybe:
        if None in given:
            return None
        try:
            return work(*given)
        except ZeroDivisionError:
            return None

    return run


def same(found: Any, wanted: Any) -> bool:
    if found is None or wanted is None:
        return found is wanted
    return (math.isnan(found) and math.isnan(wanted)) or math.isclose(found, wanted, rel_tol=1e-12)


def clamped(v: float, lo: float, hi: float) -> Maybe:
    if lo > hi:
        return None
    return math.nan if math.isnan(v) or math.isnan(lo) or math.isnan(hi) else min(max(v, lo), hi)


SCALARS: dict[str, Callable[..., Maybe]] = {
    "bucket_rate": lambda now, before, s: None if not s > 0 or now < before else (now - before) / s,
    "clamp": clamped,
    "null_if_outside": lambda v, lo, hi: v if lo <= v <= hi else None,
    "series_add": lambda a, b: a + b,
    "series_sub": lambda a, b: a - b,
    "series_mul": lambda a, b: a * b,
    "series_div": lambda a, b: a / b,
}


@pytest.mark.parametrize("name", SCALARS)
def test_numbers(name: str) -> None:
    dice = np.random.default_rng(7)
    run, count, kind = functions._SCALARS[name]
    given = [column(dice, 500) for _ in range(count)]
    found = run(*(pa.array(one, kind, from_pandas=False) for one in given)).to_pylist()
    wanted = [naive(SCALARS[name])(*row) for row in zip(*given, strict=True)]
    assert all(map(same, found, wanted))


def test_times() -> None:
    dice = np.random.default_rng(8)
    edges = [-(2**63) + 1, 2**63 - 1, -(2**62), 0, -1, None]
    times = [edges[n % 12] if n % 12 < len(edges) else int(dice.integers(-(10**6), 10**6)) for n in range(600)]
    steps = [[None, 0, -5, 1, 7, 60, 2**62][n % 7] for n in range(600)]
    origins = [[0, 3, -(2**62), None][n % 4] for n in range(600)]
    arrays = [pa.array(one, pa.int64()) for one in (times, steps, origins)]

    def aligned(t: int | None, step: int | None, origin: int | None) -> int | None:
        if t is None or step is None or origin is None or step <= 0:
            return None
        begin = (t - origin) // step * step + origin
        return begin if begin >= -(2**63) else None

    assert functions.align_time(*arrays).to_pylist() == [
        aligned(*row) for row in zip(times, steps, origins, strict=True)
    ]
    assert functions.ts_bucket(*arrays[:2]).to_pylist() == [aligned(t, s, 0) for t, s in zip(times, steps, strict=True)]
    sums = [None if t is None or o is None else t + o for t, o in zip(times, origins, strict=True)]
    inside = [None if s is None or not -(2**63) <= s < 2**63 else s for s in sums]
    assert functions.shift_ts(arrays[0], arrays[2]).to_pylist() == inside


@pytest.mark.parametrize("seed", range(8))
def test_windows(seed: int) -> None:
    dice = np.random.default_rng(seed)
    values = column(dice, int(dice.integers(1, 80)))
    array = pa.array(values, pa.float64(), from_pandas=False)
    before = [None, *values[:-1]]
    with np.errstate(all="ignore"):
        steps = functions.Diff().evaluate_all([array], len(values)).to_pylist()
        parts = functions.PctChange().evaluate_all([array], len(values)).to_pylist()
    assert all(map(same, steps, [naive(lambda a, b: a - b)(*row) for row in zip(values, before, strict=True)]))
    wanted = [naive(lambda a, b: (a - b) / b)(*row) for row in zip(values, before, strict=True)]
    assert all(map(same, parts, wanted))
    for count in (1, 2, 3, 7, 64, 10**9):
        told = pa.array([count] * len(values), pa.int64())
        sums = functions.RollingSum().evaluate_all([array, told], len(values)).to_pylist()
        means = functions.RollingMean().evaluate_all([array, told], len(values)).to_pylist()
        for place in range(len(values)):
            window = [v for v in values[max(0, place + 1 - count) : place + 1] if v is not None]
            finite = all(map(math.isfinite, window))
            total = math.fsum(window) if finite and all(abs(v) < 1e290 for v in window) else sum(window)
            if not window:
                assert sums[place] is None
                assert means[place] is None
            else:
                close = math.isclose(sums[place], total, rel_tol=1e-9, abs_tol=1e-9)
                assert close or (math.isnan(sums[place]) and math.isnan(total)), (count, place)
                assert same(means[place], sums[place] / len(window))


def test_counters_step() -> None:
    values = pa.array([1.0, 4.0, 2.0, None, 5.0, 6.0, 6.0], pa.float64())
    seconds = [0, 2, 4, 5, 6, 6, 16]
    times = pa.array([second * 10**6 for second in seconds], pa.timestamp("us", "UTC"))
    found = functions.CounterStep().evaluate_all([values, times], 7).to_pylist()
    assert found == [None, 1.5, 1.0, None, None, None, 0.0]


def test_many_partitions_and_threads() -> None:
    session = SqlSession(MemoryEngine())
    text = """SELECT count(*) AS n, sum(d) AS s FROM (SELECT diff(v) OVER (PARTITION BY p ORDER BY v) AS d
              FROM (SELECT value AS v, value % 500 AS p FROM generate_series(1, 5000)))"""
    assert session.query(text).rows() == [{"n": 5000, "s": 500.0 * 4500}]


@pytest.mark.parametrize(
    "text", ["SELECT diff(1)", "SELECT rolling_sum(1, 2)", "SELECT clamp(1, 2)", "SELECT clamp('a', 1, 2)"]
)
def test_what_cannot_be_planned(text: str) -> None:
    with pytest.raises(QueryError) as caught:
        SqlSession(MemoryEngine()).query(text)
    assert "Traceback" not in str(caught.value)


def test_calls_within_calls_stay_short() -> None:
    """What is written more than once is never written more than once per level."""
    session = SqlSession(MemoryEngine())
    text = "ts_bucket(" * 30 + "5000" + ", 7)" * 30
    assert session.query(f"SELECT {text} AS t").rows() == [{"t": 4998}]
    with pytest.raises(QueryError):
        session.query(f"SELECT {'diff(' * 30}1{') OVER ()' * 30}")


@pytest.mark.parametrize("number", ["0", "-1", "NULL", "v"])
def test_a_number_of_rows_that_is_none(number: str) -> None:
    text = f"SELECT rolling_mean(v, {number}) OVER (ORDER BY v) AS m FROM (VALUES (1), (2)) AS t(v)"
    with pytest.raises(QueryError, match="one positive number") as caught:
        SqlSession(MemoryEngine()).query(text)
    assert "Traceback" not in str(caught.value)
    assert "/" not in str(caught.value)
