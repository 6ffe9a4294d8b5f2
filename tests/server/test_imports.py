"""Files, pages and exported series sent over HTTP, and series sent back."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kymograph.store.store import Store
from tests.ports import free_port
from tests.prometheus.servers import needed, served
from tests.server.running import TRUST, Running, eventually, running

T = 1_700_000_000
STALE = 0x7FF0000000000002


@pytest.fixture
def server() -> Iterator[Running]:
    with running() as found:
        yield found


def store_of(server: Running) -> Store:
    return server.state.slot.get()


def post(server: Running, path: str, body: bytes | str, status: int, **headers: str) -> Any:
    with server.client() as http:
        answer = http.post(path, content=body, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


ROWS = {"time": [T * 10**6, T * 10**6 + 1], "host": ["a", "b"], "x": [1.5, None]}
FILES = {
    "csv": b"time,host,x\n2023-11-14T22:13:20Z,a,1.5\n2023-11-14T22:13:20.000001Z,b,\n",
    "json": b'{"time": 1700000000000000, "host": "a", "x": 1.5}\n{"time": 1700000000000001, "host": "b", "x": null}\n',
}


def table() -> pa.Table:
    return pa.table({**ROWS, "time": pa.array(ROWS["time"], pa.timestamp("us", tz="UTC"))})


def binary(form: str) -> bytes:
    sink = io.BytesIO()
    if form == "parquet":
        pq.write_table(table(), sink)
    else:
        with pa.ipc.new_stream(sink, table().schema) as writer:
            writer.write_table(table())
    return sink.getvalue()


@pytest.mark.parametrize("form", ["csv", "json", "parquet", "arrow"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_becomes_rows_and_comes_back(server: Running, form: str, packed: bool) -> None:
    body = FILES.get(form) or binary(form)
    headers = {"Content-Encoding": "gzip"} if packed else {}
    path = f"/api/import?table=t&format={form}&labels=host"
    assert post(server, path, gzip.compress(body) if packed else body, 200, **headers) == {"rows": 2}
    assert store_of(server).tables()["t"].labels == ("host",)
    assert store_of(server).scan("t").column("x").to_pylist() == [1.5, None]
    with server.client() as http:
        back = http.get("/api/telemetry/export", params={"table": "t", "format": "csv"}).content
    assert post(server, "/api/import?table=u&labels=host", back, 200) == {"rows": 2}
    assert store_of(server).scan("u").equals(store_of(server).scan("t"))


def test_a_bad_row_stores_nothing(server: Running) -> None:
    good = "".join(f"{T * 10**6 + n},a,{n}\n" for n in range(100_000))
    told = post(server, "/api/import?table=t", f"time,host,x\n{good}yesterday,a,1\n", 400)["error"]
    assert "row 100001" in told["message"]
    assert "nothing was stored" in told["message"]
    assert "t" not in store_of(server).tables()
    assert post(server, "/api/import?table=t", f"time,host,x\n{good}", 200) == {"rows": 100_000}


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("table=t&format=csv", b""),
        ("table=t&format=csv", b"a,b\n1,2\n"),
        ("table=t&format=json", b"[1]"),
        ("table=t&format=parquet", b"PAR1garbage"),
        ("table=t&format=arrow", b"\xff" * 100),
        ("table=a/b&format=csv", b"time,x\n1,2\n"),
        ("table=samples&format=csv", b"time,series_id,value\n1,77,2\n"),
        ("table=t&format=csv&labels=nothing", b"time,x\n1,2\n"),
        ("table=t&format=yaml", b"time,x\n1,2\n"),
        ("format=csv", b"time,x\n1,2\n"),
    ],
)
def test_what_is_no_import_is_a_400(server: Running, query: str, body: bytes) -> None:
    assert "error" in post(server, f"/api/import?{query}", body, 400)
    assert not {"t", "a/b"} & set(store_of(server).tables())


PAGE = f"""# HELP hits Answered
# TYPE hits counter
hits{{path="/a"}} 5 {T}000
hits{{path="/b"}} 7
# TYPE wait histogram
wait_bucket{{le="1"}} 1
wait_bucket{{le="+Inf"}} 2
wait_sum 3.5
wait_count 2
"""


def test_a_page_becomes_samples(server: Running) -> None:
    post(server, f"/api/v1/import/prometheus?timestamp={T}500&extra_label=job=j", PAGE, 204)
    store = store_of(server)
    assert {labels["__name__"] for labels in store.series('{job="j"}')} == {
        "hits",
        "wait_bucket",
        "wait_sum",
        "wait_count",
    }
    rows = store.sql("SELECT time, path, value FROM metric.hits ORDER BY time").arrow()
    assert rows["time"].cast("int64").to_pylist() == [T * 10**6, T * 10**6 + 500_000]
    assert rows["value"].to_pylist() == [5, 7]
    about = {each["name"]: (each["kind"], each["help"]) for each in store.metrics()}
    assert about["hits"] == ("counter", "Answered")
    assert about["wait_bucket"][0] == "histogram"


def test_openmetrics_by_its_type(server: Running) -> None:
    page = f"# TYPE m gauge\n# UNIT m seconds\nm 1 {T}.25\n# EOF\n"
    post(
        server,
        "/api/v1/import/prometheus",
        page,
        204,
        **{"Content-Type": "application/openmetrics-text; version=1.0.0"},
    )
    rows = store_of(server).scan("samples")
    assert rows["time"].cast("int64").to_pylist() == [T * 10**6 + 250_000]


def test_a_page_is_taken_whole_or_not_at_all(server: Running) -> None:
    told = post(server, "/api/v1/import/prometheus", PAGE + "broken{ 1\n", 400)["error"]
    assert "line 10" in told["message"]
    assert post(server, "/api/v1/import/prometheus", 'm{__name__="x"} 1\n', 400)
    assert post(server, "/api/v1/import/prometheus?extra_label=nonsense", "m 1\n", 400)
    assert not store_of(server).series()
    post(server, "/api/v1/import/prometheus", "", 204)


def exported(server: Running, **query: Any) -> list[dict[str, Any]]:
    with server.client() as http:
        answer = http.get("/api/v1/export", params=query)
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]


def test_series_go_out_and_come_in_bit_by_bit(server: Running) -> None:
    store = store_of(server)
    values = np.array([1.0, -0.0, 5e-324, np.inf, -np.inf, np.nan, 0.1, 1e300, np.nan])
    values.view(np.uint64)[5] = STALE
    ids = store.series_ids([("m", {"a": "é", "b": 'q"\\'}), ("n", {})])
    times = np.array([T * 10**6 + n for n in range(9)])
    store.append_samples(np.repeat(ids, 9), np.tile(times, 2), np.tile(values, 2))
    lines = exported(server, **{"match[]": ['{__name__=~"m|n"}']})
    assert [line["metric"]["__name__"] for line in lines] == ["m", "m", "n", "n"]
    assert lines[0]["metric"] == {"__name__": "m", "a": "é", "b": 'q"\\'}
    assert lines[0]["values"] == [1, -0.0, 5e-324, None, 0.1, 1e300]
    assert lines[0]["timestamps"][:2] == [T * 1000, T * 1000 + 0.001]
    # words that not every reader takes are on lines of their own
    assert lines[1]["values"] == ["Infinity", "-Infinity", "NaN"]
    with running() as other:
        with server.client() as http:
            body = http.get("/api/v1/export", params={"match[]": '{__name__!=""}'}).content
        post(other, "/api/v1/import", gzip.compress(body), 204, **{"Content-Encoding": "gzip"})
        there, here = (each.scan("samples") for each in (store_of(other), store))
        assert there["time"].equals(here["time"])
        bits = [rows["value"].to_numpy().view(np.uint64).tolist() for rows in (there, here)]
        assert bits[0] == bits[1]


def test_an_export_is_of_a_range_and_a_selection(server: Running) -> None:
    store = store_of(server)
    ids = store.series_ids([("m", {"a": "1"}), ("m", {"a": "2"})])
    store.append_samples(np.repeat(ids, 10), np.tile(np.arange(10) * 10**6 + T * 10**6, 2), np.arange(20.0))
    store.write("wide", {"time": [T * 10**6], "x": [1.0]})
    lines = exported(server, **{"match[]": 'm{a="2"}', "start": f"{T + 3}", "end": f"{T + 5}"})
    assert [line["timestamps"] for line in lines] == [[(T + n) * 1000 for n in (3, 4, 5)]]
    assert lines[0]["values"] == [13, 14, 15]
    assert exported(server, **{"match[]": "m", "start": "2023-11-14T22:13:29Z"})[0]["values"] == [9]
    assert not exported(server, **{"match[]": "wide_x"})
    assert len(exported(server, **{"match[]": ["m{a='1'}", "m{a='2'}"]})) == 2


@pytest.mark.parametrize(
    "line",
    [
        "nonsense", "[]", "{}", '{"metric":{"__name__":"m"},"values":[1],"timestamps":[]}',
        '{"metric":{"__name__":"m"},"values":[true],"timestamps":[1]}',
        '{"metric":{"__name__":"m"},"values":["x"],"timestamps":[1]}',
        '{"metric":{"__name__":"m"},"values":[1],"timestamps":["1"]}',
        '{"metric":{"__name__":"m"},"values":[1],"timestamps":[NaN]}',
        '{"metric":{"__name__":"m"},"values":[1],"timestamps":[1e300]}',
        '{"metric":{"a":"m"},"values":[1],"timestamps":[1]}', '{"metric":{"__name__":"m","a":5},"values":[1],"timestamps":[1]}',
        '{"metric":{"__name__":"m"},"values":[1' + "0" * 400 + '],"timestamps":[1]}', "[" * 100_000,
    ],
)  # fmt: skip
def test_a_broken_line_is_named_and_nothing_is_stored(server: Running, line: str) -> None:
    good = '{"metric":{"__name__":"m"},"values":[1],"timestamps":[1]}'
    told = post(server, "/api/v1/import", f"{good}\n\n{line}\n", 400)["error"]
    assert told["message"].startswith("line 3 ")
    assert "samples" not in store_of(server).tables()


def test_an_export_needs_a_selector(server: Running) -> None:
    with server.client() as http:
        assert http.get("/api/v1/export").status_code == 400
        assert http.get("/api/v1/export", params={"match[]": "{"}).status_code == 400
        assert http.get("/api/v1/export", params={"match[]": "m", "start": "yesterday"}).status_code == 400


def test_series_move_to_a_real_victoria_metrics_and_back(server: Running, tmp_path: Path) -> None:
    program, port = needed("victoria-metrics"), free_port()
    url = f"http://127.0.0.1:{port}"
    store = store_of(server)
    ids = store.series_ids([("m", {"a": "é"}), ("m", {"a": "2"})])
    values = np.concatenate([np.arange(100) / 8, [np.nan, np.inf]])
    times = np.array([(T + n) * 10**6 for n in range(102)])
    store.append_samples(np.repeat(ids, 102), np.tile(times, 2), np.tile(values, 2))
    command = [program, f"-storageDataPath={tmp_path}/vm", f"-httpListenAddr=127.0.0.1:{port}", "-retentionPeriod=100y"]
    with (
        served(command, url, tmp_path / "log"),
        server.client() as http,
        httpx.Client(timeout=60, trust_env=False, verify=TRUST) as other,
    ):
        body = http.get("/api/v1/export", params={"match[]": "m"}).content
        assert other.post(f"{url}/api/v1/import", content=body).status_code == 204

        def back() -> bytes:
            other.get(f"{url}/internal/force_flush")
            return other.get(f"{url}/api/v1/export", params={"match[]": "m"}).content

        assert eventually(lambda: back().count(b"\n") == 2)
        renamed = back().replace(b'"m"', b'"n"')
        assert http.post("/api/v1/import", content=renamed).status_code == 204
    for label in ("é", "2"):
        (line,) = exported(server, **{"match[]": f'n{{a="{label}"}}'})
        assert line["values"][:100] == values[:100].tolist()
        assert line["timestamps"][:100] == [(T + n) * 1000 for n in range(100)]
