"""Streams over HTTP: text, binary and Arrow in and out, errors in their shape, uploads that are cut off."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from kymograph.model.stream import Layout
from kymograph.server.limits import Limits
from kymograph.store import tokens
from tests.server.running import Running, eventually, running

LAYOUT = Layout.parse("uint16_6")
T0 = 1_700_000_000_000_000
PATH = "/meter/1/raw"
ARROW = "application/vnd.apache.arrow.stream"


def rows(count: int, first: int = T0, step: int = 125) -> np.ndarray:
    made = np.zeros(count, LAYOUT.rows)
    made["timestamp"] = first + np.arange(count) * step
    made["data"] = np.random.default_rng(count).integers(0, 65536, (count, 6))
    return made


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path / "store") as started:
        yield started


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as made:
        assert made.post("/stream/create", json={"path": PATH, "layout": "RawData"}).status_code == 200
        yield made


def insert(client: httpx.Client, data: object, **params: object) -> httpx.Response:
    kind = "application/octet-stream" if params.get("binary") else "text/plain"
    return client.put(
        "/stream/insert", params={"path": PATH, **params}, content=data, headers={"Content-Type": kind},  # type: ignore[arg-type]
    )  # fmt: skip


def extract(client: httpx.Client, **params: object) -> bytes:
    answer = client.get("/stream/extract", params={"path": PATH, **params})  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    return answer.content


def message(answer: httpx.Response, status: str) -> str:
    found = answer.json()
    assert found["status"] == status
    assert answer.status_code == int(status[:3])
    assert set(found) == {"status", "message"}
    text: str = found["message"]
    return text


def test_text_in_and_out(client: httpx.Client) -> None:
    text = b"# a comment\n1000 1 2 3 4 5 6\n\n  2000.9\t6 5 4   3 2 65535\r\n"
    assert insert(client, text, start="500", end="3000.7").status_code == 200
    assert extract(client) == b"1000 1 2 3 4 5 6\n2000 6 5 4 3 2 65535\n"
    assert extract(client, count=1) == b"2\n"
    assert extract(client, start=1001, markup=1) == (
        b"# interval-start 1001\n2000 6 5 4 3 2 65535\n# interval-end 3000\n"
    )
    assert extract(client, start=1, end=2) == b""


def test_binary_in_chunks_of_any_size_and_out(client: httpx.Client) -> None:
    given = rows(100_000)
    data = given.tobytes()
    cuts = sorted(np.random.default_rng(1).integers(0, len(data), 300).tolist())
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert insert(client, iter(pieces), binary=1).status_code == 200
    assert extract(client, binary=1) == data
    middle = T0 + 125 * 50_000
    assert extract(client, binary=1, start=middle, end=middle + 250) == given[50_000:50_002].tobytes()
    assert extract(client, count=1) == b"100000\n"


def test_arrow_in_and_out(client: httpx.Client) -> None:
    given = rows(1000)
    names = ["time", *"abcdef"]
    columns = [pa.array(given["timestamp"]).view(pa.timestamp("us", "UTC")), *map(pa.array, given["data"].T.copy())]
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, pa.schema(zip(names, [c.type for c in columns], strict=True))) as writer:
        for batch in pa.table(columns, names).to_batches(300):
            writer.write_batch(batch)
    body = sink.getvalue().to_pybytes()
    put = {"url": "/stream/insert", "params": {"path": PATH}, "headers": {"Content-Type": ARROW}}
    assert client.put(**put, content=body[: len(body) // 2]).status_code == 400  # type: ignore[arg-type]
    assert client.put(**put, content=b"nonsense").status_code == 400  # type: ignore[arg-type]
    assert extract(client, count=1) == b"0\n"
    assert client.put(**put, content=body).status_code == 200  # type: ignore[arg-type]
    found = client.get("/stream/extract", params={"path": PATH}, headers={"Accept": ARROW}).content
    table = ipc.open_stream(found).read_all()
    assert table.column_names == ["timestamp", *(f"c{n}" for n in range(6))]
    assert np.array_equal(table["c3"].to_numpy(), given["data"][:, 3])
    level = client.get("/stream/extract", params={"path": f"{PATH}~decim-4"}, headers={"Accept": ARROW}).content
    assert ipc.open_stream(level).read_all().column_names[1::6] == ["c0_mean", "c0_min", "c0_max"]


def test_intervals_and_their_difference(client: httpx.Client) -> None:
    client.post("/stream/create", json={"path": "/meter/1/copy", "layout": "uint16_6"})
    insert(client, b"", start=0, end=100)
    insert(client, b"", start=100, end=200)
    insert(client, b"", start=300, end=400)
    client.put("/stream/insert", params={"path": "/meter/1/copy", "start": 150, "end": 350}, content=b"")
    ask = lambda **more: client.get("/stream/intervals", params={"path": PATH, **more}).text  # noqa: E731
    assert ask() == "[0, 200]\r\n[300, 400]\r\n"
    assert ask(start=50, end=310) == "[50, 200]\r\n[300, 310]\r\n"
    assert ask(diffpath="/meter/1/copy") == "[0, 150]\r\n[350, 400]\r\n"
    assert ask(start=1000) == ""


def test_rows_that_do_not_fit_are_refused_whole(client: httpx.Client) -> None:
    assert insert(client, b"1000 1 2 3 4 5 6\n").status_code == 200
    overlap = message(insert(client, b"900 1 2 3 4 5 6\n1000 1 2 3 4 5 6\n"), "400 Bad Request")
    assert "[900, 1001) overlaps [1000, 1001)" in overlap
    assert "line 2 has 6 numbers" in message(insert(client, b"1 1 1 1 1 1 1\n2 1 2 3 4 5\n"), "400 Bad Request")
    assert "65536" in message(insert(client, b"2 1 2 3 4 5 65536\n"), "400 Bad Request")
    assert "row 1" in message(insert(client, b"5 1 2 3 4 5 6\n5 1 2 3 4 5 6\n"), "400 Bad Request")
    assert "ends within a row" in message(insert(client, rows(2)[:1].tobytes()[:-1], binary=1), "400 Bad Request")
    assert "start" in message(insert(client, b"7 1 2 3 4 5 6\n", start=8, end=9), "400 Bad Request")
    assert "precede" in message(insert(client, b"", start=9, end=8), "400 Bad Request")
    for bad in ("x", "nan", "1e400", "9" * 60):
        message(insert(client, b"", start=bad), "400 Bad Request")
    assert extract(client, count=1) == b"1\n"


@pytest.mark.parametrize(
    ("method", "path", "sent", "status"),
    [
        ("GET", "/stream/extract?path=/no/such", None, "404 Not Found"),
        ("GET", "/stream/extract?path=nonsense", None, "404 Not Found"),
        ("GET", "/stream/extract", None, "400 Bad Request"),
        ("GET", "/stream/intervals?path=/no/such", None, "404 Not Found"),
        ("GET", f"/stream/intervals?path={PATH}&diffpath=/no/such", None, "404 Not Found"),
        ("GET", f"/stream/extract?path={PATH}&binary=1&markup=1", None, "400 Bad Request"),
        ("GET", f"/stream/extract?path={PATH}&start=5&end=5", None, "400 Bad Request"),
        ("GET", "/stream/get_metadata?path=/no/such", None, "404 Not Found"),
        ("PUT", "/stream/insert?path=/no/such", {}, "404 Not Found"),
        ("PUT", f"/stream/insert?path={PATH}~decim-4", {}, "400 Bad Request"),
        ("POST", "/stream/create", {"path": "/a/b"}, "400 Bad Request"),
        ("POST", "/stream/create", {"path": "/a/b", "layout": "uint13_6"}, "400 Bad Request"),
        ("POST", "/stream/create", {"path": "/a/b", "layout": 6}, "400 Bad Request"),
        ("POST", "/stream/create", {"path": "/a", "layout": "uint16_6"}, "400 Bad Request"),
        ("POST", "/stream/create", {"path": PATH, "layout": "uint16_6"}, "400 Bad Request"),
        ("POST", "/stream/create", ["x"], "400 Bad Request"),
        ("POST", "/stream/rename", {"oldpath": "/no/such", "newpath": "/a/b"}, "404 Not Found"),
        ("POST", "/stream/rename", {"oldpath": PATH, "newpath": "x"}, "400 Bad Request"),
        ("POST", "/stream/destroy", {"path": "/no/such"}, "404 Not Found"),
        ("POST", "/stream/remove", {"path": "/no/such"}, "404 Not Found"),
        ("POST", "/stream/remove", {"path": PATH, "start": "soon"}, "400 Bad Request"),
        ("POST", "/stream/set_metadata", {"path": PATH, "data": "[1]"}, "400 Bad Request"),
        ("POST", "/stream/set_metadata", {"path": PATH, "data": "{"}, "400 Bad Request"),
        ("GET", "/stream/nothing", None, "404 Not Found"),
        ("DELETE", "/stream/list", None, "405 Method Not Allowed"),
    ],
)
def test_what_cannot_be_done(client: httpx.Client, method: str, path: str, sent: object, status: str) -> None:
    message(client.request(method, path, json=sent), status)


def test_the_life_of_a_stream(client: httpx.Client, server: Running) -> None:
    assert client.get("/version").json() == json.loads(client.get("/version").text)
    assert client.get("/dbinfo").json().keys() == {"path", "size", "other", "reserved", "free"}
    assert client.get("/stream/list").json() == [[PATH, "uint16_6"]]
    insert(client, b"1000 1 2 3 4 5 6\n", end=5000)
    assert client.get("/stream/list", params={"extended": 1}).json() == [[PATH, "uint16_6", 1000, 5000, 1, 4000]]
    assert client.get("/stream/list", params={"layout": "float32_8"}).json() == []
    # forms, as older clients send them
    assert client.post("/stream/set_metadata", data={"path": PATH, "data": '{"a": "1", "b": "é"}'}).json() is None
    assert client.post("/stream/update_metadata", json={"path": PATH, "data": {"a": "2"}}).status_code == 200
    assert client.get("/stream/get_metadata", params={"path": PATH}).json() == {"a": "2", "b": "é"}
    asked = [("path", PATH), ("key", "a"), ("key", "none")]
    assert client.get("/stream/get_metadata", params=asked).json() == {"a": "2", "none": None}
    client.post("/stream/create", data={"path": "/other/1", "layout": "int8_1"})
    message(client.post("/stream/rename", data={"oldpath": PATH, "newpath": "/other/1"}), "409 Conflict")
    assert client.post("/stream/destroy", data={"path": "/other/1"}).status_code == 200
    assert client.post("/stream/rename", data={"oldpath": PATH, "newpath": "/neu/ü/x"}).status_code == 200
    assert client.get("/stream/list").json() == [["/neu/ü/x", "uint16_6"]]
    assert client.post("/stream/remove", data={"path": "/neu/ü/x", "start": "0", "end": "4000"}).text == "1\r\n"
    assert client.get("/stream/intervals", params={"path": "/neu/ü/x"}).text == "[4000, 5000]\r\n"
    assert client.post("/stream/destroy", json={"path": "/neu/ü/x"}).status_code == 200
    assert client.get("/stream/list").json() == []


def test_an_upload_that_is_cut_leaves_nothing(client: httpx.Client, server: Running, tmp_path: Path) -> None:
    data = rows(400_000).tobytes()  # more than a piece, so that some of it has been decoded
    head = (
        f"PUT /stream/insert?path={PATH}&binary=1 HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(head.encode() + data[: len(data) // 2])
    assert eventually(lambda: server.state.heavy.held == 0)
    assert extract(client, count=1) == b"0\n"
    assert insert(client, data, binary=1).status_code == 200
    assert extract(client, count=1) == b"400000\n"


def test_uploads_are_bounded(tmp_path: Path) -> None:
    with running(tmp_path / "small", limits=Limits(upload_bytes=1 << 20)) as server, server.client() as client:
        client.post("/stream/create", json={"path": PATH, "layout": "uint16_6"})
        answer = insert(client, rows(100_000).tobytes(), binary=1)
        assert answer.status_code == 422
        assert "more than 1048576 bytes" in answer.json()["message"]
        assert extract(client, count=1) == b"0\n"
    with running(tmp_path / "quick", limits=Limits(write_seconds=0.5)) as server, server.client() as client:
        client.post("/stream/create", json={"path": PATH, "layout": "uint16_6"})
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.settimeout(60)
            raw.sendall(
                f"PUT /stream/insert?path={PATH} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
                "Content-Length: 1000\r\n\r\n1 2".encode()
            )
            assert raw.recv(100).startswith(b"HTTP/1.1 408 ")
        assert extract(client, count=1) == b"0\n"


def test_two_insertions_of_one_time_leave_one(client: httpx.Client, server: Running) -> None:
    barrier = threading.Barrier(2)
    statuses: list[int] = []

    def put(value: int) -> None:
        with server.client() as mine:
            barrier.wait()
            statuses.append(insert(mine, b"1000 %d 2 3 4 5 6\n" % value).status_code)

    threads = [threading.Thread(target=put, args=(value,)) for value in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, 400]
    assert extract(client, count=1) == b"1\n"


def test_live_rows_come_as_they_are_stored(client: httpx.Client, server: Running) -> None:
    insert(client, rows(10).tobytes(), binary=1)
    with connect(f"ws://127.0.0.1:{server.port}/stream/live?path={PATH}") as live:
        later = rows(70_000, first=T0 + 10**9)

        def write() -> None:
            with server.client() as mine:
                for part in np.array_split(later, 7):
                    insert(mine, part.tobytes(), binary=1)

        # what is there when the client comes is not sent, all that is committed from then on is
        thread = threading.Thread(target=write)
        thread.start()
        held = b""
        while len(held) < later.nbytes:
            frame = live.recv(timeout=60)
            assert isinstance(frame, bytes)
            held += frame
        thread.join()
    assert held == later.tobytes()


def test_live_needs_a_stream(server: Running) -> None:
    from websockets.exceptions import InvalidStatus

    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{server.port}/stream/live?path=/no/such")
    assert refused.value.response.status_code == 404
    assert json.loads(refused.value.response.body)["status"] == "404 Not Found"


def test_a_revoked_token_ends_what_is_live(tmp_path: Path) -> None:
    with running(tmp_path, auth=True, limits=Limits(recheck_seconds=0.1)) as server:
        store = server.state.slot.get()
        store.stream(PATH, "uint16_6")
        token = tokens.create(store.engine, "read")
        url = f"ws://127.0.0.1:{server.port}/stream/live?path={PATH}"
        with connect(url, additional_headers={"Authorization": f"Bearer {token}"}) as live:
            tokens.revoke(store.engine, tokens.list(store.engine)[0]["id"])
            with pytest.raises(ConnectionClosed) as caught:
                live.recv(60)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1008
