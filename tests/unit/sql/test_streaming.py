"""Rows handed over while a query runs: the same rows, held a few batches at a time, and ended with whoever reads them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from kymograph.engine.interface import Scan
from kymograph.engine.memory import MemoryEngine
from kymograph.errors import Corrupt, LimitExceeded, QueryError
from kymograph.model.batch import conform, to_table
from kymograph.model.schema import table_schema
from kymograph.options import QueryLimits
from kymograph.sql import worker
from kymograph.sql.session import SqlSession

ROWS = 60_000
SCHEMA = table_schema("t", ["host"], {"v": "float64"})


@pytest.fixture(scope="module")
def engine() -> MemoryEngine:
    made = MemoryEngine()
    made.create_table(SCHEMA)
    columns = {"time": np.arange(ROWS), "host": ["a", "b", "c"] * (ROWS // 3), "v": np.arange(ROWS) * 0.5}
    made.append("t", conform(to_table(columns), SCHEMA))
    return made


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM t ORDER BY time",
        "SELECT host, time, v AS time_2 FROM t ORDER BY time DESC LIMIT 5",
        "SELECT host, avg(v) AS v FROM t GROUP BY host ORDER BY host",
        "SELECT time_bucket_gapfill('10 milliseconds', time) AS b, max(v) AS v FROM t"
        " WHERE time >= TIMESTAMP '1970-01-01T00:00:00Z' AND time < TIMESTAMP '1970-01-01T00:00:00.1Z' GROUP BY 1 ORDER BY 1",
        "SELECT * FROM t WHERE host = 'nobody'",
    ],
)
def test_it_gives_what_a_query_gives(engine: MemoryEngine, text: str) -> None:
    session = SqlSession(engine)
    stream = session.stream(text)
    whole = session.query(text).arrow()
    assert stream.schema == whole.schema
    assert pa.Table.from_batches(list(stream), stream.schema).equals(whole)


def test_results_may_be_larger_than_the_memory_of_the_plan(engine: MemoryEngine) -> None:
    session, text = SqlSession(engine), "SELECT v, v * 2 AS w, v * 3 AS x FROM t"
    limits = QueryLimits(memory=500_000)
    with pytest.raises(LimitExceeded, match="larger than 500000 bytes"):
        session.query(text, limits=limits)
    assert sum(batch.num_rows for batch in session.stream(text, limits=limits)) == ROWS


def test_what_is_wrong_with_the_statement_is_told_at_once(engine: MemoryEngine) -> None:
    with pytest.raises(QueryError, match="No field named nothing"):
        SqlSession(engine).stream("SELECT nothing FROM t")
    with pytest.raises(QueryError, match="no value was given"):
        SqlSession(engine).stream("SELECT v FROM t WHERE host = $host")


def test_rows_beyond_the_limit_come_after_those_within_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = MemoryEngine()
    made.create_table(SCHEMA)
    monkeypatch.setattr(made, "scan", lambda *_, **__: endless(threading.Event()))
    stream = SqlSession(made).stream("SELECT v FROM t", limits=QueryLimits(rows=30_000))
    batches: list[pa.RecordBatch] = []
    with pytest.raises(LimitExceeded, match="more than 30000 rows"):
        batches.extend(stream)
    assert 8192 <= sum(batch.num_rows for batch in batches) <= 30_000


def endless(stopped: threading.Event) -> Scan:
    """Batches without end; says when nobody wants more."""
    batch = pa.record_batch({"v": pa.array(np.arange(8192, dtype=np.float64))})

    def part() -> Iterator[pa.RecordBatch]:
        try:
            while True:
                yield batch
        finally:
            stopped.set()

    return Scan(batch.schema, [part], 10**9)


def test_closing_it_ends_the_query(monkeypatch: pytest.MonkeyPatch) -> None:
    made, stopped = MemoryEngine(), threading.Event()
    made.create_table(SCHEMA)
    monkeypatch.setattr(made, "scan", lambda *_, **__: endless(stopped))
    stream = SqlSession(made).stream("SELECT v FROM t")
    assert next(iter(stream)).num_rows
    assert not stopped.is_set()
    stream.close()
    assert stopped.wait(60)


def test_nobody_who_reads_slowly_runs_out_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made, stopped = MemoryEngine(), threading.Event()
    made.create_table(SCHEMA)
    monkeypatch.setattr(made, "scan", lambda *_, **__: endless(stopped))
    stream = SqlSession(made).stream("SELECT v FROM t", limits=QueryLimits(timeout=60))
    batches, clock = iter(stream), time.monotonic
    for turn in range(5):
        next(batches)
        # what the reader does with it takes longer than the query may
        monkeypatch.setattr(worker, "time", SimpleNamespace(monotonic=lambda turn=turn: clock() + (turn + 1) * 100))
    stream.close()


def test_a_query_that_yields_nothing_runs_out_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made, stopped = MemoryEngine(), threading.Event()
    made.create_table(SCHEMA)
    monkeypatch.setattr(made, "scan", lambda *_, **__: endless(stopped))
    with pytest.raises(LimitExceeded, match=r"longer than 0\.5 s"):
        list(SqlSession(made).stream("SELECT v FROM t WHERE v < 0", limits=QueryLimits(timeout=0.5)))


def test_an_engine_error_amid_the_rows_arrives_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    made = MemoryEngine()
    made.create_table(SCHEMA)

    def part() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"v": pa.array([1.0])})
        raise Corrupt("block 7 is damaged")

    monkeypatch.setattr(made, "scan", lambda *_, **__: Scan(pa.schema([("v", pa.float64())]), [part], 100_000))
    with pytest.raises(Corrupt, match="block 7 is damaged"):
        list(SqlSession(made).stream("SELECT v FROM t"))
