"""Summaries beside samples and in place of them answer as the samples do: counters that start again, markers of staleness,
values that are no numbers, late data, deletions, tiers, and filters by label."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import kymograph
from kymograph.model import spacing
from kymograph.model.time import HOUR, SECOND
from kymograph.promql import beside
from kymograph.promql.source import STALE
from kymograph.store.jobs import now_micros
from kymograph.store.store import Store

BASE = now_micros() // HOUR * HOUR - 30 * HOUR
SPAN = 3 * 3600
LABELS = [{"host": "a"}, {"host": "b"}, {"host": "b", "disk": "x"}]
ODD = [np.nan, np.inf, -np.inf, float(np.array([STALE], np.int64).view(np.float64)[0])]
# resets beside values that are no numbers are not all known
RATES = ("increase", "rate", "increase_pure", "delta")
INTEGRALS = ("integrate", "integrate_positive", "integrate_negative")
EXACT = ("count_over_time", "min_over_time", "max_over_time", "last_over_time", "first_over_time", "present_over_time")
SUMS = ("sum_over_time", "avg_over_time", "stddev_over_time", "sum_positive_over_time")
SQL = (
    "SELECT series_id, time_bucket('15m', time) AS t, count(*) AS n, sum(value) AS s, avg(value) AS m, var_pop(value) AS v"
    " FROM samples GROUP BY 1, 2 ORDER BY 1, 2"
)


def rows(seed: int, count: int, odd: bool, kind: str) -> tuple[Any, Any, Any]:
    """Series, seconds and values; some on the edges of buckets and just beside them."""
    random = np.random.default_rng(seed)
    seconds = np.where(
        random.random(count) < 0.2, random.integers(0, SPAN // 60, count) * 60.0, random.random(count) * SPAN
    )
    seconds = np.unique(np.round(seconds + random.choice([0, 0, 1e-6, -1e-6], count), 6))
    seconds = seconds[(seconds > 0) & (seconds < SPAN)]
    values = random.integers(-400, 400, len(seconds)) / 4
    if kind == "counter":
        values = np.cumsum(random.integers(0, 9, len(seconds))) % 50 * 1.0
    if odd:
        places = random.random(len(seconds)) < 0.01
        values[places] = random.choice(ODD, places.sum())
    return random.integers(0, len(LABELS), len(seconds)), seconds, values


def write(stores: tuple[Store, ...], batch: tuple[Any, Any, Any]) -> None:
    series, seconds, values = batch
    for store in stores:
        ids = np.array(store.series_ids([("m", labels) for labels in LABELS]))
        store.append_samples(ids[series], BASE + np.round(seconds * 1e6).astype(np.int64), values)


def check(store: Store, plain: Store, functions: Any) -> None:
    for number, function in enumerate(functions):
        width = ("15m", "30m", "1h")[number % 3]
        span: dict[str, Any] = {"start": BASE + HOUR, "end": BASE + 3 * HOUR, "step": "15m"}
        found, wanted = (one.promql_range(f"{function}(m[{width}])", **span) for one in (store, plain))
        note = f"{function} {width} {found.tiers}"
        assert found.labels == wanted.labels, note
        assert found.times.tolist() == wanted.times.tolist(), note
        np.testing.assert_allclose(found.values, wanted.values, rtol=1e-9, atol=1e-6, err_msg=note)
        if function in EXACT:
            np.testing.assert_array_equal(found.values, wanted.values, err_msg=note)
        assert not found.warnings, note


def check_sql(store: Store, plain: Store) -> None:
    found, wanted = store.sql(SQL), plain.sql(SQL)
    one, other = found.arrow(), wanted.arrow()
    assert one.select(["series_id", "t", "n"]).equals(other.select(["series_id", "t", "n"])), found.tiers
    for name in "smv":
        np.testing.assert_allclose(one[name].to_numpy(), other[name].to_numpy(), rtol=1e-9, atol=1e-6, err_msg=name)


CASES = st.tuples(
    st.integers(0, 2**20), st.sampled_from([40, 900]), st.booleans(), st.sampled_from(["counter", "signed"])
)


@pytest.mark.parametrize("examples", [4, pytest.param(100, marks=pytest.mark.soak)])
def test_in_place(monkeypatch: pytest.MonkeyPatch, examples: int) -> None:
    """Also sent again, and late; what lies between late samples is an estimate for integrals and rates alone."""
    monkeypatch.setattr(spacing, "MOST", 10**6)

    @settings(max_examples=examples)
    @given(case=CASES, late=st.booleans(), chosen=st.sampled_from([None, {"host": "b"}]), again=st.booleans())
    def run(case: Any, late: bool, chosen: Any, again: bool) -> None:
        seed, count, odd, kind = case
        with kymograph.connect("memory:") as store, kymograph.connect("memory:") as plain:
            batch = rows(seed, count, odd, kind)
            write((store, plain), batch)
            store.downsample(now_micros() - BASE - 2 * HOUR, "1m", labels=chosen)
            store.downsample(now_micros() - BASE - HOUR, "5m")
            if seed % 2:
                store.downsample(now_micros() - BASE - HOUR, "15m", labels={"host": ["a", "b"]})
            functions: tuple[str, ...] = (*EXACT, *SUMS)
            if again:
                write((store, plain), (batch[0][::2], batch[1][::2], batch[2][::2]))
            if late:
                extra = rows(seed + 1, 40, odd, kind)
                fresh = ~np.isin(extra[1], batch[1])
                write((store, plain), (extra[0][fresh], extra[1][fresh], extra[2][fresh]))
            else:
                functions = (*functions, *INTEGRALS, *(() if odd else RATES))
            for _ in range(2):
                check(store, plain, functions)
                if not odd:
                    check_sql(store, plain)
                store.run_rollups()

    run()


@pytest.mark.parametrize("examples", [4, pytest.param(100, marks=pytest.mark.soak)])
def test_beside(monkeypatch: pytest.MonkeyPatch, examples: int) -> None:
    """With deletions, and late data before and after it is worked off."""
    monkeypatch.setattr(beside, "_SAMPLES_PER_STRETCH", 0)
    monkeypatch.setattr(beside, "_COLUMNS_PER_SAMPLE", 0)

    @settings(max_examples=examples)
    # a window that ends on the first sample of a bucket whose last one is infinite
    @example(case=(797, 900, True, "counter"), low=233, length=2807, label=None)
    @given(case=CASES, low=st.integers(0, SPAN), length=st.integers(0, 3600), label=st.sampled_from([None, 1, 2]))
    def run(case: Any, low: int, length: int, label: int | None) -> None:
        seed, count, odd, kind = case
        with kymograph.connect("memory:") as store, kymograph.connect("memory:") as plain:
            write((store, plain), rows(seed, count, odd, kind))
            store.create_rollup("m1")
            store.create_rollup("m5", "m1", "5m")
            write((store, plain), rows(seed + 1, 40, odd, kind))
            for one in (store, plain):
                chosen = None if label is None else {"series_id": label}
                one.delete("samples", chosen, BASE + low * SECOND, BASE + (low + length) * SECOND)
            for _ in range(2):
                check(store, plain, (*EXACT, *SUMS, *INTEGRALS, *(() if odd else RATES)))
                check_sql(store, plain)
                store.refresh_rollup("m5")

    run()
