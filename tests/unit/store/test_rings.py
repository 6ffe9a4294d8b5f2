"""Rings as users of Python hold them: verbs, what else sees their samples, conflicts, and queries of a window."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kymograph
from kymograph.engine.rings import Ring
from kymograph.errors import (
    AlreadyExists,
    InvalidInput,
    LimitExceeded,
    NotFound,
    QueryError,
    ReadOnly,
    StoreClosed,
    TimeError,
)
from kymograph.options import QueryLimits, StoreOptions
from kymograph.store import dashboards
from kymograph.store.metrics import Sample
from kymograph.store.rings.rings import Target
from kymograph.store.rings.window import Selector
from kymograph.store.store import Store

S = 1_000_000


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    where = "memory:" if request.param == "memory" else tmp_path / "store"
    with kymograph.connect(where, options=StoreOptions(sync="off")) as made:
        yield made


def values(store: Store, name: str) -> list[tuple[int, float]]:
    rows = store.sql(f'SELECT time, value FROM metric."{name}" ORDER BY time').arrow()
    return list(zip(rows["time"].cast("int64").to_pylist(), rows["value"].to_pylist(), strict=True))


def test_every_way_in_leads_to_the_ring(store: Store) -> None:
    metric = store.ring("m", "1s", 10, labels={"größe": "🜚"}, unit="W", help="power")
    assert (metric.name, dict(metric.labels), metric.unit, metric.help) == ("m", {"größe": "🜚"}, "W", "power")
    assert metric.ring == Ring(S, 10, "gauge")
    labels = {"größe": "🜚"}
    store.gauge("m", 1.0, labels, time=0)
    store.record([Sample("m", 2.0, labels, 10 * S), Sample("other", 3.0, {}, 10 * S)])
    store.append_samples(store.series_ids([("m", labels)]), np.array([11 * S]), np.array([4.0]))
    store.write("samples", {"time": [1 * S, 12 * S], "series_id": [metric.id] * 2, "value": [5.0, 6.0]})
    assert store.write_lines("m,größe=🜚 value=7 13000000000", precision="ns").rows == 1
    assert values(store, "m") == [(10 * S, 2.0), (11 * S, 4.0), (12 * S, 6.0), (13 * S, 7.0)]
    assert store.engine.rings.read([metric.id]).values.tolist() == [2.0, 4.0, 6.0, 7.0]
    assert values(store, "other") == [(10 * S, 3.0)]


def test_everybody_sees_its_samples(store: Store) -> None:
    metric = store.ring("m", timedelta(seconds=1), 100)
    for second in range(150):
        store.gauge("m", float(second), time=second * S)
    assert store.scan("samples").num_rows == 100
    assert sum(batch.num_rows for batch in store.reader("samples", {"series_id": metric.id})) == 100
    assert store.latest("samples")["value"].to_pylist() == [149.0]
    found = store.promql("avg_over_time(m[10s])", time=149 * S)
    assert found.values.tolist() == [144.5]
    assert store.sql("SELECT count(*) AS n, sum(value) AS s FROM samples").rows() == [{"n": 100, "s": 9950.0}]
    info = store.info()["tables"]["samples"]
    assert (info["rows"], info["series"], info["oldest"], info["newest"]) == (100, 1, 50 * S, 149 * S)
    assert store.metrics() == [{"name": "m", "kind": "gauge", "unit": "", "help": "", "series": 1}]
    assert store.delete("samples", {"series_id": metric.id}, end=60 * S) == 10
    assert store.scan("samples").num_rows == 90


def test_its_rows_are_no_sealed_ones(tmp_path: Path) -> None:
    with kymograph.connect(tmp_path) as store:
        ids = store.series_ids([("plain", {})])
        store.append_samples(np.repeat(ids, 1000), np.arange(1000) * S, np.arange(1000.0))
        store.seal()
        before = store.info()["tables"]["samples"]["bytes_per_value"]
        store.ring("m", "1s", 1000)
        store.append_samples(np.repeat(store.series_ids([("m", {})]), 1000), np.arange(1000) * S, np.zeros(1000))
        assert store.info()["tables"]["samples"]["bytes_per_value"] == before


def test_the_same_again_and_another(store: Store) -> None:
    first = store.ring("m", "1s", 10)
    store.gauge("m", 1.0, time=0)
    assert store.ring("m", 1_000_000, 10) == first
    for given in ({"step": "2s"}, {"slots": 11}, {"kind": "counter"}):
        with pytest.raises(AlreadyExists, match="10 slots of 1 s"):
            store.ring("m", **{"step": "1s", "slots": 10, **given})
    assert [one.id for one in store.rings()] == [first.id]
    store.gauge("plain", 1.0, time=0)
    with pytest.raises(AlreadyExists, match="plain has samples"):
        store.ring("plain")
    assert values(store, "plain") == [(0, 1.0)]
    assert store.ring("m", "1s", 11, labels={"a": "b"}).id != first.id


@pytest.mark.parametrize(
    "given",
    [
        {"name": ""}, {"name": 5}, {"name": "\ud800"}, {"step": "0s"}, {"step": "-1s"}, {"step": 0}, {"step": "x"},
        {"step": None}, {"step": 1.5}, {"slots": 0}, {"slots": -1}, {"slots": 1.0}, {"slots": 2**40}, {"kind": "x"},
        {"labels": {"": "x"}}, {"labels": {"a": 1}}, {"labels": 5}, {"unit": 5}, {"help": "\ud800"},
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_ring(store: Store, given: Any) -> None:
    with pytest.raises(InvalidInput):
        store.ring(**{"name": "m", **given})


def test_resizing_and_dropping(store: Store) -> None:
    metric = store.ring("m", "1s", 60, labels={"n": "1"})
    store.ring("m", "1s", 60, labels={"n": "2"})
    for second in range(60):
        store.gauge("m", float(second), {"n": "1"}, time=second * S)
    assert store.resize_ring("m", step="10s", labels={"n": "1"}).ring == Ring(10 * S, 60)
    assert [time // S for time, _ in values(store, "m")] == [9, 19, 29, 39, 49, 59]
    assert store.resize_ring("m", slots=3, labels={"n": "1"}).ring == Ring(10 * S, 3)
    assert [time // S for time, _ in values(store, "m")] == [39, 49, 59]
    for bad in ({"slots": 0}, {"step": 0}, {"step": "-1s"}, {"slots": 1.5}):
        with pytest.raises(InvalidInput):
            store.resize_ring("m", labels={"n": "1"}, **bad)
    with pytest.raises(InvalidInput, match="2 metrics"):
        store.resize_ring("m", slots=5)
    store.drop_ring("m", labels={"n": "1"})
    with pytest.raises(NotFound):
        store.resize_ring("m", slots=5, labels={"n": "1"})
    assert store.resize_ring("m", slots=5).labels == {"n": "2"}
    assert metric.id not in [one.id for one in store.rings()]
    with pytest.raises(NotFound):
        store.drop_ring("nothing")
    # what comes now is a metric that keeps every sample
    store.gauge("m", 1.0, {"n": "1"}, time=0)
    with pytest.raises(AlreadyExists):
        store.resize_ring("m", slots=5, labels={"n": "1"})


def test_opened_again(tmp_path: Path) -> None:
    with kymograph.connect(tmp_path) as store:
        store.ring("m", "1s", 10, kind="counter")
        store.counter("m", 5.0, time=3 * S)
        dashboards.save(store.engine, {"slug": "d"})
    with kymograph.connect(tmp_path, options=StoreOptions(read_only=True)) as store:
        assert values(store, "m") == [(3 * S, 5.0)]
        assert store.rings()[0].ring == Ring(S, 10, "counter")
        assert dashboards.list(store.engine)[0]["slug"] == "d"
        for call in (lambda: store.ring("n"), lambda: store.drop_ring("m"), lambda: store.resize_ring("m", slots=1)):
            with pytest.raises(ReadOnly):
                call()
    with kymograph.connect(tmp_path) as store:
        store.ring("m", "1s", 10, kind="counter")
    for call in (lambda: store.ring("n"), store.rings, lambda: store.ring_sql("SELECT 1"), store.ring_metrics):
        with pytest.raises(StoreClosed):
            call()


def test_rings_stay_below_a_quarter_of_the_cap(tmp_path: Path) -> None:
    with kymograph.connect(tmp_path, cap="8MB") as store:
        store.ring("m", "1s", 100_000)
        with pytest.raises(LimitExceeded, match="quarter of the cap"):
            store.ring("n", "1s", 100_000)
        assert [one.name for one in store.rings()] == ["m"]


def test_many_targets_at_once(store: Store) -> None:
    targets = [Target(name="m", labels={"n": str(n)}, slots=100) for n in range(3)]
    of = np.arange(3000) % 3
    times = np.arange(3000) // 3 * S
    ids = store.write_rings("gauge", targets, of, times, np.arange(3000.0))
    assert len(set(ids)) == 3
    assert len(store.engine.rings.read().ids) == 300
    assert (
        store.write_rings("gauge", [Target(id=ids[1])], np.array([0]), np.array([2000 * S]), np.array([1.0]))
        == ids[1:2]
    )
    with pytest.raises(AlreadyExists):
        store.write_rings("gauge", [*targets, Target(name="m", labels={"n": "0"}, slots=5)], of, times, times * 1.0)
    with pytest.raises(TimeError):
        store.write_rings("gauge", targets[:1], np.array([0]), np.array([2**62 + 1]), np.array([1.0]))
    with pytest.raises(InvalidInput):
        store.write_rings("nothing", targets[:1], np.array([0]), np.array([0]), np.array([1.0]))
    with pytest.raises(InvalidInput):
        store.write_rings("gauge", [Target()], np.array([0]), np.array([0]), np.array([1.0]))


def test_two_first_writers(store: Store) -> None:
    """The same metric, made by two at once: one ring, both samples."""
    barrier = threading.Barrier(2)

    def write(thread: int) -> list[int]:
        found = []
        for number in range(20):
            barrier.wait()
            labels = {"a": "1", "b": "2"} if thread else {"b": "2", "a": "1"}
            target = Target(name=f"m{number}", labels=labels, slots=50)
            found += store.write_rings("gauge", [target], np.array([0]), np.array([thread * S]), np.array([1.0]))
        return found

    with ThreadPoolExecutor(2) as pool:
        left, right = pool.map(write, range(2))
    assert left == right
    assert len(set(left)) == 20
    assert len(store.rings()) == 20
    assert len(store.engine.rings.read().ids) == 40


def test_plain_writers_beside_first_ring(store: Store) -> None:
    """`gauge` and `ring` race for one metric: either all samples are in the ring, or it is none."""
    for number in range(15):
        barrier = threading.Barrier(2)

        def plain(name: str, barrier: threading.Barrier) -> None:
            barrier.wait()
            for second in range(5):
                store.gauge(name, 1.0, time=second * S)

        def ring(name: str, barrier: threading.Barrier) -> bool:
            barrier.wait()
            try:
                store.ring(name, "1s", 10)
            except AlreadyExists:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(plain, f"m{number}", barrier)
            made = pool.submit(ring, f"m{number}", barrier).result()
            first.result()
        assert len(values(store, f"m{number}")) == 5
        ids = store.series_ids([(f"m{number}", {})]).tolist()
        assert len(store.engine.rings.read(ids).ids) == (5 if made else 0)


def test_a_window(store: Store) -> None:
    store.ring("m", "500ms", 100)
    for half in range(-10, 10):
        store.gauge("m", float(half), time=half * S // 2)
    store.gauge("plain", 9.0, {"a": "b"}, time=2 * S + 1)
    ask = store.ring_sql
    rows = ask(
        "SELECT ts, value FROM samples WHERE metric_id = {{m}} ORDER BY value",
        start=-1,
        end=0,
        selectors=[Selector("m", {}, "m")],
    ).rows()
    assert [(row["ts"], row["value"]) for row in rows] == [(-1, -2.0), (-1, -1.0), (0, 0.0), (0, 1.0)]
    assert ask("SELECT count(*) AS n FROM samples").rows() == [{"n": 21}]
    assert ask(
        "SELECT count(*) AS n FROM samples", metric_ids=store.series_ids([("plain", {"a": "b"})]).tolist()
    ).rows() == [{"n": 1}]
    columns = ask("SELECT * FROM metrics ORDER BY name").rows()
    assert [(row["name"], row["step"], row["slots"]) for row in columns] == [("m", 0.5, 100), ("plain", None, None)]
    assert ask("SELECT key, value FROM metric_tags").rows() == [{"key": "a", "value": "b"}]
    assert ask("SELECT value FROM metric.plain").rows() == [{"value": 9.0}]
    for given in ({"start": math.nan}, {"end": math.inf}, {"start": 1e30}):
        with pytest.raises(TimeError):
            ask("SELECT 1", **given)
    with pytest.raises(InvalidInput):
        ask("SELECT 1", start=1, end=0.5)
    with pytest.raises(QueryError):
        ask("SELECT * FROM samples WHERE time > 5")
    with pytest.raises(LimitExceeded):
        ask("SELECT * FROM samples", limits=QueryLimits(memory=100))
    with pytest.raises(LimitExceeded):
        ask("SELECT * FROM samples", limits=QueryLimits(rows=5))


def test_an_empty_store(store: Store) -> None:
    assert store.rings() == []
    assert store.ring_metrics().all() == []
    assert store.ring_sql("SELECT count(*) AS n FROM samples").rows() == [{"n": 0}]
    assert store.ring_sql("SELECT * FROM metrics").rows() == []
    assert store.ring_sql("SELECT * FROM metric_tags").rows() == []
    with pytest.raises(NotFound):
        store.ring_samples(1)


def test_samples_of_one_metric(store: Store) -> None:
    metric = store.ring("m", "1s", 100)
    assert store.ring_samples(metric.id)["ts"].tolist() == []
    assert store.ring_samples(metric.id, bucket="1m")["ts"].tolist() == []
    for second in range(50):
        store.gauge("m", math.nan if second == 5 else float(second), time=second * S)
    found = store.ring_samples(metric.id, start=0, end=29, bucket="10s")
    assert found["ts"].tolist() == [0, 10 * S, 20 * S]
    assert found["count"].tolist() == [10, 10, 10]
    assert found["value"].tolist()[1:] == [14.5, 24.5]
    assert math.isnan(found["value"][0])
    with pytest.raises(LimitExceeded):
        store.ring_samples(metric.id, most=5)
    with pytest.raises(InvalidInput):
        store.ring_samples(metric.id, bucket=0)


def test_dashboards_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboards, "MAX_DASHBOARDS", 2)
    for slug in ("a", "b", "b"):
        dashboards.save(store.engine, {"slug": slug})
    with pytest.raises(LimitExceeded):
        dashboards.save(store.engine, {"slug": "c"})
    for bad in ({"slug": "x", "v": math.nan}, {"slug": "x", "v": {1, 2}}, {"slug": "x" * 101}):
        with pytest.raises(InvalidInput):
            dashboards.save(store.engine, bad)
    dashboards.remove(store.engine, "a")
    dashboards.save(store.engine, {"title": "Ein Übersichtchen"})
    assert [one["slug"] for one in dashboards.list(store.engine)] == ["b", "ein-ubersichtchen"]
