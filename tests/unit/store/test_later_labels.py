"""A label that comes later, seen by everything that reads tables; and by what was being read when it came."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kymograph
from kymograph.errors import QueryError
from kymograph.model.time import HOUR, MINUTE, SECOND
from kymograph.store import reading
from kymograph.store.store import Store

BASE = 1_790_000_000 * SECOND // HOUR * HOUR


@pytest.fixture(params=["memory", "hot", "sealed"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A table of an hour of two hosts, asked in many ways before its label came."""
    target = "memory:" if request.param == "memory" else tmp_path / "store"
    with kymograph.connect(target, sync="off") as opened:
        times = BASE + np.arange(60) * MINUTE
        for host, value in (("a", 1.0), ("b", 2.0)):
            opened.write("cpu", {"time": times, "host": host, "usage": value})
        if request.param == "sealed":
            opened.seal()
        asked(opened)
        yield opened


def sql(store: Store, text: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in store.sql(text).rows()]


def promql(store: Store, text: str) -> dict[tuple[str, ...], float]:
    """Values by host and region."""
    found = store.promql(text, time=BASE + 59 * MINUTE)
    pairs = zip(map(dict, found.labels), found.values.tolist(), strict=True)
    return {(one.get("host", ""), one.get("region", "")): value for one, value in pairs}


def asked(store: Store) -> dict[str, Any]:
    """What knows nothing of the label, and whatever it keeps from one question to the next."""
    return {
        "latest": sorted(sql(store, "SELECT host, usage FROM latest.cpu")),
        "sums": sql(store, "SELECT host, count(*) AS n, sum(usage) AS s FROM cpu GROUP BY host ORDER BY host"),
        "buckets": sql(
            store,
            "SELECT time_bucket('30m', time) AS t, host, avg(usage) AS u FROM cpu GROUP BY 1, 2 ORDER BY 1, 2",
        ),
        "hosts": sql(store, "SELECT count(DISTINCT host) AS n FROM cpu"),
        "instant": promql(store, "cpu_usage"),
        "rate": promql(store, "sum_over_time(cpu_usage[30m])"),
        "series": len(store.series("cpu_usage")),
        "values": store.label_values("host"),
    }


def widen(store: Store) -> None:
    """The label, and ten minutes of host a in region eu."""
    line = "cpu,host=a,region=eu usage=5,busy=true {}000\n"
    lines = "".join(line.format(BASE + step * MINUTE) for step in range(50, 60))
    assert not store.write_lines(lines).faults


def test_sql(store: Store) -> None:
    with pytest.raises(QueryError, match="region"):
        store.sql("SELECT host, region, sum(usage) AS s FROM cpu GROUP BY host, region")
    before = asked(store)
    widen(store)
    by_region = "SELECT host, region, count(*) AS n, sum(usage) AS s FROM cpu GROUP BY host, region ORDER BY s"
    assert sql(store, by_region) == [("a", "eu", 10, 50.0), ("a", None, 60, 60.0), ("b", None, 60, 120.0)]
    # what could not be asked before
    text = "SELECT host, region, sum(usage) AS s FROM cpu GROUP BY host, region"
    assert len(sql(store, text)) == 3
    assert sql(store, "SELECT count(*) AS n FROM cpu WHERE region = 'eu'") == [(10,)]
    assert sql(store, "SELECT count(*) AS n FROM cpu WHERE region IS NULL") == [(120,)]
    assert sql(store, "SELECT count(*) AS n FROM cpu WHERE coalesce(region, '') <> 'eu'") == [(120,)]
    assert sql(store, "SELECT count(DISTINCT region) AS n FROM cpu") == [(1,)]
    assert sql(store, "SELECT host, region, usage, busy FROM latest.cpu ORDER BY usage") == [
        ("a", None, 1.0, None), ("b", None, 2.0, None), ("a", "eu", 5.0, True),
    ]  # fmt: skip
    assert sql(store, "SELECT usage FROM latest.cpu WHERE region = 'eu'") == [(5.0,)]
    gaps = (
        "SELECT time_bucket_gapfill('30m', time) AS t, region, avg(usage) AS u FROM cpu "
        f"WHERE time >= to_timestamp_micros({BASE}) AND time < to_timestamp_micros({BASE + HOUR}) "
        "GROUP BY 1, 2 ORDER BY region NULLS FIRST, t"
    )
    assert [row[1:] for row in sql(store, gaps)] == [(None, 1.5), (None, 1.5), ("eu", None), ("eu", 5.0)]
    after = asked(store)
    assert after["latest"] == sorted([*before["latest"], ("a", 5.0)])
    assert after["sums"] == [("a", 70, 110.0), ("b", 60, 120.0)]
    assert after["hosts"] == before["hosts"]
    assert after["buckets"][0] == before["buckets"][0]
    assert after["buckets"][2][1:] == ("a", 80.0 / 40)


