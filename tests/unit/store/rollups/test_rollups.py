"""Rollups: what they hold, how they follow their source, what is refused."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kymograph
from kymograph import Retention
from kymograph.errors import (
    AlreadyExists,
    InvalidInput,
    KymographError,
    LimitExceeded,
    NotFound,
    ReadOnly,
    SchemaError,
    StorageError,
)
from kymograph.model.summary import STATISTICS
from kymograph.model.time import DAY, HOUR, MINUTE, SECOND, to_micros
from kymograph.promql import beside
from kymograph.sql.partial import tier
from kymograph.store.store import Store

BASE = 1_790_000_000 * SECOND // HOUR * HOUR


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    target = "memory:" if request.param == "memory" else tmp_path / "store"
    with kymograph.connect(target, sync="off") as opened:
        yield opened


def ramp(store: Store, minutes: int = 10, host: str = "a", start: int = BASE) -> None:
    """0, 1, 2, … every 10 s."""
    number = store.series_ids([("m", {"host": host})])[0]
    times = start + np.arange(minutes * 6) * 10 * SECOND
    store.append_samples(np.full(len(times), number), times, np.arange(len(times), dtype=np.float64))


def rows(store: Store, table: str) -> list[dict[str, Any]]:
    return store.scan(table).to_pylist()


def test_a_row_per_bucket_and_series(store: Store) -> None:
    ramp(store)
    told = store.create_rollup("m_1m")
    assert told["rows"] == 10
    assert told["by"] == ["series_id"]
    assert told["waiting"] == 0
    third = rows(store, "m_1m")[2]
    start = BASE + 2 * MINUTE
    values = [12.0, 13.0, 14.0, 15.0, 16.0, 17.0]
    assert {name: third[name] for name in STATISTICS} == {
        "count": 6,
        "sum": sum(values),
        "min": 12.0,
        "max": 17.0,
        "first": 12.0,
        "last": 17.0,
        "first_time": start,
        "last_time": start + 50 * SECOND,
        "m2": sum((value - 14.5) ** 2 for value in values),
        "positive": sum(values),
        "negative": 0.0,
        "increase": 5.0,
        "integral_positive": sum(values[:-1]) * 10,
        "integral_negative": 0.0,
    }


def test_tiers_are_made_of_tiers(store: Store) -> None:
    ramp(store, 60)
    store.create_rollup("m_1m")
    store.create_rollup("m_5m", "m_1m", "5m")
    store.create_rollup("m_15m", "m_5m", "15m")
    store.create_rollup("direct", "samples", "15m")
    assert rows(store, "m_15m") == rows(store, "direct")


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


def test_by_labels_series_share_rows(store: Store) -> None:
    for host in ("a", "b", None):
        labels = {"disk": "x"} if host is None else {"host": host, "disk": "x"}
        for step in range(12):
            store.gauge("m", float(step), labels, time=BASE + step * 10 * SECOND)
    store.create_rollup("by_disk", "samples", "1m", by=["disk"])
    store.create_rollup("by_host", "samples", "1m", by=["host"])
    first, second = rows(store, "by_disk")
    assert (first["name"], first["disk"], first["count"]) == ("m", "x", 18)
    # from its last sample in the bucket before, each series has risen by 1 + 5
    assert (first["increase"], second["increase"]) == (15.0, 18.0)
    assert second["integral_positive"] == 3 * 10 * (5 + 6 + 7 + 8 + 9 + 10)
    assert {row["host"] for row in rows(store, "by_host")} == {"a", "b", None}


def test_increases_of_shared_rows_add_up_in_tiers(store: Store) -> None:
    for host in ("a", "b"):
        for step in range(60):
            store.counter("c", float(step % 25), {"host": host}, time=BASE + step * 10 * SECOND)
    store.create_rollup("c_1m", "samples", "1m", by=[])
    store.create_rollup("c_5m", "c_1m", "5m")
    store.create_rollup("all_5m", "samples", "5m", by=[])
    tier, direct = rows(store, "c_5m"), rows(store, "all_5m")
    assert [row["increase"] for row in tier] == [row["increase"] for row in direct]
    assert sum(row["increase"] for row in direct) == 2 * (24 + 24 + 9)
    store.counter("c", 3.0, {"host": "a"}, time=BASE + 5 * MINUTE - 1)
    store.refresh_rollup("c_5m")
    store.refresh_rollup("all_5m")
    assert [row["increase"] for row in rows(store, "c_5m")] == [row["increase"] for row in rows(store, "all_5m")]


def test_fields_of_a_table(store: Store) -> None:
    columns = {
        "time": [BASE + number * 20 * SECOND for number in range(6)],
        "host": ["a", "b", "a", "a", None, "a"],
        "load": [1.5, 2.5, None, -4.0, 9.0, math.nan],
        "up": [True, False, True, True, True, None],
        "note": ["x"] * 6,
    }
    store.create_table("t", ["host", "note"], {"load": "float32", "up": "bool"})
    store.write("t", columns)
    store.create_rollup("t_1m", "t", "1m", by=["host"])
    found = {(row["host"], (row["time"].minute)): row for row in rows(store, "t_1m")}
    assert found["a", 0]["rows"] == 2
    assert found["a", 0]["load_count"] == 1
    assert found["a", 0]["up_sum"] == 2.0
    assert found["a", 1]["rows"] == 2
    assert found["a", 1]["load_min"] == -4.0
    assert math.isnan(found["a", 1]["load_sum"])
    assert found["a", 1]["up_count"] == 1
    assert found[None, 1]["load_last"] == 9.0
    store.create_rollup("t_2m", "t_1m", "2m", fields=["load"])
    assert {row["host"]: row["rows"] for row in rows(store, "t_2m")} == {"a": 4, "b": 1, None: 1}
    assert "up_sum" not in store.tables()["t_2m"].columns


def test_sql_rollup(store: Store) -> None:
    ramp(store)
    ramp(store, host="b")
    text = "WITH m AS (SELECT * FROM metric.m) SELECT host, time_bucket('5m', time) AS t, median(value) AS mid FROM m GROUP BY 1, 2"
    store.create_rollup("mids", query=text)
    assert [(row["host"], row["mid"]) for row in rows(store, "mids")] == [
        ("a", 14.5),
        ("b", 14.5),
        ("a", 44.5),
        ("b", 44.5),
    ]
    for step in range(40):
        store.gauge("m", -1.0, {"host": "b"}, time=BASE + step * SECOND + 1)
    store.delete("samples", {"series_id": 1}, BASE + 5 * MINUTE)
    store.refresh_rollup("mids")
    assert [(row["host"], row["mid"]) for row in rows(store, "mids")] == [("a", 14.5), ("b", -1.0), ("b", 44.5)]


def test_buckets_of_months_and_weeks(store: Store) -> None:
    for day in range(70):
        store.gauge("m", float(day), time=BASE + day * DAY - 70 * DAY)
    for width in ("1 month", "1 week"):
        name = "per_" + width.split()[1]
        text = f"SELECT time_bucket('{width}', time) AS t, count(*) AS n, sum(value) AS s FROM metric.m GROUP BY 1"
        store.create_rollup(name, query=text)
        assert (
            store.sql(f"SELECT time, n, s FROM {name} ORDER BY time").rows()
            == store.sql(text.replace(" AS t,", " AS time,") + " ORDER BY 1").rows()
        )


def test_tiers_by_labels_never_mix_metrics(store: Store) -> None:
    for name in ("m", "n"):
        for second in range(90):
            store.gauge(name, 1.0, {"host": "a", "disk": str(second % 2)}, time=BASE + second * SECOND)
    store.create_rollup("h_1m", "samples", "1m", by=["host", "disk"])
    store.create_rollup("h_5m", "h_1m", "5m", by=["host"])
    assert sorted((row["name"], row["host"], row["count"]) for row in rows(store, "h_5m")) == [
        ("m", "a", 90),
        ("n", "a", 90),
    ]


def test_staleness_markers_count_as_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket of nothing else has a row without values, which PromQL does not see."""
    stale = np.array([0x7FF0000000000002]).view(np.float64)[0]
    for second, value in ((0, 1.0), (30, 2.0), (90, 3.0), (120, stale), (181, stale), (182, 4.0)):
        store.gauge("m", value, {"host": "a"}, time=BASE + second * SECOND)
    for name, source, every, by in (
        ("m_1m", "samples", "1m", None),
        ("m_2m", "m_1m", "2m", None),
        ("h_1m", "samples", "1m", ["host"]),
        ("h_2m", "m_1m", "2m", ["host"]),
    ):
        store.create_rollup(name, source, every, by)
        wanted = [(2, 2, 3.0), (1, 1, 3.0), (1, None, None), (2, 1, 4.0)]
        if every == "2m":
            wanted = [(3, 3, 6.0), (3, 1, 4.0)]
        assert [(row["rows"], row["count"], row["sum"]) for row in rows(store, name)] == wanted
        assert not math.isnan(rows(store, name)[1]["max"])
    for name in ("_SAMPLES_PER_STRETCH", "_COLUMNS_PER_SAMPLE"):
        monkeypatch.setattr(beside, name, 0)
    for function, wanted in (("count", 4.0), ("sum", 10.0), ("last", 4.0), ("min", 1.0)):
        found = store.promql(f"{function}_over_time(m[1h])", time=BASE + 10 * MINUTE)
        assert found.values.tolist() == [wanted]
        assert found.tiers[0] in ("m_1m", "m_2m")


