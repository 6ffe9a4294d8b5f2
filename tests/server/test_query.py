"""The SQL door: what it answers, and everything it must not do."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pyarrow as pa
import pytest

from tests.server.conftest import GPUS, ROWS
from tests.server.running import TRUST, Running, eventually


def ask(server: Running, sql: object, headers: dict[str, str] | None = None, **body: object) -> httpx.Response:
    with server.client() as http:
        return http.post("/api/sql", json={"sql": sql, **body}, headers=headers)


def test_rows_columns_and_parameters(recorded: Running) -> None:
    answer = ask(
        recorded,
        "SELECT device_index, count(*) AS n, max(gpu_temp) AS hot FROM gpu_metrics WHERE gpu_uuid = $gpu GROUP BY 1",
        params={"gpu": "GPU-1"},
    ).json()
    assert answer["rows"] == [{"device_index": 1, "n": ROWS, "hot": 49.0}]
    assert [column["name"] for column in answer["columns"]] == ["device_index", "n", "hot"]
    assert answer["row_count"] == 1
    assert answer["elapsed_ms"] >= 0
    assert len(ask(recorded, "SELECT * FROM latest.gpu_metrics").json()["rows"]) == GPUS
    assert len(ask(recorded, "SELECT time, host, value FROM metric.cpu_percent").json()["rows"]) == 10


def test_formats_by_accept_and_by_name(recorded: Running) -> None:
    query = "SELECT gpu_uuid, gpu_temp FROM gpu_metrics ORDER BY time, gpu_uuid LIMIT 5"
    rows = ask(recorded, query).json()["rows"]
    for body, headers in (({"format": "csv"}, None), ({}, {"Accept": "text/csv;q=0.9, */*"})):
        answer = ask(recorded, query, headers, **body)
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        read = [{**row, "gpu_temp": float(row["gpu_temp"])} for row in csv.DictReader(io.StringIO(answer.text))]
        assert read == rows
    for body, headers in (({"format": "arrow"}, None), ({}, {"Accept": "application/vnd.apache.arrow.stream"})):
        answer = ask(recorded, query, headers, **body)
        assert pa.ipc.open_stream(answer.content).read_all().to_pylist() == rows
    assert ask(recorded, query, {"Accept": "text/html"}).json()["rows"] == rows


def test_what_json_cannot_say_is_null(recorded: Running) -> None:
    query = (
        "SELECT 'NaN'::double AS a, 'Infinity'::float AS b, [1.5, 'NaN'::double] AS c, INTERVAL '1 day' AS d, NULL AS e"
    )
    answer = ask(recorded, query)
    assert answer.status_code == 200, answer.text
    row = json.loads(answer.text, parse_constant=pytest.fail)["rows"][0]
    assert (row["a"], row["b"], row["c"], row["e"]) == (None, None, [1.5, None], None)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'"SELECT 1"',
        b"{",
        b'{"sql": "SELECT 1"',
        b'{"sql": 5}',
        b'{"sql": null}',
        b'{"sql": ""}',
        b'{"sql": "\\ud800"}',
        b'{"sql": "SELECT 1", "params": []}',
        b'{"sql": "SELECT 1", "params": {"a": [1]}}',
        b'{"sql": "SELECT 1", "params": {"a": {}}}',
        b'{"sql": "SELECT 1", "format": "parquet"}',
        b'{"sql": "SELECT 1", "format": 1}',
        b'{"sql": "SELECT 1", "limits": {"rows": 99}}',
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"sql": "' + b"x" * 100_001 + b'"}',
        b'{"sql": "SELECT $a", "params": {"a": 1' + b"0" * 400 + b"}}",
        b'{"sql": "SELECT $a", "params": {"a": NaN}}' * 2,
    ],
)
def test_bodies_that_are_none(recorded: Running, content: bytes) -> None:
    with recorded.client() as http:
        answer = http.post("/api/sql", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] in ("invalid_input", "invalid_request", "query_error")


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", None])
def test_json_that_is_sent_as_something_else(recorded: Running, kind: str | None) -> None:
    """What curl -d sends unless told otherwise."""
    with recorded.client() as http:
        headers = {} if kind is None else {"Content-Type": kind}
        answer = http.post("/api/sql", content=b'{"sql": "SELECT 1"}', headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "code": "invalid_input",
        "message": "the body is not taken for JSON",
        "hint": "send it with Content-Type: application/json",
    }


@pytest.mark.parametrize(
    "sql",
    [
        "SELEC 1",
        "SELECT",
        ";",
        "SELECT 1; SELECT 2",
        "SELECT * FROM nothing",
        "SELECT nothing FROM gpu_metrics",
        "SELECT $missing",
        "SELECT 1/0",
        "SELECT '\u0000'; --",
        "SELECT CAST('x' AS INT)",
        "(" * 5000,
        "SELECT " + "(" * 300 + "1" + ")" * 300,
        "SELECT " + "-" * 20_000 + "1",
        "SELECT * FROM '/etc/passwd'",
        'SELECT * FROM "/etc/passwd"',
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_parquet('x.parquet')",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT * FROM 'http://127.0.0.1:1/x.csv'",
        "SELECT * FROM 'blocks/gpu_metrics/x.parquet'",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "CREATE FUNCTION f() RETURNS INT RETURN 1",
        "COPY gpu_metrics TO '/tmp/stolen.csv'",
        "COPY (SELECT 1) TO '/tmp/stolen.parquet' STORED AS PARQUET",
        "INSERT INTO gpu_metrics VALUES (1)",
        "DELETE FROM gpu_metrics",
        "UPDATE gpu_metrics SET gpu_temp = 0",
        "DROP TABLE gpu_metrics",
        "TRUNCATE TABLE gpu_metrics",
        "ALTER TABLE gpu_metrics ADD COLUMN x INT",
        "SET datafusion.execution.batch_size = 1",
        "PREPARE p AS SELECT 1",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '/tmp/stolen.csv'",
        "WITH x AS (DELETE FROM gpu_metrics RETURNING *) SELECT * FROM x",
        "ATTACH '/etc/passwd'",
        "PRAGMA database_list",
    ],
)
def test_hostile_sql_is_refused(recorded: Running, sql: str) -> None:
    answer = ask(recorded, sql)
    assert answer.status_code in (400, 404, 422), answer.text
    error = answer.json()["error"]
    assert error["code"] in ("query_error", "not_found", "invalid_input", "limit_exceeded", "schema_error")
    assert "root:" not in answer.text
    assert "Traceback" not in answer.text
    assert not Path("/tmp/stolen.csv").exists()
    assert not Path("/tmp/stolen.parquet").exists()
    assert recorded.state.slot.get().scan("gpu_metrics").num_rows == GPUS * ROWS


def test_rows_are_limited(recorded: Running) -> None:
    query = "SELECT a.time FROM gpu_metrics a CROSS JOIN gpu_metrics b"
    answer = ask(recorded, query)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "limit_exceeded"
    assert len(ask(recorded, query + " LIMIT 10000").json()["rows"]) == 10_000


def test_a_json_answer_is_limited_in_bytes_and_a_stream_is_not(recorded: Running) -> None:
    """Sixty megabytes of text in 600 rows: too much to hold as one JSON text, fine as a stream."""
    query = f"SELECT '{'x' * 99_000}' || gpu_uuid AS long FROM gpu_metrics LIMIT 600"
    answer = ask(recorded, query)
    assert answer.status_code == 422
    assert "Arrow" in answer.json()["error"]["hint"]
    assert len(ask(recorded, query, format="csv").content) > 59_000_000


# these end when they are told to
BOMBS = [
    "SELECT * FROM generate_series(1, 100000000000) ORDER BY 1 DESC",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
    "SELECT repeat(repeat('x', 100000), 100000)",
    "SELECT length(string_agg(repeat('x', 1000000), '')) FROM gpu_metrics a, gpu_metrics b",
]
# pairs without an equality are counted before anything runs; of these the first are too many
CROSSES = [
    "SELECT count(*) FROM gpu_metrics a, gpu_metrics b, gpu_metrics c, gpu_metrics d",
    "SELECT a.gpu_uuid || b.gpu_uuid, array_agg(a.time) FROM gpu_metrics a, gpu_metrics b, gpu_metrics c GROUP BY 1",
]


# rows beyond counting that only the deadline ends
SLOW = "SELECT count(*) FROM gpu_metrics a " + " ".join(
    f"JOIN gpu_metrics {name} ON a.source = {name}.source" for name in "bcd"
)

CHILD = """
import sys
from kymograph.server.limits import Limits
from tests.server.conftest import gpu_rows
from tests.server.running import running
queries, waiting, seconds = map(int, sys.argv[1:])
limits = Limits(query_seconds=seconds, query_memory=64 * 2**20, queries=queries, waiting=waiting)
with running(prepare=gpu_rows, limits=limits) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


