"""The forms a result comes in."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pandas
import polars
import pyarrow as pa
import pytest

from kymograph.engine.interface import Scan
from kymograph.engine.memory import MemoryEngine
from kymograph.errors import Corrupt, QueryError, StoreClosed
from kymograph.model.batch import conform, to_table
from kymograph.model.schema import table_schema
from kymograph.sql.result import Result
from kymograph.sql.session import SqlSession

TIME = pa.timestamp("us", tz="UTC")
SCHEMA = table_schema("t", ["host"], {"v": "int8", "f": "float32"})


@pytest.fixture
def engine() -> MemoryEngine:
    engine = MemoryEngine()
    engine.create_table(SCHEMA)
    data = {"time": [0, 1, -1], "host": ["a", None, "b"], "v": [1, 2, 3], "f": [0.5, None, float("nan")]}
    engine.append("t", conform(to_table(data), SCHEMA))
    return engine


def test_labels_are_strings_and_fields_keep_their_types(engine: MemoryEngine) -> None:
    result = SqlSession(engine).query("SELECT * FROM t ORDER BY time")
    assert result.schema == result.arrow().schema
    assert result.schema.types == [TIME, pa.string(), pa.int8(), pa.float32()]
    assert result.arrow()["host"].to_pylist() == ["b", "a", None]
    assert sum(batch.num_rows for batch in result.batches()) == len(result) == 3


def test_rows(engine: MemoryEngine) -> None:
    rows = SqlSession(engine).query("SELECT time, host, v FROM t WHERE v < 3 ORDER BY v").rows()
    assert rows == [
        {"time": dt.datetime(1970, 1, 1, tzinfo=dt.UTC), "host": "a", "v": 1},
        {"time": dt.datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=dt.UTC), "host": None, "v": 2},
    ]


def test_frames(engine: MemoryEngine) -> None:
    result = SqlSession(engine).query("SELECT time, host, v FROM t ORDER BY v")
    assert isinstance(result.pandas(), pandas.DataFrame)
    assert list(result.pandas()["v"]) == [1, 2, 3]
    assert isinstance(result.polars(), polars.DataFrame)
    assert result.polars()["host"].to_list() == ["a", None, "b"]


def test_no_rows_keep_their_columns(engine: MemoryEngine) -> None:
    result = SqlSession(engine).query("SELECT host, v FROM t WHERE v > 100")
    assert result.rows() == []
    assert result.schema.names == result.arrow().column_names == ["host", "v"]


def test_every_timestamp_is_micros_utc() -> None:
    nanos = pa.array([-1, 1999, None], pa.timestamp("ns"))
    batch = pa.record_batch(
        {
            "n": nanos,
            "s": pa.array([1, 2, None], pa.timestamp("s")),
            "z": pa.array([1, 2, None], pa.timestamp("ms", tz="Europe/Berlin")),
        }
    )
    table = Result(batch.schema, [batch]).arrow()
    assert table.schema.types == [TIME] * 3
    assert table["n"].cast(pa.int64()).to_pylist() == [-1, 1, None]
    assert table["s"].cast(pa.int64()).to_pylist() == [1_000_000, 2_000_000, None]
    assert table["z"].cast(pa.int64()).to_pylist() == [1000, 2000, None]


def test_texts_of_every_kind_are_strings() -> None:
    batch = pa.record_batch(
        {
            "view": pa.array(["a", None], pa.string_view()),
            "large": pa.array(["a", None], pa.large_string()),
            "coded": pa.array(["a", None]).dictionary_encode(),
        }
    )
    assert Result(batch.schema, [batch]).schema.types == [pa.string()] * 3


def test_a_name_that_is_there_twice_is_numbered(engine: MemoryEngine) -> None:
    result = SqlSession(engine).query("SELECT a.v, b.v FROM t a JOIN t b USING (time) WHERE a.v = 1")
    assert result.rows() == [{"v": 1, "v_2": 1}]


def test_an_engine_error_arrives_as_it_is(engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise Corrupt("block 7 is damaged", hint="run kymo check")

    monkeypatch.setattr(engine, "scan", broken)
    with pytest.raises(Corrupt, match="block 7 is damaged"):
        SqlSession(engine).query("SELECT * FROM t")


def test_an_engine_error_amid_the_rows_arrives_as_it_is(engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def part() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"v": pa.array([1], pa.int8())})
        raise Corrupt("block 7 is damaged")

    scan = Scan(pa.schema([("v", pa.int8())]), [part], 100_000)
    monkeypatch.setattr(engine, "scan", lambda *_: scan)
    with pytest.raises(Corrupt, match="block 7 is damaged"):
        SqlSession(engine).query("SELECT sum(v) FROM t")


def test_a_closed_engine_says_so(engine: MemoryEngine) -> None:
    engine.close()
    with pytest.raises(StoreClosed):
        SqlSession(engine).query("SELECT * FROM t")


def test_now_goes_on(engine: MemoryEngine) -> None:
    session = SqlSession(engine)
    (first,), (second,) = (session.query("SELECT now() AS t").rows() for _ in range(2))
    assert first["t"] < second["t"] <= dt.datetime.now(dt.UTC)


def test_a_schema_may_grow_between_queries(engine: MemoryEngine) -> None:
    session = SqlSession(engine)
    assert "w" not in session.query("SELECT * FROM t").schema.names
    engine.alter_table(SCHEMA.extended([("w", pa.bool_())]))
    assert session.query("SELECT w FROM t WHERE w IS NULL AND v = 1").rows() == [{"w": None}]
    engine.drop_table("t")
    with pytest.raises(QueryError, match="there is no table t"):
        session.query("SELECT * FROM t")


def test_unknown_column_names_the_near_one(engine: MemoryEngine) -> None:
    with pytest.raises(QueryError, match=r"No field named hots\. Did you mean 't\.host'"):
        SqlSession(engine).query("SELECT hots FROM t")