def test_drop_and_create_again(store: Store) -> None:
    ramp(store)
    store.create_rollup("m_1m")
    assert store.create_rollup("m_1m")["rows"] == 10
    assert store.create_rollup("m_1m", keep=Retention(age="100y"))["rows"] == 10
    assert store.tables()["m_1m"].retention == Retention(age="100y")
    store.create_rollup("m_1m")  # says nothing about it
    assert store.tables()["m_1m"].retention == Retention(age="100y")
    store.create_rollup("m_5m", "m_1m", "5m")
    with pytest.raises(InvalidInput, match="m_5m"):
        store.drop_rollup("m_1m")
    with pytest.raises(InvalidInput, match="rollup"):
        store.drop_table("m_1m")
    with pytest.raises(InvalidInput, match="m_1m"):
        store.drop_table("samples")
    store.drop_rollup("m_5m")
    store.drop_rollup("m_1m")
    assert list(store.tables()) == ["samples"]
    store.create_rollup("m_1m", "samples", "2m")
    assert len(rows(store, "m_1m")) == 5


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"name": "no name"}, SchemaError),
        ({"name": "samples"}, AlreadyExists),
        ({"name": "m_1m", "every": "2m"}, AlreadyExists),
        ({"name": "x", "source": "nowhere"}, NotFound),
        ({"name": "x", "every": "0s"}, InvalidInput),
        ({"name": "x", "every": "10ms"}, InvalidInput),
        ({"name": "x", "every": "often"}, InvalidInput),
        ({"name": "x", "every": None}, InvalidInput),
        ({"name": "x", "source": "m_1m", "every": "90s"}, InvalidInput),
        ({"name": "x", "source": "m_1m", "every": "1m"}, InvalidInput),
        ({"name": "x", "by": "host"}, InvalidInput),
        ({"name": "x", "by": ["host", "host"]}, InvalidInput),
        ({"name": "x", "fields": ["value"]}, SchemaError),
        ({"name": "x", "start_offset": "1m"}, InvalidInput),
        ({"name": "x", "keep": "1d"}, KymographError),
        ({"name": "x", "query": "SELECT 1"}, InvalidInput),
        (
            {"name": "x", "query": "SELECT time_bucket('1m', time) AS t, count(*) AS n FROM nowhere GROUP BY 1"},
            NotFound,
        ),
        ({"name": "x", "query": "DROP TABLE samples"}, InvalidInput),
        (
            {"name": "x", "query": "SELECT time_bucket($w, time) AS t, count(*) AS n FROM samples GROUP BY 1"},
            InvalidInput,
        ),
    ],
)
def test_what_is_refused(store: Store, arguments: dict[str, Any], error: type[Exception]) -> None:
    ramp(store)
    store.create_rollup("m_1m")
    with pytest.raises(error):
        store.create_rollup(**arguments)
    assert sorted(store.tables()) == ["m_1m", "samples"]
    assert len(store.rollups()) == 1


