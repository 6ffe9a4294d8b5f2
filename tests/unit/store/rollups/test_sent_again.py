"""Samples that come after their range was summarised in place: new ones count, those that are sent again do not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import kymograph
from kymograph.model.time import DAY, HOUR, MINUTE, SECOND
from kymograph.store.jobs import now_micros
from kymograph.store.store import Store
from tests.folders import copied

BASE = now_micros() // HOUR * HOUR - 10 * DAY
SQL = "SELECT host, time_bucket('1h', time) AS t, count(*) AS n, sum(value) AS s FROM metric.m GROUP BY 1, 2 ORDER BY 1, 2"


@pytest.fixture
def plain() -> Iterator[Store]:
    with kymograph.connect("memory:") as store:
        yield store


def send(stores: tuple[Store, ...], seconds: np.ndarray, host: str = "a") -> None:  # type: ignore[type-arg]
    """A batch of an agent: of each time always the same value."""
    times = BASE + (seconds * SECOND).astype(np.int64)
    for store in stores:
        number = store.series_ids([("m", {"host": host})])
        store.append_samples(np.repeat(number, len(times)), times, np.sin(times / 1e9) * 50)


def same(store: Store, plain: Store) -> None:
    for function in ("count_over_time", "sum_over_time", "max_over_time", "stddev_over_time"):
        asked = {"start": BASE + HOUR, "end": BASE + 4 * HOUR, "step": "1h"}
        found, wanted = (one.promql_range(f"{function}(m[1h])", **asked) for one in (store, plain))
        assert found.labels == wanted.labels
        assert found.times.tolist() == wanted.times.tolist()
        np.testing.assert_allclose(found.values, wanted.values, rtol=1e-10)
        assert not found.warnings
    found, wanted = (one.sql(SQL).rows() for one in (store, plain))
    for one, other in zip(found, wanted, strict=True):
        assert one.pop("s") == pytest.approx(other.pop("s"), rel=1e-10)
        assert one == other


@pytest.mark.parametrize("interval", ["1m", "15m", "1h"])
@pytest.mark.parametrize("jitter", [0.0, 0.2])
def test_an_agent_sends_its_last_batch_again(tmp_path: Path, plain: Store, interval: str, jitter: float) -> None:
    """It lost the connection for two hours, did not hear that its last batch had arrived, and has kept all since."""
    seconds = np.arange(0, 4 * 3600, 5) + np.random.default_rng(1).normal(0, jitter, 4 * 720)
    cut = 700
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        both = (store, plain)
        send(both, seconds[1:cut])
        send(both, seconds[2200:])
        store.downsample("9d", interval)
        for batch in np.array_split(seconds[cut - 100 : 2200], 3):
            send(both, batch)
        same(store, plain)
        with kymograph.connect(tmp_path / "s", read_only=True) as reader:
            same(reader, plain)
        assert store.run_rollups().endswith("1500 late ones merged, 100 sent again")
        same(store, plain)
        assert store.info()["tables"]["samples"]["rows"] == 0
        assert store.sent_again == 100
        # and everything once more, after it was merged
        send(both, seconds[1:])
        same(store, plain)
        store.run_rollups()
        same(store, plain)


def test_backfill_between_what_is_there(plain: Store) -> None:
    """Another resolution, other series, and times before and after all others."""
    with kymograph.connect("memory:") as store:
        both = (store, plain)
        send(both, np.arange(3600, 3 * 3600, 10))
        store.downsample("9d", "1m")
        store.downsample(now_micros() - BASE - 2 * HOUR, "5m")
        send(both, np.arange(3600, 3 * 3600, 5))
        send(both, np.arange(1800, 2 * 3600, 1) + 0.25)
        send(both, np.arange(1800, 3 * 3600, 30), "b")
        same(store, plain)
        store.run_rollups()
        same(store, plain)
        store.downsample("9d", "15m")
        send(both, np.arange(3600, 3 * 3600, 5))
        store.run_rollups()
        same(store, plain)


def test_one_value_for_a_time_stays_that_value() -> None:
    """Samples that have gone cannot be corrected; those that wait to be merged can."""
    with kymograph.connect("memory:") as store:
        store.gauge("m", 1.0, time=BASE + SECOND)
        store.downsample("9d", "1m")
        store.gauge("m", 5.0, time=BASE + SECOND)
        store.gauge("m", 7.0, time=BASE + 2 * SECOND)
        store.gauge("m", 2.0, time=BASE + 2 * SECOND)
        for _ in range(2):
            assert store.promql("sum_over_time(m[1m])", time=BASE + MINUTE).values.tolist() == [3.0]
            store.run_rollups()
        # what was deleted is new again
        store.delete("samples", None, BASE, BASE + HOUR)
        store.gauge("m", 5.0, time=BASE + SECOND)
        assert store.promql("sum_over_time(m[1m])", time=BASE + MINUTE).values.tolist() == [5.0]
        store.run_rollups()
        assert store.promql("sum_over_time(m[1m])", time=BASE + MINUTE).values.tolist() == [5.0]


def test_a_hole_is_filled_where_the_spacing_is_too_uneven_to_keep(tmp_path: Path, plain: Store) -> None:
    """Ten samples a second, about: of an hour's bucket only the holes are known."""
    seconds = np.unique(np.random.default_rng(2).integers(1, 72_000, 30_000)) / 10
    hole = (seconds > 2000) & (seconds < 2400)
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        both = (store, plain)
        send(both, seconds[~hole])
        store.downsample("9d", "1h")
        send(both, seconds[(seconds > 1000) & (seconds < 3000)])
        same(store, plain)
        store.run_rollups()
        same(store, plain)
        copied(tmp_path / "s", tmp_path / "copy")
    with kymograph.connect(tmp_path / "copy") as store:
        send((store,), seconds[hole])
        assert store.run_rollups().endswith(f"0 late ones merged, {hole.sum()} sent again")
        same(store, plain)