@contextmanager
def bombed(queries: int, waiting: int, seconds: int = 2) -> Iterator[str]:
    """The URL of a server in a process of its own, with small limits; it is killed, whatever it is still at."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", CHILD, str(queries), str(waiting), str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as child:
        try:
            assert child.stdout is not None
            yield child.stdout.readline().strip()
        finally:
            child.kill()


def throw(url: str, queries: list[str]) -> list[httpx.Response]:
    """The answers to queries sent all at once."""
    with ThreadPoolExecutor(len(queries)) as threads:
        ask = partial(httpx.post, f"{url}/api/sql", timeout=240, trust_env=False, verify=TRUST)
        return list(threads.map(lambda sql: ask(json={"sql": sql}), queries))


def test_bombs_end_in_time_and_memory_and_hold_nobody_up() -> None:
    with bombed(4, 32) as url, ThreadPoolExecutor(1) as thrower:
        thrown = thrower.submit(throw, url, BOMBS + CROSSES)
        # short calls have threads of their own
        for _ in range(5):
            assert httpx.get(f"{url}/api/health", timeout=120, trust_env=False, verify=TRUST).status_code == 200
        answers = thrown.result(240)
        assert {answer.status_code for answer in answers} <= {400, 404, 422}, [answer.text[:300] for answer in answers]


def answers_again(url: str) -> bool:
    return eventually(lambda: throw(url, ["SELECT 1 AS one"])[0].json().get("rows") == [{"one": 1}])


def test_queries_are_answered_after_bombs() -> None:
    with bombed(4, 32) as url:
        throw(url, BOMBS)
        assert answers_again(url)


def test_cross_joins_that_are_too_large_do_not_run() -> None:
    with bombed(4, 32, 240) as url:  # so much time that none is refused for want of it
        answers = throw(url, CROSSES[:1] * 8)
        assert {answer.status_code for answer in answers} == {422}
        assert all("without an equality" in answer.json()["error"]["message"] for answer in answers)
        assert answers_again(url)


def test_queries_are_answered_after_slow_ones() -> None:
    with bombed(4, 32) as url:
        assert {answer.status_code for answer in throw(url, [SLOW, *CROSSES[1:]] * 4)} == {422}
        assert answers_again(url)


def test_the_queue_of_queries_is_bounded() -> None:
    with ThreadPoolExecutor(1) as thrower, bombed(1, 1, 240) as url:
        asked = thrower.submit(throw, url, [SLOW] * 2)
        metrics = partial(httpx.get, f"{url}/metrics", timeout=60, trust_env=False, verify=TRUST)
        assert eventually(lambda: "kymograph_queries_held 2" in metrics().text)
        assert {answer.status_code for answer in throw(url, [SLOW] * 6)} == {503}
        assert not asked.done()
    assert isinstance(asked.exception(60), httpx.TransportError)
