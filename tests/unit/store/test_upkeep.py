"""Pruning, jobs, reports and health."""

from __future__ import annotations

import json
import threading
import time

import pytest

import kymograph
from kymograph.engine.memory import MemoryEngine
from kymograph.errors import DiskFull, StoreClosed
from kymograph.options import Retention
from kymograph.store.jobs import KEPT, Job, Jobs
from kymograph.store.store import Store
from tests.unit.collect.recorder import until

HOUR = 3600 * 10**6
DAY = 24 * HOUR


def now() -> int:
    return time.time_ns() // 1000


def test_age_goes_by_tables(store: Store) -> None:
    moment = now()
    store.create_table("short", fields={"v": "float64"}, retention=Retention(age="10d"), partition="1h")
    times = [moment - 30 * DAY, moment - 20 * DAY, moment]
    for table in ("short", "kept"):
        store.write(table, {"time": times, "v": [1.0, 2.0, 3.0]})
    store.seal()
    would = store.prune(dry_run=True)
    assert (would.dry_run, would.rows) == (True, 2)
    assert {victim.table for victim in would.victims} == {"short"}
    assert store.scan("short").num_rows == 3
    assert store.prune().rows == 2
    assert store.scan("short")["v"].to_pylist() == [3.0]
    assert store.scan("kept").num_rows == 3
    assert store.prune().rows == 0


def test_force_applies_age_to_the_row(store: Store) -> None:
    moment = now()
    store.create_table("t", fields={"v": "float64"}, retention=Retention(age="10h"), partition="365d")
    store.write("t", {"time": [moment - 11 * HOUR, moment - 9 * HOUR, moment], "v": [1.0, 2.0, 3.0]})
    assert store.prune(dry_run=True, force=True).rows == 1
    assert store.scan("t").num_rows == 3
    assert store.prune(force=True).rows == 1
    assert store.scan("t")["v"].to_pylist() == [2.0, 3.0]


def test_the_age_of_the_store_holds_where_a_table_has_none(tmp_path: object) -> None:
    with kymograph.connect("memory:", age="10h") as store:
        store.create_table("own", fields={"v": "float64"}, retention=Retention(age="100d"))
        for table in ("own", "other"):
            store.write(table, {"time": [now() - 20 * HOUR, now()], "v": [1.0, 2.0]})
        assert store.prune(force=True).rows == 1
        assert store.scan("own").num_rows == 2
        assert store.scan("other").num_rows == 1


def test_info_is_plain_and_complete(store: Store) -> None:
    store.write("t", {"time": [1, 2], "host": ["a", "b"], "v": [1.0, 2.0], "w": [1, 2]})
    store.gauge("g", 1.0, time=7)
    store.seal()
    info = store.info()
    json.dumps(info)
    assert {"path", "engine", "version", "tables", "rows", "series", "oldest", "newest"} <= info.keys()
    assert {"usage_bytes", "cap_bytes", "age", "next_prune", "jobs"} <= info.keys()
    assert (info["rows"], info["series"], info["oldest"], info["newest"]) == (3, 3, 1, 7)
    assert info["next_prune"] > now()
    table = info["tables"]["t"]
    assert (table["rows"], table["series"], table["partitions"]) == (2, 2, 1)
    if info["engine"] == "local":
        assert (table["hot_rows"], table["blocks"]) == (0, 1)
        assert table["bytes_per_value"] == table["sealed_bytes"] / 4
    else:
        assert table["bytes_per_value"] is None


def test_an_engine_without_blocks_has_nothing_to_do() -> None:
    with kymograph.connect("memory:") as store:
        store.write("t", {"time": [1], "v": [1.0]})
        assert (store.seal(), store.compact()) == (0, 0)
        assert store.check().damages == ()