def test_a_reader_beside_the_writer(tmp_path: Path) -> None:
    with kymograph.connect(tmp_path / "s") as store:
        ramp(store, 120)
        store.create_rollup("m_1m")
        wanted = store.promql("avg_over_time(m[1h])", time=BASE + 2 * HOUR)
        with kymograph.connect(tmp_path / "s", read_only=True) as reader:
            assert reader.rollups() == store.rollups()
            found = reader.promql("avg_over_time(m[1h])", time=BASE + 2 * HOUR)
            assert (found.values.tolist(), found.tiers) == (wanted.values.tolist(), wanted.tiers)
            assert "m_1m" in found.tiers
            store.gauge("m", 1e6, {"host": "a"}, time=BASE + 90 * MINUTE + 1)
            found = reader.promql("max_over_time(m[1h])", time=BASE + 2 * HOUR)
            assert found.values.tolist() == [1e6]
            with pytest.raises(ReadOnly):
                reader.create_rollup("x")


def test_sql_reads_rollups_of_tables(store: Store) -> None:
    times = BASE + np.arange(7200) * SECOND
    store.write("t", {"time": times, "host": ["a", "b"] * 3600, "v": np.arange(7200.0), "n": np.arange(7200)})
    text = (
        "SELECT host, time_bucket('10m', time) AS b, avg(v) AS v, max(n) AS n, sum(n) AS s, count(*) AS c FROM t"
        " WHERE time >= $start AND time < $end GROUP BY 1, 2 ORDER BY 1, 2"
    )
    span = {
        "start": np.datetime64(BASE + 125 * SECOND, "us").item(),
        "end": np.datetime64(BASE + 2 * HOUR, "us").item(),
    }
    before = store.sql(text, span)
    assert before.tiers == ["raw"]
    store.create_rollup("t_1m", "t", "1m")
    store.create_rollup("t_5m", "t_1m", "5m")
    after = store.sql(text, span)
    assert after.tiers == ["t_5m", "raw"]
    assert after.rows() == before.rows()
    assert not after.approximate
    assert store.explain("SELECT max(v) FROM t")["tiers"] == ["t_5m", "raw"]
    # what a summary cannot tell is asked of the rows
    assert store.sql("SELECT max(v) FROM t WHERE n > 5").tiers == ["raw"]
    assert store.sql("SELECT stddev(v) FROM t").tiers == ["raw"]
    assert store.sql("SELECT host, time_bucket('90s', time) AS b, max(v) FROM t GROUP BY 1, 2").tiers == ["raw"]
    store.write("t", {"time": [BASE + HOUR], "host": ["a"], "v": [1e9], "n": [1]})
    assert store.sql("SELECT max(v) AS v FROM t").rows() == [{"v": 1e9}]
    age = kymograph.store.jobs.now_micros() - BASE - HOUR
    store.set_retention("t", Retention(age=age))
    store.refresh_rollup("t_5m")
    store.prune(force=True)
    assert store.sql("SELECT count(*) AS n FROM t").rows() == [{"n": 7200}]
    assert store.sql(text, span).approximate


