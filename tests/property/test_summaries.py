"""Summaries of any split, put together again, are those of all samples at once."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kymograph.model.summary import (
    STATISTICS,
    Summaries,
    blended,
    ceil_to,
    combined,
    floor_to,
    joined,
    samples,
    summarised,
    together,
)

BITS = ("count", "min", "max", "first", "last", "first_time", "last_time")
NUMBERS = st.floats(-1e6, 1e6) | st.integers(-5, 5).map(float) | st.just(0.0)
ODD = NUMBERS | st.sampled_from([math.inf, -math.inf, math.nan, -0.0])


@st.composite
def series(draw: Any, values: Any = NUMBERS) -> tuple[Any, Any, Any]:
    """Series, times and values of up to three series, sorted, with times in which many buckets begin."""
    rows = {}
    for number in range(draw(st.integers(1, 3))):
        for time in draw(st.lists(st.integers(-40, 200), min_size=1, max_size=30, unique=True)):
            rows[number, time * 500_000] = draw(values)
    keys = sorted(rows)
    return (
        np.array([one for one, _ in keys], np.int64),
        np.array([time for _, time in keys], np.int64),
        np.array([rows[key] for key in keys], np.float64),
    )


def naive(times: list[int], values: list[float]) -> dict[str, float]:
    """The statistics of one bucket, as their definitions say."""
    mean = math.fsum(values) / len(values)
    steps = list(itertools.pairwise(values))
    gaps = [(later - earlier) / 1e6 for earlier, later in itertools.pairwise(times)]
    return {
        "count": len(values),
        "sum": math.fsum(values),
        "min": min(values),
        "max": max(values),
        "first": values[0],
        "last": values[-1],
        "first_time": times[0],
        "last_time": times[-1],
        "m2": math.fsum((value - mean) ** 2 for value in values),
        "positive": math.fsum(value for value in values if value > 0),
        "negative": math.fsum(value for value in values if value < 0),
        "increase": math.fsum(after - before if after >= before else after for before, after in steps),
        "integral_positive": math.fsum(max(v, 0.0) * gap for v, gap in zip(values, gaps, strict=False)),
        "integral_negative": math.fsum(min(v, 0.0) * gap for v, gap in zip(values, gaps, strict=False)),
    }


def assert_same(one: Summaries, other: Summaries) -> None:
    assert one.series.tolist() == other.series.tolist()
    assert one.bucket.tolist() == other.bucket.tolist()
    scale = float(np.abs(np.concatenate([one["sum"], one["max"], one["min"], [1.0]])).max()) * 200
    for name in STATISTICS:
        left, right = one[name], other[name]
        if name in BITS:
            assert left.tobytes() == right.tobytes(), name
        else:
            np.testing.assert_allclose(left, right, rtol=1e-11, atol=1e-13 * scale * (scale if name == "m2" else 1))


@settings(max_examples=25)
@given(series(), st.sampled_from([1_000_000, 7_000_000, 60_000_000]), st.sampled_from([floor_to, ceil_to]))
def test_summaries_are_what_they_are_called(rows: Any, width: int, bucket_of: Any) -> None:
    number, times, values = rows
    found = summarised(number, bucket_of(times, width), times, values)
    assert found["count"].sum() == len(values)
    for place in range(len(found)):
        mine = (number == found.series[place]) & (bucket_of(times, width) == found.bucket[place])
        wanted = naive(times[mine].tolist(), values[mine].tolist())
        for name, value in wanted.items():
            scale = 1e-9 * max(1.0, np.abs(values).max() ** (2 if name == "m2" else 1) * 100)
            assert found[name][place] == pytest.approx(value, rel=1e-9, abs=scale), name


@settings(max_examples=25)
@given(
    series(),
    st.sampled_from([1_000_000, 3_000_000]),
    st.sampled_from([2, 15, 60]),
    st.sampled_from([floor_to, ceil_to]),
)
def test_coarser_buckets_follow_from_finer_ones(rows: Any, width: int, factor: int, bucket_of: Any) -> None:
    number, times, values = rows
    fine = summarised(number, bucket_of(times, width), times, values)
    coarse = joined(fine.of_bucket(bucket_of(fine.bucket, width * factor)))
    assert_same(coarse, summarised(number, bucket_of(times, width * factor), times, values))


@settings(max_examples=25)
@given(series(ODD), st.data())
def test_any_split_gives_the_same(rows: Any, data: Any) -> None:
    number, times, values = rows
    whole = summarised(number, times * 0, times, values)
    cuts = np.array(data.draw(st.lists(st.integers(-20_000_000, 100_000_000), max_size=5, unique=True)), np.int64)
    split = summarised(number, np.searchsorted(np.sort(cuts), times, side="right"), times, values)
    again = joined(split.of_bucket(split.bucket * 0))
    for name in BITS:
        np.testing.assert_array_equal(again[name], whole[name], name)
    for name in ("sum", "positive", "negative"):
        np.testing.assert_allclose(again[name], whole[name], rtol=1e-9, atol=1e-3)


@settings(max_examples=25)
@given(series(), st.data())
def test_samples_are_summaries_of_themselves(rows: Any, data: Any) -> None:
    number, times, values = rows
    alone = np.array(data.draw(st.lists(st.booleans(), min_size=len(times), max_size=len(times))))
    pieces = together(
        [
            samples(number[alone], times[alone], values[alone]),
            samples(number[~alone], times[~alone], values[~alone]),
        ]
    )
    whole = summarised(number, floor_to(times, 5_000_000), times, values)
    bucket = floor_to(pieces["first_time"], 5_000_000)
    assert_same(joined(pieces.of_bucket(bucket).in_order()), whole)


@settings(max_examples=25)
@given(series())
def test_equal_values_have_no_spread(rows: Any) -> None:
    number, times, values = rows
    values = np.full(len(values), 0.1)
    fine = summarised(number, floor_to(times, 1_000_000), times, values)
    assert joined(fine.of_bucket(floor_to(fine.bucket, 60_000_000)))["m2"].tolist() == [0.0] * len(
        np.unique(number * 10**6 + floor_to(times, 60_000_000) // 1_000_000)
    )


@settings(max_examples=25)
@given(series())
def test_different_series_are_put_together(rows: Any) -> None:
    number, times, values = rows
    fine = summarised(number, times * 0, times, values)
    found = combined(Summaries(fine.series * 0, fine.bucket, fine.columns).in_order())
    order = np.argsort(times, kind="stable")
    assert found["count"].tolist() == [len(values)]
    assert found["min"][0] == values.min()
    assert found["max"][0] == values.max()
    assert found["first_time"][0] == times.min()
    assert found["last_time"][0] == times.max()
    assert found["first"][0] in values[times == times.min()]
    assert found["m2"][0] == pytest.approx(((values - values.mean()) ** 2).sum(), rel=1e-9, abs=1e-3)
    assert found["increase"][0] == pytest.approx(fine["increase"].sum(), rel=1e-9, abs=1e-3)
    assert len(order) == len(values)


@settings(max_examples=25)
@given(series(), st.data())
def test_late_samples_join_their_summary(rows: Any, data: Any) -> None:
    number, times, values = rows
    late = np.array(data.draw(st.lists(st.booleans(), min_size=len(times), max_size=len(times))))
    parts = [
        summarised(number[mask], floor_to(times[mask], 60_000_000), times[mask], values[mask]) for mask in (late, ~late)
    ]
    found = blended(together(parts))
    whole = summarised(number, floor_to(times, 60_000_000), times, values)
    for name in BITS:
        assert found[name].tobytes() == whole[name].tobytes(), name
    for name in ("sum", "m2", "positive", "negative"):
        np.testing.assert_allclose(found[name], whole[name], rtol=1e-9, atol=1e-2)
    steady = np.arange(len(values), dtype=np.float64)  # a counter without resets keeps its increase
    parts = [
        summarised(number[mask], floor_to(times[mask], 60_000_000), times[mask], steady[mask]) for mask in (late, ~late)
    ]
    wanted = summarised(number, floor_to(times, 60_000_000), times, steady)["increase"]
    np.testing.assert_allclose(blended(together(parts))["increase"], wanted)
