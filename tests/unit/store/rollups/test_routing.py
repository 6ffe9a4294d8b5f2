"""Routing: which rollups SQL and PromQL read instead of rows, and that they answer the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import kymograph
from kymograph import Retention
from kymograph.errors import LimitExceeded
from kymograph.model.time import HOUR, MINUTE, SECOND
from kymograph.sql.partial import tier
from kymograph.store.store import Store
from tests.unit.store.rollups.ramps import BASE, ramp


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
    assert store.sql("SELECT median(v) FROM t").tiers == ["raw"]
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
        "SELECT median(value) FROM metric.m",
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