def test_seal_compact_check(tmp_path: object) -> None:
    with kymograph.connect(f"{tmp_path}/s", sync="off") as store:
        for at in range(4):
            store.write("t", {"time": [at], "v": [1.0]})
            assert store.seal("t") == 1
        store.compact()
        report = store.check()
        assert report.damages == ()
        assert report.blocks >= 1
        assert store.scan("t").num_rows == 4


def test_the_prune_job_runs_and_leaves_history() -> None:
    # so seldom that the run that is looked for stays among those that are kept
    with kymograph.connect("memory:", prune_every="100ms", age="1d") as store:
        store.write("t", {"time": [0, now()], "v": [1.0, 2.0]})
        until(lambda: store.scan("t").num_rows == 1)
        until(lambda: any("1 rows" in job["detail"] for job in store.info()["jobs"]))
        job = store.info()["jobs"][-1]
        assert job["job"] == "prune"
        assert job["ok"] is True
        assert job["started"] <= job["finished"] <= now()
        assert store.healthy() == {"ok": True, "reason": ""}


def test_closing_ends_the_jobs_at_once() -> None:
    before = set(threading.enumerate())
    store = kymograph.connect("memory:", prune_every="1h")
    begun = set(threading.enumerate()) - before
    assert begun
    started = time.monotonic()
    store.close()
    assert time.monotonic() - started < 60
    assert not any(thread.is_alive() for thread in begun)


def test_jobs_go_on_after_a_failure_and_keep_the_last_hundred() -> None:
    engine = MemoryEngine()
    runs = 0
    stopped = threading.Event()

    def run() -> str:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ZeroDivisionError("an odd one")
        if runs == 2:
            raise DiskFull("no room", hint="make some")
        if runs > KEPT + 20:
            stopped.set()
        return f"run {runs}"

    jobs = Jobs(engine)
    seen = []
    jobs.add(Job("odd", 1, run))
    try:
        until(lambda: seen.append(jobs.failure()) or stopped.is_set())  # type: ignore[func-returns-value]
    finally:
        jobs.stop()
        jobs.stop()
    assert jobs.failure() is None
    history = jobs.history()
    assert len(history) == KEPT
    assert all(entry["ok"] for entry in history)
    assert history[-1]["detail"] == f"run {runs}"
    assert [entry["started"] for entry in history] == sorted(entry["started"] for entry in history)


def test_jobs_of_an_engine_that_is_closed_end() -> None:
    runs = []

    def run() -> str:
        runs.append(1)
        raise StoreClosed("closed")

    jobs = Jobs(MemoryEngine())
    jobs.add(Job("late", 1, run))
    thread = jobs._thread
    assert thread is not None
    thread.join(60)
    assert not thread.is_alive()
    assert len(runs) == 1


def test_failures_of_jobs_are_named() -> None:
    engine = MemoryEngine()
    failed = threading.Event()

    def run() -> str:
        failed.set()
        raise DiskFull("no room", hint="make some")

    jobs = Jobs(engine)
    jobs.add(Job("prune", 1, run))
    assert failed.wait(60)
    until(lambda: jobs.failure() is not None)
    jobs.stop()
    assert jobs.failure() == "job prune: no room (make some)"
    assert jobs.history()[0]["ok"] is False


class Full(MemoryEngine):
    """An engine whose disk is full while `full` is set."""

    full = False

    def append(self, table: str, batch: object) -> int:
        if self.full:
            raise DiskFull("no room for 1 row")
        return super().append(table, batch)


def test_health_follows_the_last_write() -> None:
    engine = Full()
    with Store(engine) as store:
        store.gauge("g", 1.0)
        engine.full = True
        with pytest.raises(DiskFull):
            store.gauge("g", 1.0)
        assert store.healthy() == {"ok": False, "reason": "no room for 1 row"}
        with pytest.raises(kymograph.KymographError):
            store.gauge("g", "x")  # type: ignore[arg-type]
        assert not store.healthy()["ok"]
        engine.full = False
        store.gauge("g", 1.0)
        assert store.healthy()["ok"]
