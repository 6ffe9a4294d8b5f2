"""Samples replaced by summaries in place: every function that summaries answer, warnings, policies, recovery."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kymograph
from kymograph.errors import InvalidInput, StorageError
from kymograph.model.time import DAY, HOUR, MINUTE, SECOND
from kymograph.promql.piecewise import PIECEWISE
from kymograph.promql.source import STALE
from kymograph.store.jobs import now_micros
from kymograph.store.store import Store
from tests.folders import copied
from tests.unit.store.rollups.failing import failing

BASE = now_micros() // HOUR * HOUR - 10 * DAY
COUNT = 4 * 3600 // 5
BITS = ("count_over_time", "min_over_time", "max_over_time", "first_over_time", "last_over_time", "present_over_time")


def fill(store: Store) -> None:
    """Four hours at 5 s: noise that changes its sign, and a counter that starts again, on and beside whole seconds."""
    random = np.random.default_rng(1)
    for place, (name, host) in enumerate(
        [("power", "a"), ("power", "b"), ("energy_total", "a"), ("energy_total", "b")]
    ):
        number = store.series_ids([(name, {"host": host})])[0]
        times = BASE + np.arange(COUNT) * 5 * SECOND + place % 2
        values = random.normal(size=COUNT) * 50
        if name == "energy_total":
            values = np.cumsum(random.integers(0, 9, COUNT)).astype(np.float64)
            values[COUNT // 3 :] -= values[COUNT // 3]
        store.append_samples(np.full(COUNT, number), times, values)


@pytest.fixture(scope="module")
def plain() -> Iterator[Store]:
    with kymograph.connect("memory:") as store:
        fill(store)
        yield store


@pytest.fixture(scope="module")
def reduced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with kymograph.connect(tmp_path_factory.mktemp("reduced") / "s", sync="off") as store:
        fill(store)
        done = store.downsample("9d", "1m")
        assert done["samples"] == 4 * COUNT
        assert store.info()["tables"]["samples"]["rows"] == 0
        yield store


def both(one: Store, other: Store, query: str, step: str) -> tuple[Any, Any]:
    span = {"start": BASE + 30 * MINUTE, "end": BASE + 4 * HOUR, "step": step}
    found, wanted = (store.promql_range(query, **span) for store in (one, other))
    assert found.labels == wanted.labels
    assert found.times.tolist() == wanted.times.tolist()
    return found, wanted


@pytest.mark.parametrize("function", sorted(PIECEWISE))
@pytest.mark.parametrize(("width", "step"), [("15m", "15m"), ("7m", "3m"), ("2h", "1h")])
def test_aligned_ranges_are_exact(reduced: Store, plain: Store, function: str, width: str, step: str) -> None:
    for metric in ("power", "energy_total"):
        query = f"{function}({metric}[{width}])"
        found, wanted = both(reduced, plain, query, step)
        if function in BITS:
            assert found.values.tolist() == wanted.values.tolist()
        np.testing.assert_allclose(found.values, wanted.values, rtol=1e-11, atol=1e-7)
        assert found.warnings == []
        assert function == "absent_over_time" or found.tiers == ["samples_1m"]


@pytest.mark.parametrize(
    ("function", "close"),
    [
        ("avg_over_time", 5.0), ("sum_over_time", 700.0), ("count_over_time", 3.0), ("rate", 0.05), ("increase", 40.0),
        ("integrate", 3500.0), ("integrate_positive", 3000.0), ("stddev_over_time", 6.0), ("last_over_time", 300.0),
    ],
)  # fmt: skip
def test_other_ranges_are_interpolated_with_a_warning(
    reduced: Store, plain: Store, function: str, close: float
) -> None:
    metric = "energy_total" if function in ("rate", "increase") else "power"
    found, wanted = both(reduced, plain, f"{function}({metric}[10m30s])", "97s")
    assert found.warnings == [
        f"PromQL warning: some samples are only there as summaries, so the result is approximate (1:{len(function) + 2})"
    ]
    assert np.abs(found.values - wanted.values).max() < close


def test_values_at_a_time(reduced: Store, plain: Store) -> None:
    found, wanted = both(reduced, plain, "energy_total", "1m")
    assert found.values.tolist() == wanted.values.tolist()
    assert found.warnings == []
    found, wanted = both(reduced, plain, "energy_total", "13s")
    # but in the bucket where the counter starts again
    assert np.quantile(np.abs(found.values - wanted.values), 0.98) < 30
    assert len(found.warnings) == 1


def test_what_summaries_cannot_answer_says_so(reduced: Store, plain: Store) -> None:
    found, wanted = both(reduced, plain, "quantile_over_time(0.5, power[30m])", "15m")
    assert len(found.warnings) == 1
    assert np.abs(found.values - wanted.values).max() < 30


def test_subqueries_and_expressions(reduced: Store, plain: Store) -> None:
    for query in (
        "sum by (host) (rate(energy_total[5m])) / 2",
        "max_over_time(rate(energy_total[5m])[30m:1m])",
        "avg_over_time(power[10m] offset 5m) > 0",
        "count(power) + on() group_left() sum(increase(energy_total[1h]))",
    ):
        found, wanted = both(reduced, plain, query, "5m")
        np.testing.assert_allclose(found.values, wanted.values, rtol=1e-10, atol=1e-9)
        assert not found.warnings


def test_levels_on_levels(plain: Store) -> None:
    with kymograph.connect("memory:") as store:
        fill(store)
        ages = [now_micros() - BASE - hours * HOUR for hours in (3, 2, 1)]
        for age, interval in zip(ages, ("1m", "5m", "15m"), strict=True):
            store.downsample(age, interval)
        assert [one["table"] for one in store.downsample_policies()] == ["samples_1m", "samples_5m", "samples_15m"]
        for query in ("avg_over_time(power[45m])", "increase(energy_total[30m])", "integrate_negative(power[1h])"):
            found, wanted = both(store, plain, query, "15m")
            np.testing.assert_allclose(found.values, wanted.values, rtol=1e-10)
            assert not found.warnings
            assert set(found.tiers) == {"samples_1m", "samples_5m", "samples_15m", "raw"}
        with pytest.raises(InvalidInput, match="divide"):
            store.downsample("1d", "7m")


def test_labels_choose_series(plain: Store) -> None:
    with kymograph.connect("memory:") as store:
        fill(store)
        store.downsample("9d", "1m", "power", {"host": ["a", "c"]})
        assert store.info()["tables"]["samples"]["rows"] == 3 * COUNT
        assert store.promql('avg_over_time(power{host="a"}[1h])', time=BASE + HOUR).tiers == ["samples_1m"]
        assert store.promql('avg_over_time(power{host="b"}[1h])', time=BASE + HOUR).tiers == ["raw"]
        found, wanted = both(store, plain, "stddev_over_time(power[30m])", "15m")
        np.testing.assert_allclose(found.values, wanted.values, rtol=1e-10)
        store.downsample("9d", "15m")
        found, wanted = both(store, plain, "stddev_over_time(power[30m])", "15m")
        np.testing.assert_allclose(found.values, wanted.values, rtol=1e-10)
        assert store.info()["tables"]["samples_1m"]["rows"] == 0


def test_late_samples_count_once(plain: Store) -> None:
    with kymograph.connect("memory:") as store, kymograph.connect("memory:") as other:
        for one in (store, other):
            fill(one)
        store.downsample("9d", "1m")
        for one in (store, other):
            one.gauge("power", 1e4, {"host": "a"}, time=BASE + HOUR + 7)
            one.gauge("power", -1e4, {"host": "new"}, time=BASE + HOUR + 8)
        for _ in range(2):
            for function in ("count_over_time", "sum_over_time", "max_over_time", "stddev_over_time"):
                found, wanted = both(store, other, f"{function}(power[20m])", "10m")
                np.testing.assert_allclose(found.values, wanted.values, rtol=1e-9)
            store.downsample("9d", "1m")
        assert store.info()["tables"]["samples"]["rows"] == 0


def test_markers_of_staleness_are_no_values() -> None:
    with kymograph.connect("memory:") as store:
        number = store.series_ids([("m", {})])
        stale = np.array([STALE], np.int64).view(np.float64)
        values = np.concatenate([[1.0, 2.0], stale])
        store.append_samples(np.repeat(number, 3), BASE + np.arange(3) * SECOND, values)
        store.downsample("9d", "1m")
        assert store.promql("count_over_time(m[5m])", time=BASE + MINUTE).values.tolist() == [2.0]
        assert store.info()["tables"]["samples"]["rows"] == 0


def test_deleting_samples_deletes_their_summaries() -> None:
    with kymograph.connect("memory:") as store:
        fill(store)
        store.downsample("9d", "1m")
        store.delete("samples", {"series_id": 1}, BASE, BASE + HOUR)
        found = store.promql("count_over_time(power[2h])", time=BASE + 2 * HOUR)
        # what reaches out of the range stays: the bucket that ends at its end
        assert dict(zip([one["host"] for one in found.labels], found.values.tolist(), strict=True)) == {
            "a": 2 * 720.0 - 708.0,
            "b": 1440.0,
        }


def test_a_policy_is_kept_and_applied(tmp_path: Path) -> None:
    with kymograph.connect(tmp_path / "s") as store:
        fill(store)
        lines = store.downsample_policy("1d -> 1m, 5d -> 5m", "power")
        assert [(one["older_than"], one["interval"], one["boundary"]) for one in lines] == [
            (DAY, MINUTE, None),
            (5 * DAY, 5 * MINUTE, None),
        ]
        store.create_rollup("beside", "samples", "1h")
        store.refresh_rollup("beside")
    with kymograph.connect(tmp_path / "s") as store:
        assert len(store.downsample_policies()) == 2
        store.run_rollups()
        tables = store.info()["tables"]
        assert (tables["samples"]["rows"], tables["samples_1m"]["rows"]) == (2 * COUNT, 0)
        assert tables["samples_5m"]["rows"] == 2 * 48 + 1
        assert store.sql("SELECT sum(count) AS n FROM beside").rows() == [{"n": 4 * COUNT}]
        assert store.downsample_policy("", "power")[1]["older_than"] is None


@pytest.mark.parametrize("after", range(1, 9))
def test_what_is_cut_short_is_finished(tmp_path: Path, plain: Store, after: int) -> None:
    """Every write but the first so many fails; then the folder as it lies on the disk is opened elsewhere."""
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        fill(store)
        store.downsample(now_micros() - BASE - HOUR, "1m")
        left = [after]
        engine: Any = store.engine.inner  # type: ignore[attr-defined]
        for name in ("append", "delete", "put_document", "put_documents", "create_table"):
            setattr(engine, name, failing(getattr(engine, name), left))
        try:
            store.downsample("9d", "1m")
            finished = True
        except StorageError:
            finished = False
        assert finished == (left[0] >= 0)
        copied(tmp_path / "s", tmp_path / "copy")
    with kymograph.connect(tmp_path / "copy", read_only=True) as reader:
        check(reader, plain)
    with kymograph.connect(tmp_path / "copy", sync="off") as store:
        check(store, plain)
        store.downsample("9d", "1m")
        check(store, plain)
        assert store.info()["tables"]["samples"]["rows"] == 0


def check(store: Store, plain: Store) -> None:
    for query in ("count_over_time(power[1h])", "max_over_time(power[15m])"):
        found, wanted = both(store, plain, query, "15m")
        assert found.values.tolist() == wanted.values.tolist()