def test_sql_reads_rollups_of_samples(store: Store) -> None:
    ramp(store, 120)
    ramp(store, 120, "b")
    text = "SELECT host, time_bucket('10m', time) AS b, avg(value) AS v, max(value) AS top, count(*) AS n FROM metric.m"
    text += " WHERE time >= $start GROUP BY 1, 2 ORDER BY 1, 2"
    span = {"start": np.datetime64(BASE + 125 * SECOND, "us").item()}
    plain = ["SELECT max(value) FROM metric.m", "SELECT sum(m.value), count(m.host) FROM metric.m"]
    before = [store.sql(text, span).rows(), *(store.sql(one).rows() for one in plain)]
    store.create_rollup("m_1m")
    store.create_rollup("h_1m", "samples", "1m", by=["host"])
    found = store.sql(text, span)
    assert (found.tiers, found.approximate, found.rows()) == (["h_1m", "raw"], False, before[0])
    assert [store.sql(one).rows() for one in plain] == before[1:]
    assert store.explain(plain[0])["tiers"] == ["h_1m", "raw"]
    by_series = "SELECT series_id, sum(value) AS s FROM samples WHERE series_id IN (1, 2) GROUP BY 1"
    assert store.sql(by_series).tiers == ["m_1m", "raw"]
    for unfit in (
        "SELECT stddev(value) FROM metric.m",
        "SELECT max(value) AS v FROM metric.m WHERE value > 5",
        "SELECT max(q.value) AS v FROM samples q JOIN metrics m ON m.series_id = q.series_id",
        "SELECT time_bucket('90s', time) AS b, max(value) AS v FROM metric.m GROUP BY 1",
    ):
        assert store.sql(unfit).tiers == ["raw"]
    # inside a statement, and where the statement goes on
    inner = "SELECT avg(v) AS v FROM (SELECT host, max(value) AS v FROM metric.m GROUP BY host) q"
    assert (store.sql(inner).rows(), store.sql(inner).tiers) == ([{"v": 719.0}], ["h_1m", "raw"])


