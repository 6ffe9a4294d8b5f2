"""Queries that want too much time, memory, rows or depth get an error, and the process lives on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from kymograph.engine.interface import Scan
from kymograph.engine.memory import MemoryEngine
from kymograph.errors import KymographError, LimitExceeded, QueryError
from kymograph.model.batch import conform, to_table
from kymograph.model.schema import table_schema
from kymograph.options import QueryLimits
from kymograph.sql import worker
from kymograph.sql.session import SqlSession

ENDLESS = "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r"
EXPLODING = "SELECT count(*) FROM generate_series(1, 1000000000000) a, (VALUES (1), (2)) b(y) WHERE a.value + b.y = -1"


@pytest.fixture(scope="module")
def session() -> SqlSession:
    return SqlSession(MemoryEngine())


@pytest.mark.parametrize("text", [ENDLESS, EXPLODING])
def test_timeout(session: SqlSession, text: str) -> None:
    begin = time.monotonic()
    with pytest.raises(LimitExceeded, match=r"longer than 0\.2 s"):
        session.query(text, limits=QueryLimits(timeout=0.2))
    assert time.monotonic() - begin < 60
    assert session.query("SELECT 1 AS x").rows() == [{"x": 1}]


def test_an_abandoned_query_stops(session: SqlSession) -> None:
    with pytest.raises(LimitExceeded):
        session.query(ENDLESS, limits=QueryLimits(timeout=0.2))
    wait_for_abandoned()


def test_rows(session: SqlSession) -> None:
    text = "SELECT * FROM generate_series(1, 1000000000)"
    with pytest.raises(LimitExceeded, match="more than 1000 rows"):
        session.query(text, limits=QueryLimits(rows=1000))
    assert len(session.query("SELECT * FROM generate_series(1, 1000)", limits=QueryLimits(rows=1000))) == 1000


def test_memory_of_the_plan(session: SqlSession) -> None:
    text = "SELECT value, count(*) FROM generate_series(1, 10000000) GROUP BY value ORDER BY 2, 1"
    with pytest.raises(LimitExceeded, match="more than 8388608 bytes of memory"):
        session.query(text, limits=QueryLimits(memory=8 * 2**20))


def test_memory_of_the_result(session: SqlSession) -> None:
    with pytest.raises(LimitExceeded, match="larger than 1048576 bytes"):
        session.query("SELECT * FROM generate_series(1, 1000000000)", limits=QueryLimits(memory=2**20))


def test_the_pool_is_whole_again_after_a_failure(session: SqlSession) -> None:
    limits = QueryLimits(memory=16 * 2**20)
    for _ in range(20):
        with pytest.raises(KymographError):
            session.query(
                "SELECT sum(1 / (value - 40000)) FROM generate_series(1, 50000) GROUP BY value", limits=limits
            )
    assert len(session.query("SELECT value, count(*) FROM generate_series(1, 50000) GROUP BY value", limits=limits))


@pytest.mark.parametrize(
    "text",
    [
        "SELECT repeat('x', 10000000000)",
        "SELECT lpad('x', 10000000000)",
        "SELECT range(1, 100000000000)",
        "SELECT generate_series(1, 100000000000)",
        "SELECT array_repeat(1, 100000000000)",
        "SELECT array_resize([1], 100000000000)",
    ],
)
def test_functions_that_make_much_of_little_are_not_there(session: SqlSession, text: str) -> None:
    with pytest.raises(QueryError, match="Invalid function"):
        session.query(text)


HOSTILE = {
    "brackets": "'SELECT ' + '(' * 10_000 + '1' + ')' * 10_000",
    "ors": "'SELECT 1 WHERE ' + ' OR '.join(['random() = 1'] * 20_000)",
    "all allowed ors": "'SELECT 1 WHERE ' + ' OR '.join(['random() = 1'] * 490)",
    "pluses": "'SELECT ' + '+'.join(['1'] * 100_000)",
    "all allowed pluses": "'SELECT ' + '+'.join(['random()'] * 500)",
    "minuses": "'SELECT ' + '- ' * 900 + '1'",
    "nots": "'SELECT ' + 'NOT ' * 900 + 'true'",
    "cases": "'SELECT ' + 'CASE WHEN random() = 1 THEN 2 ELSE ' * 300 + '3' + ' END' * 300",
    "intervals": "'SELECT ' + 'INTERVAL ' * 900 + \"'1 day'\"",
    "functions": "'SELECT ' + 'abs(' * 1000 + '1' + ')' * 1000",
    "arrays": "'SELECT ' + '[' * 1000 + '1' + ']' * 1000",
    "casts": "'SELECT 1' + '::bigint' * 490",
    "is null": "'SELECT 1' + ' IS NULL' * 990",
    "fields": "'SELECT a' + '.a' * 5000",
    "sub-selects": "'SELECT * FROM (' * 5000 + 'SELECT 1' + ')' * 5000",
    "unions": "' UNION ALL '.join(['SELECT 1'] * 5000)",
    "all allowed unions": "' UNION ALL '.join(['SELECT 1'] * 100)",
    "chained WITH": "'WITH ' + ','.join(f'c{i} AS (SELECT ' + ('1 AS a' if i == 0 else f'a + 1 AS a FROM c{i-1}') + ')' "
    "for i in range(60)) + ' SELECT * FROM c59'",
    "doubling WITH": "'WITH ' + ','.join(f'c{i} AS (SELECT ' + ('1 AS a' if i == 0 else f'x.a FROM c{i-1} x, c{i-1} y') "
    "+ ')' for i in range(12)) + ' SELECT count(*) FROM c11'",
    "tables": "'SELECT 1 FROM ' + ','.join(f'(SELECT 1) t{i}' for i in range(60))",
    "long list": "'SELECT 1 WHERE 5 IN (' + ','.join(map(str, range(40_000))) + ')'",
    "long text": "'SELECT \\'' + 'x' * 10_000_000 + '\\''",
}


def test_hostile_texts_do_not_end_the_process() -> None:
    """All in one child with the default stack: a stack overflow in the planner would abort it."""
    script = (
        "from kymograph.engine.memory import MemoryEngine\n"
        "from kymograph.errors import KymographError\n"
        "from kymograph.options import QueryLimits\n"
        "from kymograph.sql.session import SqlSession\n"
        "session = SqlSession(MemoryEngine())\n"
        f"for name, text in {{{', '.join(f'{name!r}: {text}' for name, text in HOSTILE.items())}}}.items():\n"
        "    print(name, flush=True)\n"
        "    try:\n"
        "        session.query(text, limits=QueryLimits(timeout=5, memory=2**26, rows=10))\n"
        "    except KymographError as problem:\n"
        "        assert str(problem) and 'panic' not in str(problem).lower(), problem\n"
        "print('alive')\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=280, env=dict(os.environ), check=False
    )
    assert child.returncode == 0, f"after {child.stdout.splitlines()[-1:]}: {child.stderr[-2000:]}"
    assert child.stdout.endswith("alive\n")


def test_worker_gives_back_results_and_errors() -> None:
    assert worker.run(lambda: 5, None, lambda: None) == 5
    with pytest.raises(ZeroDivisionError):
        worker.run(lambda: 1 // 0, 1.0, lambda: None)


def test_worker_abandons_on_its_deadline_only() -> None:
    abandoned = threading.Event()

    def spin() -> None:
        with worker.exposed():
            while True:
                time.sleep(0.001)

    with pytest.raises(TimeoutError):
        worker.run(spin, 0.05, abandoned.set)
    assert abandoned.is_set()
    for _ in range(50):
        assert worker.run(lambda: "next", 60, lambda: None) == "next"
    wait_for_abandoned()


def test_a_shielded_worker_stops_when_it_is_exposed_again() -> None:
    steps: list[str] = []
    inside, late = threading.Event(), threading.Event()

    def work() -> None:
        with worker.exposed():
            with worker.shielded():
                inside.set()
                late.wait(60)
                steps.append("shielded to its end")
            steps.append("never")

    while not inside.is_set():  # a thread may not have come as far when its time is up
        with pytest.raises(TimeoutError):
            worker.run(work, 0.05, lambda: None)
    late.set()
    wait_for_abandoned()
    assert steps == ["shielded to its end"]


class SlowEngine(MemoryEngine):
    """Makes batches slowly, and counts how often it began to and how often it was let end."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = self.ended = 0

    def scan(self, *arguments: Any, **named: Any) -> Scan:
        scan = super().scan(*arguments, **named)

        def part() -> Iterator[pa.RecordBatch]:
            for _ in range(1000):
                self.begun += 1
                for _ in range(20):
                    time.sleep(0.001)
                self.ended += 1
                yield from scan.parts[0]()

        return Scan(scan.schema, [part], 1000)


