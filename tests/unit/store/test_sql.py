"""SQL through a store: the same rows as every other door, parameters by name, limits."""

from __future__ import annotations

import pytest

from kymograph.errors import LimitExceeded, QueryError
from kymograph.options import QueryLimits
from kymograph.store.store import Store


def test_sql_and_scan_agree(store: Store) -> None:
    store.write("t", {"time": [1, 2, 3], "host": ["a", "b", "a"], "v": [1.5, None, -0.0]})
    store.seal()
    store.write("t", {"time": [2, 4], "host": ["b", "a"], "v": [7.0, float("inf")]})
    found = store.sql("SELECT time, host, v FROM t ORDER BY time").arrow()
    assert found.to_pylist() == store.scan("t").to_pylist()
    latest = store.sql("SELECT host, v FROM latest.t ORDER BY host").rows()
    assert latest == sorted(store.latest("t").select(["host", "v"]).to_pylist(), key=lambda row: row["host"])


def test_parameters_are_values(store: Store) -> None:
    store.write("t", {"time": [1, 2], "host": ["a", "' OR 1=1 --"], "v": [1, 2]})
    query = "SELECT v FROM t WHERE host = $host AND v < $most"
    assert store.sql(query, host="' OR 1=1 --", most=10).rows() == [{"v": 2}]
    assert store.sql(query, {"host": "a"}, most=10).rows() == [{"v": 1}]
    assert store.sql(query, host="c", most=10).rows() == []


def test_metrics_in_sql(store: Store) -> None:
    store.gauge("cpu", 1.5, {"host": "a"}, time=1, unit="percent")
    store.counter("n", 3, {"host": "b"}, time=2)
    assert store.sql("SELECT host, value FROM metric.cpu").rows() == [{"host": "a", "value": 1.5}]
    rows = store.sql("SELECT m.name, s.value FROM samples s JOIN metrics m USING (series_id) ORDER BY 1").rows()
    assert rows == [{"name": "cpu", "value": 1.5}, {"name": "n", "value": 3.0}]


def test_sql_only_reads_and_has_limits(store: Store) -> None:
    store.write("t", {"time": [1, 2, 3], "v": [1, 2, 3]})
    for query in ("DROP TABLE t", "DELETE FROM t", "INSERT INTO t VALUES (1)", "SELECT * FROM nowhere", ""):
        with pytest.raises(QueryError):
            store.sql(query)
    with pytest.raises(LimitExceeded):
        store.sql("SELECT * FROM t", limits=QueryLimits(rows=2)).rows()
    assert store.scan("t").num_rows == 3
