"""Refreshes: how rollups follow what comes late to their source, and what is deleted there; failures, closing."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kymograph
from kymograph import Retention
from kymograph.errors import KymographError, StorageError
from kymograph.model.time import DAY, HOUR, MINUTE, SECOND, to_micros
from kymograph.store.store import Store
from tests.unit.store.rollups.failing import failing
from tests.unit.store.rollups.ramps import BASE, ramp, rows


def test_late_data_refreshes_what_it_touched(store: Store) -> None:
    ramp(store)
    store.create_rollup("m_1m")
    store.create_rollup("m_5m", "m_1m", "5m")
    before = rows(store, "m_1m")
    store.gauge("m", -7.0, {"host": "a"}, time=BASE + 3 * MINUTE + 1)
    assert {one["name"]: one["waiting"] for one in store.rollups()} == {"m_1m": 1, "m_5m": 0}
    store.refresh_rollup("m_5m")
    after = rows(store, "m_1m")
    assert [place for place in range(10) if before[place] != after[place]] == [3]
    assert after[3]["count"] == 7
    assert [row["min"] for row in rows(store, "m_5m")] == [-7.0, 30.0]
    assert not any(one["waiting"] for one in store.rollups())


def test_deleted_rows_leave_their_buckets(store: Store) -> None:
    ramp(store)
    ramp(store, host="b")
    store.create_rollup("m_1m")
    store.delete("samples", {"series_id": 1}, BASE, BASE + 2 * MINUTE)
    store.delete("samples", {"series_id": 2}, BASE + 30 * SECOND, BASE + MINUTE)
    store.refresh_rollup("m_1m")
    found = {(row["series_id"], (row["first_time"] - BASE) // MINUTE): row["count"] for row in rows(store, "m_1m")}
    assert (1, 0) not in found
    assert (1, 1) not in found
    assert found[1, 2] == 6
    assert found[2, 0] == 3


def test_summaries_outlive_their_rows(store: Store) -> None:
    ramp(store, 60)
    store.create_rollup("m_1m")
    store.create_rollup("top", query="SELECT time_bucket('1m', time) AS t, max(value) AS top FROM metric.m GROUP BY 1")
    before, top = rows(store, "m_1m"), rows(store, "top")
    age = kymograph.store.jobs.now_micros() - BASE - 30 * MINUTE
    store.set_retention("samples", Retention(age=age))
    assert store.prune(force=True).rows >= 180
    store.gauge("m", 5.0, {"host": "a"}, time=BASE + 3 * MINUTE + 1)
    store.refresh_rollup("m_1m", BASE, BASE + HOUR)
    store.refresh_rollup("top")
    assert rows(store, "m_1m") == before
    assert len(rows(store, "top")) == len(top)
    ask = {"start": BASE + 20 * MINUTE, "end": BASE + HOUR, "step": "10m"}
    found = store.promql_range("avg_over_time(m[10m])", **ask)
    assert "m_1m" in found.tiers
    assert found.values.tolist() == [90.5, 150.5, 210.5, 270.5, 330.0]


def test_late_data_after_the_samples_have_gone(store: Store) -> None:
    """What comes later than retention or downsampling does not stand for what these have removed."""
    ramp(store, 60)
    ramp(store, 60, "b")
    text = "SELECT host, time_bucket('5m', time) AS t, count(*) AS n FROM metric.m GROUP BY 1, 2"
    store.create_rollup("by_id", "samples", "5m")
    store.create_rollup("by_host", "samples", "5m", by=["host"])
    store.create_rollup("by_sql", query=text)
    store.downsample(kymograph.store.jobs.now_micros() - BASE - 30 * MINUTE, "1m", labels={"host": "a"})
    for host in "ab":
        number = store.series_ids([("m", {"host": host})])[0]
        times = BASE + 5 * MINUTE + np.arange(60) * SECOND * 3 + 1
        store.append_samples(np.full(60, number), times, np.zeros(60))
    for name in ("by_id", "by_host", "by_sql"):
        store.refresh_rollup(name)
    second = BASE + 5 * MINUTE
    at = {row["series_id"]: row["count"] for row in rows(store, "by_id") if to_micros(row["time"]) == second}
    assert at == {1: 30, 2: 90}
    at = {row["host"]: row["count"] for row in rows(store, "by_host") if to_micros(row["time"]) == second}
    assert at == {"a": 30, "b": 90}
    assert {row["n"] for row in rows(store, "by_sql")} == {30}
    store.set_retention("samples", Retention(age=kymograph.store.jobs.now_micros() - BASE - 40 * MINUTE))
    store.prune(force=True)
    store.gauge("m", 1.0, {"host": "b"}, time=BASE + 35 * MINUTE + 1)
    for name in ("by_id", "by_host", "by_sql"):
        store.refresh_rollup(name)
    assert {row["n"] for row in rows(store, "by_sql")} == {30}
    assert len(rows(store, "by_sql")) == 24


def test_deletions_spare_what_has_no_samples_any_more(store: Store) -> None:
    """Deleting samples of one series leaves the rows of others that were downsampled, or pushed out of their ring."""
    ramp(store, 60)
    ramp(store, 60, "b")
    now = kymograph.store.jobs.now_micros()
    store.ring("r", "1s", 60)
    for second in range(300):
        store.gauge("r", 1.0, time=now - 2 * HOUR + second * SECOND)
        if second == 60:
            store.create_rollup("by_id", "samples", "1m")
            store.create_rollup("by_host", "samples", "1m", by=["host"])
        if second % 50 == 0:
            store.run_rollups()
    store.run_rollups()
    store.downsample(now - BASE - 30 * MINUTE, "1m", labels={"host": "a"})
    names = ("by_id", "by_host")
    before = {name: store.sql(f"SELECT count(*) AS n, sum(count) AS c FROM {name}").rows()[0] for name in names}
    assert store.delete("samples", {"series_id": 2}) == 360
    for name in names:
        store.refresh_rollup(name)
        after = store.sql(f"SELECT count(*) AS n, sum(count) AS c FROM {name}").rows()[0]
        assert (before[name]["n"] - after["n"], before[name]["c"] - after["c"]) == (60, 360)


def test_a_range_that_is_refreshed_ends_where_the_rollup_does(store: Store) -> None:
    """What is not due yet would not be watched: a deletion there would leave the summary for ever."""
    now = kymograph.store.jobs.now_micros()
    store.gauge("m", 1.0, time=now - 30 * MINUTE)
    store.gauge("m", 1.0, time=now - 2 * HOUR)
    store.create_rollup("m_1m", end_offset="1h")
    store.refresh_rollup("m_1m", now - 3 * HOUR, now)
    assert len(rows(store, "m_1m")) == 1


@pytest.mark.parametrize("after", range(1, 6))
def test_a_refresh_that_failed_is_done_again(tmp_path: Path, after: int) -> None:
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        ramp(store, 120)
        store.create_rollup("m_1m", refresh=False)
        store.create_rollup("m_5m", "m_1m", "5m", refresh=False)
        wanted = store.promql("sum_over_time(m[2h])", time=BASE + 2 * HOUR).values.tolist()
        left, engine = [after], store.engine.inner  # type: ignore[attr-defined]
        works = {name: getattr(engine, name) for name in ("append", "put_document", "put_documents")}
        for name, work in works.items():
            setattr(engine, name, failing(work, left))
        for _ in range(3):
            with contextlib.suppress(StorageError):
                store.refresh_rollup("m_5m", BASE, BASE + HOUR)
        assert left[0] < 0
        for name, work in works.items():
            setattr(engine, name, work)
        found = store.promql("sum_over_time(m[2h])", time=BASE + 2 * HOUR)
        assert found.values.tolist() == wanted
        store.refresh_rollup("m_5m")
        assert (len(rows(store, "m_1m")), len(rows(store, "m_5m"))) == (120, 24)
        found = store.promql("sum_over_time(m[2h])", time=BASE + 2 * HOUR)
        assert (found.values.tolist(), "m_5m" in found.tiers) == (wanted, True)


def test_one_that_fails_does_not_hold_up_the_others(store: Store) -> None:
    ramp(store)
    text = "SELECT time_bucket('1m', time) AS t, max(1 / CAST(value AS BIGINT)) AS m FROM metric.m WHERE value > 0 GROUP BY 1"
    store.create_rollup("a", query=text)
    store.create_rollup("b")
    store.gauge("m", 0.5, {"host": "a"}, time=BASE + 1)
    with pytest.raises(KymographError):
        store.run_rollups()
    assert {one["name"]: one["waiting"] for one in store.rollups()} == {"a": 1, "b": 0}


def test_closing_does_not_wait_for_a_long_refresh(tmp_path: Path) -> None:
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        number = store.series_ids([("m", {})])[0]
        times = BASE - np.arange(400) * DAY
        store.append_samples(np.full(400, number), times, np.ones(400))
        store.create_rollup("m_1m", refresh=False)
        first = threading.Event()
        engine: Any = store.engine
        append = engine.append

        def noticed(table: str, batch: Any) -> int:
            first.set()
            found: int = append(table, batch)
            return found

        engine.append = noticed

        def refresh() -> None:
            with contextlib.suppress(KymographError):
                store.refresh_rollup("m_1m")

        thread = threading.Thread(target=refresh)
        thread.start()
        assert first.wait(60)
        store.close()
        thread.join(60)
        assert not thread.is_alive()
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        store.refresh_rollup("m_1m")
        assert len(rows(store, "m_1m")) == 400