def test_promql(store: Store) -> None:
    before = asked(store)
    widen(store)
    after = asked(store)
    assert after["instant"] == {**before["instant"], ("a", "eu"): 5.0}
    assert after["rate"] == {**before["rate"], ("a", "eu"): 50.0}
    assert promql(store, 'cpu_usage{region="eu"}') == {("a", "eu"): 5.0}
    assert promql(store, 'cpu_usage{region=""}') == before["instant"]
    assert promql(store, 'cpu_usage{region!="",host="b"}') == {}
    assert promql(store, "sum by (region) (cpu_usage)") == {("", "eu"): 5.0, ("", ""): 3.0}
    assert promql(store, "cpu_busy") == {("a", "eu"): 1.0}
    assert after["series"] == before["series"] + 1
    assert store.label_values("region") == ["eu"]
    assert "region" in store.label_names(["cpu_usage"])
    found = store.promql_range("cpu_usage", start=BASE, end=BASE + 59 * MINUTE, step="1m")
    assert sorted(np.diff(found.offsets).tolist()) == [10, 60, 60]


def test_reading_and_deleting(store: Store) -> None:
    widen(store)
    rows = store.scan("cpu", {"host": "a"}, start=BASE + 50 * MINUTE)
    assert rows["region"].to_pylist() == [None, "eu"] * 10
    assert store.scan("cpu", {"region": ["eu", None], "host": "b"}).num_rows == 60
    assert store.latest("cpu", {"region": "eu"})["usage"].to_pylist() == [5.0]
    assert store.delete("cpu", {"region": "eu"}, end=BASE + 55 * MINUTE) == 5
    assert store.delete("cpu", {"region": None, "host": "a"}) == 60
    store.seal()
    store.compact()
    assert store.scan("cpu").num_rows == 65
    assert store.info()["tables"]["cpu"]["series"] == 2
    assert not store.check().damages


def test_what_was_being_read_keeps_its_columns(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SLICE_BYTES", 1)
    store.write("cpu", {"time": BASE + np.arange(5000) * MINUTE, "host": "a", "usage": 1.0})
    reader, rows = store.reader("cpu"), 0
    stream = store.sql_stream("SELECT * FROM cpu")
    for number, batch in enumerate(reader):
        assert batch.schema.names == ["time", "host", "usage"]
        rows += batch.num_rows
        if number == 0:
            widen(store)
    assert 5060 <= rows <= 5070
    assert {tuple(batch.schema.names) for batch in stream} == {("time", "host", "usage")}
    assert store.reader("cpu").schema.names == ["time", "host", "region", "usage", "busy"]


def test_questions_while_labels_come(store: Store) -> None:
    """Whoever asks meanwhile sees series apart, each of them whole."""
    stop, failures = threading.Event(), list[BaseException]()

    def ask() -> None:
        try:
            while not stop.is_set():
                known = promql(store, 'count_over_time(cpu_usage{host="b"}[2h])')
                assert known == {("b", ""): 60.0}
                assert max(promql(store, "max_over_time(cpu_usage[2h])").values()) < 5.0
                assert sql(store, "SELECT count(*) AS n FROM cpu WHERE host = 'b'") == [(60,)]
                assert store.scan("cpu", {"host": "b"}).num_rows == 60
        except BaseException as problem:
            failures.append(problem)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(12):
            line = f"cpu,host=a,l{number}=x usage={number / 4} {BASE + number * MINUTE}000\n"
            assert not store.write_lines(line).faults
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert not failures, failures[0]


def test_namespaces_widen_apart(tmp_path: Path) -> None:
    with kymograph.connect(tmp_path) as store:
        store.create_namespace("roof")
        with kymograph.connect(tmp_path, read_only=True) as reader:
            inner = store.namespace("roof")
            for one in (store, inner):
                one.write("t", {"time": [1], "host": ["a"], "v": [1.0]})
            inner.add_columns("t", ["region"])
            inner.write("t", {"time": [1], "host": ["a"], "region": ["eu"], "v": [2.0]})
            assert store.tables()["t"].labels == reader.tables()["t"].labels == ("host",)
            assert inner.tables()["t"].labels == ("host", "region")
            assert inner.scan("t").num_rows == 2
            store.snapshot(tmp_path / "copy")
    with kymograph.connect(tmp_path / "copy", namespace="roof", read_only=True) as copy:
        assert copy.tables()["t"].labels == ("host", "region")
        assert copy.scan("t")["v"].to_pylist() == [1.0, 2.0]