def test_sql_of_few_buckets_whose_rows_are_gone(store: Store) -> None:
    """What only the rollups have is read from them however little it is; of these, from the one that has most of it."""
    ramp(store, 240)
    store.write("t", {"time": BASE + np.arange(240) * MINUTE, "host": "a", "v": np.arange(240)})
    for source in ("samples", "t"):
        for every in ("1m", "30m"):
            store.create_rollup(f"{source}_{every}_kept", source, every)
        store.set_retention(source, Retention(age=kymograph.store.jobs.now_micros() - BASE - 3 * HOUR))
    store.prune(force=True)
    span = {"low": np.datetime64(BASE + 10 * MINUTE, "us").item(), "high": np.datetime64(BASE + HOUR, "us").item()}
    for table, count, kept in (("metric.m", 300, "samples"), ("t", 50, "t")):
        found = store.sql(f"SELECT count(*) AS n FROM {table} WHERE time >= $low AND time < $high", span)
        assert (found.rows(), found.tiers) == ([{"n": count}], [f"{kept}_1m_kept"])
        assert not found.approximate


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


def test_tiers_follow_a_deletion_that_empties_no_bucket_below(store: Store) -> None:
    ramp(store, 60)
    store.create_rollup("m_1m")
    store.create_rollup("m_5m", "m_1m", "5m")
    # of every minute the first half
    for minute in range(10, 20):
        store.delete("samples", None, BASE + minute * MINUTE, BASE + minute * MINUTE + 30 * SECOND)
    store.refresh_rollup("m_5m")
    assert [row["count"] for row in rows(store, "m_5m")] == [30, 30, 15, 15, *[30] * 8]


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


def test_sql_in_namespaces_reads_their_own_rollups(tmp_path: Path) -> None:
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        ramp(store, 60)
        store.create_rollup("kept")
        store.create_namespace("solar")
    with kymograph.connect(tmp_path / "s", namespace="solar", sync="off") as solar:
        ramp(solar, 30)
        text = "SELECT count(*) AS n, max(value) AS v FROM metric.m"
        assert (solar.sql(text).rows(), solar.sql(text).tiers) == ([{"n": 180, "v": 179.0}], ["raw"])
        solar.create_rollup("other")
        assert (solar.sql(text).rows(), solar.sql(text).tiers) == ([{"n": 180, "v": 179.0}], ["other", "raw"])
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        assert (store.sql(text).rows(), store.sql(text).tiers) == ([{"n": 360, "v": 359.0}], ["kept", "raw"])


