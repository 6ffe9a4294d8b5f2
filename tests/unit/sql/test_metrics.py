"""Metric views where names collide, series come and go, and descriptions change."""

from __future__ import annotations

import pytest

from kymograph.engine.memory import MemoryEngine
from kymograph.errors import QueryError
from kymograph.model.batch import conform, to_table
from kymograph.model.schema import SAMPLES, SAMPLES_SCHEMA
from kymograph.sql.session import SqlSession


def record(engine: MemoryEngine, name: str, labels: dict[str, str], *values: float) -> None:
    if SAMPLES not in engine.tables():
        engine.create_table(SAMPLES_SCHEMA)
    (number,) = engine.register_series([(name, labels)])
    columns = {"time": list(range(len(values))), "series_id": number, "value": list(values)}
    engine.append(SAMPLES, conform(to_table(columns), SAMPLES_SCHEMA))


@pytest.fixture
def engine() -> MemoryEngine:
    engine = MemoryEngine()
    record(engine, "odd", {"time": "noon", "value": "x", "name": "n", "kind": "k", "plain": "p"}, 1.0, 2.0)
    record(engine, "odd", {"time": "midnight"}, 3.0)
    return engine


def test_labels_named_like_columns_get_a_prefix(engine: MemoryEngine) -> None:
    session = SqlSession(engine)
    result = session.query("SELECT * FROM metric.odd WHERE label_time = 'noon' ORDER BY time DESC LIMIT 1")
    assert result.schema.names == ["time", "kind", "name", "plain", "label_time", "label_value", "value"]
    assert list(result.rows()[0].values())[1:] == ["k", "n", "p", "noon", "x", 2.0]


def test_metrics_orders_by_a_label_called_time(engine: MemoryEngine) -> None:
    rows = (
        SqlSession(engine).query("SELECT time, value, label_name, label_kind FROM metrics ORDER BY time LIMIT 1").rows()
    )
    assert rows == [{"time": "midnight", "value": None, "label_name": None, "label_kind": None}]


def test_new_series_and_descriptions_show_at_once(engine: MemoryEngine) -> None:
    session = SqlSession(engine)
    count = "SELECT count(*) AS n, count(DISTINCT unit) AS units FROM metrics"
    assert session.query(count).rows() == [{"n": 2, "units": 0}]
    record(engine, "other", {"host": "a"}, 5.0)
    engine.put_document("metric", "other", {"kind": "gauge", "unit": "W", "help": None})
    assert session.query(count).rows() == [{"n": 3, "units": 1}]
    assert session.query("SELECT host, value FROM metric.other").rows() == [{"host": "a", "value": 5.0}]


def test_a_metric_without_labels(engine: MemoryEngine) -> None:
    record(engine, "bare", {}, 7.0)
    assert SqlSession(engine).query("SELECT * FROM metric.bare").schema.names == ["time", "value"]


def test_series_without_samples() -> None:
    engine = MemoryEngine()
    engine.register_series([("quiet", {"host": "a"})])
    session = SqlSession(engine)
    assert session.query("SELECT host, value FROM metric.quiet").rows() == []
    assert session.query("SELECT count(*) AS n FROM samples").rows() == [{"n": 0}]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("SELECT * FROM metric.od", "did you mean metric.odd"),
        ("SELECT * FROM metric.zzz", "there are metric.odd"),
        ("SELECT * FROM latest.sample", "did you mean latest.samples"),
        ("SELECT * FROM sample", "did you mean samples"),
        ("SELECT * FROM nowhere.samples", "nowhere.samples"),
    ],
)
def test_hints(engine: MemoryEngine, text: str, hint: str) -> None:
    with pytest.raises(QueryError, match="there is no table") as caught:
        SqlSession(engine).query(text)
    assert hint in str(caught.value)


def test_names_that_need_quotes(engine: MemoryEngine) -> None:
    for name in ("http.requests", 'a"b', "Größe", "with space", "x-y:z"):
        record(engine, name, {"host": "a"}, 1.0)
        quoted = '"' + name.replace('"', '""') + '"'
        assert SqlSession(engine).query(f"SELECT value FROM metric.{quoted}").rows() == [{"value": 1.0}]