def test_engine_code_is_never_interrupted() -> None:
    engine = SlowEngine()
    schema = table_schema("t", [], {"v": "int64"})
    engine.create_table(schema)
    engine.append("t", conform(to_table({"time": [1], "v": [2]}), schema))
    tries = 0
    while tries < 5 or engine.begun <= 5:  # a slow machine may spend the time on planning
        with pytest.raises(LimitExceeded):
            SqlSession(engine).query("SELECT sum(v) FROM t", limits=QueryLimits(timeout=0.1 + tries / 100))
        wait_for_abandoned()
        tries += 1
    assert engine.begun == engine.ended > 5


def wait_for_abandoned() -> None:
    deadline = time.monotonic() + 60
    while any(isinstance(t, worker._Worker) and t.abandoned for t in threading.enumerate()):
        assert time.monotonic() < deadline, "an abandoned query is still running"
        time.sleep(0.02)


def test_queries_run_side_by_side(session: SqlSession) -> None:
    results: list[int] = []

    def ask(n: int) -> None:
        answers = [session.query("SELECT $a + $b AS x", {"a": n, "b": i}).rows() for i in range(20)]
        results.extend(row["x"] - n - i for i, (row,) in enumerate(answers))

    threads = [threading.Thread(target=ask, args=(n * 1000,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [0] * 160


def test_lists_that_make_many_rows_out_of_few_are_stopped() -> None:
    engine = MemoryEngine()
    engine.create_table(table_schema("t", ["host"], {"v": "int64"}))
    columns = {"time": list(range(5000)), "host": ["a"] * 5000, "v": [1] * 5000}
    engine.append("t", conform(to_table(columns), engine.tables()["t"]))
    many = ", ".join(map(str, range(20_000)))
    with pytest.raises(LimitExceeded):
        SqlSession(engine).query(f"SELECT unnest([{many}]) AS n FROM t", limits=QueryLimits(timeout=5, rows=100_000))