def test_sql_holds_only_so_many_summaries(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where samples are there they are summed up instead; where they are gone, the query is refused."""
    ramp(store, 60)
    store.create_rollup("kept", "samples", "1m")
    text = "SELECT count(*) AS n FROM metric.m"
    monkeypatch.setattr(tier, "MOST_SUMMARIES", 50)
    assert (store.sql(text).rows(), store.sql(text).tiers) == ([{"n": 360}], ["raw"])
    store.downsample(kymograph.store.jobs.now_micros() - BASE - HOUR, "1m")
    with pytest.raises(LimitExceeded, match="61 summaries of samples_1m"):
        store.sql(text)
    monkeypatch.setattr(tier, "MOST_SUMMARIES", 61)
    assert store.sql(text).rows() == [{"n": 360}]


def test_sql_of_a_ring_reads_what_it_has_pushed_out(store: Store) -> None:
    ramp(store, 1, start=BASE + 59 * MINUTE)
    store.ring("r", "1s", 60)
    store.create_rollup("kept", "samples", "1m")
    now = kymograph.store.jobs.now_micros() // MINUTE * MINUTE - 6 * MINUTE
    for minute in range(4):
        for second in range(0, 60, 10):
            store.gauge("r", 1.0, time=now + minute * MINUTE + second * SECOND)
        store.run_rollups()
    assert len(store.scan("samples", {"series_id": 2})) == 6
    text = "SELECT count(*) AS n FROM metric.r WHERE time >= $start"
    for late, count, approximate in ((0, 24, False), (MINUTE, 18, False), (1, 18, True)):
        found = store.sql(text, start=np.datetime64(now + late, "us").item())
        assert (found.rows(), found.approximate) == ([{"n": count}], approximate)
    assert not store.sql("SELECT count(*) AS n FROM metric.m WHERE time > $start", start="2026-01-01").approximate


@pytest.mark.parametrize("source", ["metric.m", "t"])
def test_a_start_offset_does_not_hide_what_only_the_rollup_has(store: Store, source: str) -> None:
    ramp(store, 60)
    store.write("t", {"time": BASE + np.arange(360) * 10 * SECOND, "host": "a", "value": np.arange(360)})
    table = "t" if source == "t" else "samples"
    store.create_rollup("kept", table, "1m", start_offset="1h")
    store.set_retention(table, Retention(age=kymograph.store.jobs.now_micros() - BASE - 30 * MINUTE))
    store.prune(force=True)
    found = store.sql(f"SELECT count(*) AS n, max(value) AS v FROM {source}")
    assert (found.rows(), found.tiers) == ([{"n": 360, "v": 359}], ["kept", "raw"])
    query = "count_over_time(m[1h])" if source == "metric.m" else "count_over_time(t_value[1h])"
    assert store.promql(query, time=BASE + HOUR).values.tolist() == [359.0]


def test_a_range_that_is_refreshed_ends_where_the_rollup_does(store: Store) -> None:
    """What is not due yet would not be watched: a deletion there would leave the summary for ever."""
    now = kymograph.store.jobs.now_micros()
    store.gauge("m", 1.0, time=now - 30 * MINUTE)
    store.gauge("m", 1.0, time=now - 2 * HOUR)
    store.create_rollup("m_1m", end_offset="1h")
    store.refresh_rollup("m_1m", now - 3 * HOUR, now)
    assert len(rows(store, "m_1m")) == 1


def test_promql_reads_rollups_of_tables(store: Store) -> None:
    times = BASE + np.arange(3600) * SECOND
    random = np.random.default_rng(5)
    rows = {"host": ["a", "b"] * 1800, "room": ["x", "y", "y"] * 1200, "v": random.normal(size=3600)}
    more = {"n": random.integers(-9, 9, 3600), "up": random.random(3600) > 0.5}
    store.write("t", {"time": times, **rows, **more})
    queries = ["avg_over_time(t_v[17m])", "rate(t_n[20m])", "stddev_over_time(t_n[15m])", "sum_over_time(t_up[10m])"]
    queries += ['integrate_negative({__name__=~"t_v|t_n",host="a"}[15m]) keep_metric_names', "max_over_time(t_v[10m])"]
    span = {"start": BASE + 20 * MINUTE, "end": BASE + HOUR, "step": "10m"}
    before = [store.promql_range(query, **span) for query in queries]
    store.create_rollup("t_1m", "t", "1m", by=["room", "host"])
    store.create_rollup("t_5m", "t_1m", "5m")
    for query, wanted in zip(queries, before, strict=True):
        found = store.promql_range(query, **span)
        assert found.labels == wanted.labels
        assert found.times.tolist() == wanted.times.tolist()
        np.testing.assert_allclose(found.values, wanted.values, rtol=1e-10, atol=1e-9)
        assert not found.warnings
        assert wanted.tiers == ["raw"]
        assert {"t_1m", "t_5m"} & set(found.tiers), query
    store.write("t", {"time": [BASE + 30 * MINUTE], "host": ["a"], "room": ["x"], "v": [1e6], "n": [1], "up": [True]})
    found = store.promql_range("max_over_time(t_v[10m])", **span)
    assert found.values.max() == 1e6
    store.refresh_rollup("t_5m")
    store.set_retention("t", Retention(age=kymograph.store.jobs.now_micros() - BASE - 50 * MINUTE))
    store.prune(force=True)
    found = store.promql_range("count_over_time(t_v[10m])", **span)
    assert len(found.values) == len(before[5].values)
    assert found.tiers[0] == "t_1m"


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
            setattr(engine, name, _failing(work, left))
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


def _failing(work: Any, left: list[int]) -> Any:
    def run(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise StorageError("the disk is gone")
        return work(*arguments, **named)

    return run


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
        assert first.wait(30)
        store.close()
        thread.join(30)
        assert not thread.is_alive()
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        store.refresh_rollup("m_1m")
        assert len(rows(store, "m_1m")) == 400
