"""What no route ever sees: foreign names and pages, oversized and endless requests."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import threading
import time

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from kymograph.server.guard import host_of
from kymograph.server.limits import Limits
from tests.server.running import Running, eventually, running

SMALL = Limits(connections=20, requests=8, body_bytes=10_000, target_bytes=500)
TIGHT = dataclasses.replace(SMALL, head_seconds=0.5, body_seconds=0.5, stall_seconds=1.0)


def raw(port: int, data: bytes) -> bytes:
    """Send bytes as they are, read until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as wire:
        found = b""
        with contextlib.suppress(ConnectionError):
            wire.sendall(data)
            while part := wire.recv(65_536):
                found += part
        return found


def error_of(answer: httpx.Response) -> str:
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "hint"}
    assert "Traceback" not in answer.text
    return str(body["error"]["code"])


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8000",
        "localhost@evil.example",
        "evil.example#localhost",
        "evil.example/localhost",
        "",
        "[::1",
        "127.0.0.1:port",
        "10.0.0.1",
        "2130706433",
        "\xe4",
    ],
)
def test_a_foreign_host_name_is_refused(recorded: Running, host: str) -> None:
    with recorded.client() as http:
        for path in ("/", "/api/telemetry/history", "/docs"):
            answer = http.get(path, headers={"Host": host.encode("latin-1")})  # type: ignore[dict-item]
            assert answer.status_code == 403
            assert error_of(answer) == "host_not_allowed"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1:8000", "[::1]:8000", "localhost."])
def test_loopback_names_are_welcome_at_any_port(recorded: Running, host: str) -> None:
    with recorded.client() as http:
        assert http.get("/api/health", headers={"Host": host}).status_code == 200


def test_an_allowed_host_is_welcome() -> None:
    with running(hosts=frozenset({"box.example"})) as server, server.client() as http:
        assert http.get("/api/health", headers={"Host": "Box.Example:8000"}).status_code == 200
        assert http.get("/api/health", headers={"Host": "other.example"}).status_code == 403


def test_requests_without_or_with_two_hosts_are_refused(recorded: Running) -> None:
    assert b" 400 " in raw(recorded.port, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert b" 403 " in raw(recorded.port, b"GET / HTTP/1.0\r\n\r\n")
    two = b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert b" 400 " in raw(recorded.port, two)


def test_host_of() -> None:
    assert host_of("LocalHost:80") == "localhost"
    assert host_of("[::1]:80") == "::1"
    assert host_of("a/b") == host_of("a b@c") == host_of("a:b") == host_of("") == ""


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1", "http://localhost:1", "file://", "http://", "\xff"]
)
def test_other_pages_reach_nothing(recorded: Running, origin: str) -> None:
    headers = {"Origin": origin.encode("latin-1")}
    with recorded.client() as http:
        for method, path in (
            ("POST", "/api/sql"),
            ("POST", "/api/prune"),
            ("GET", "/api/info"),
            ("OPTIONS", "/api/sql"),
        ):
            answer = http.request(method, path, headers=headers, json={"sql": "SELECT 1"})  # type: ignore[arg-type]
            assert answer.status_code == 403, (method, path)
            assert error_of(answer) == "origin_not_allowed"
            assert not [name for name in answer.headers if name.startswith("access-control")]
    with (
        pytest.raises(InvalidStatus) as caught,
        connect(recorded.stream, proxy=None, additional_headers={"Origin": origin.encode("latin-1").decode("latin-1")}),
    ):
        pass
    assert caught.value.response.status_code == 403


def test_our_own_page_reaches_everything(recorded: Running) -> None:
    headers = {"Origin": recorded.url, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    with recorded.client() as http:
        assert http.get("/api/info", headers=headers).status_code == 200
    with connect(recorded.stream, proxy=None, origin=recorded.url) as stream:  # type: ignore[arg-type]
        assert stream.recv(60)


@pytest.mark.parametrize(
    ("mode", "dest", "status"),
    [("navigate", "document", 200), ("navigate", "iframe", 403), ("no-cors", "image", 403), ("no-cors", "script", 403)],
)
def test_pages_may_link_here_and_not_embed(recorded: Running, mode: str, dest: str, status: int) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
    with recorded.client() as http:
        assert http.get("/", headers=headers).status_code == status


def test_pages_carry_their_protection(recorded: Running) -> None:
    with recorded.client() as http:
        for path in ("/", "/docs", "/ui/page.js", "/api/health", "/nothing"):
            answer = http.get(path)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert "server" not in answer.headers
        page = http.get("/")
        assert "<script>" not in page.text
        assert "style=" not in page.text
        again = http.get("/ui/page.js", headers={"If-None-Match": http.get("/ui/page.js").headers["etag"]})
        assert again.status_code == 304


@pytest.mark.parametrize(
    "path",
    [
        "/ui/../app.py",
        "/ui/%2e%2e/app.py",
        "/ui/..%2fapp.py",
        "/ui//etc/passwd",
        "/ui/index.html",
        "/ui/NOTICE",
        "/ui/%00",
    ],
)
def test_only_shipped_assets_are_served(recorded: Running, path: str) -> None:
    answer = raw(recorded.port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 ")


def test_bodies_are_bounded_with_and_without_a_length() -> None:
    with running(limits=SMALL) as server, server.client() as http:
        for content in (b"x" * 10_001, (b"x" * 1000 for _ in range(100))):
            answer = http.post("/api/sql", content=content)  # type: ignore[arg-type]
            assert answer.status_code == 413
            assert error_of(answer) == "body_too_large"
        # a promise of a huge body is refused before any of it is sent
        huge = b"POST /api/sql HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999\r\n\r\n"
        assert raw(server.port, huge).startswith(b"HTTP/1.1 413 ")
        assert http.get("/api/health").status_code == 200


def test_long_targets_and_headers_are_refused() -> None:
    with running(limits=SMALL) as server, server.client() as http:
        answer = http.get("/api/telemetry/history?x=" + "y" * 600)
        assert answer.status_code == 414
        assert error_of(answer) == "uri_too_long"
        head = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        found = raw(server.port, head + b"X-A: " + b"b" * 100_000 + b"\r\n\r\n")
        assert found == b"" or found.split(b"\r\n")[0].split()[1] in (b"400", b"431")
        many = b"".join(b"X-%d: y\r\n" % n for n in range(8000))
        assert b" 200 " not in raw(server.port, head + many + b"\r\n")


def test_slow_requests_are_cut_off() -> None:
    with running(limits=TIGHT) as server:
        began = time.monotonic()
        assert b" 408 " in raw(server.port, b"GET / HTTP/1.1\r\nHost: local")
        body = b"POST /api/sql HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
        assert b" 408 " in raw(server.port, body)
        assert raw(server.port, b"") == b""
        assert time.monotonic() - began < Limits().head_seconds


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ", b"a" * 65_536),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"".join(b"X-%d: b\r\n" % n for n in range(9000))),
        (b"GET /", b"a" * 65_536),
        (b"POST /api/sql HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"a" * 65_536),
        (b"POST /api/sql HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1;x=", b"a" * 65_536),
    ],
)
def test_what_is_no_body_is_bounded(begin: bytes, more: bytes) -> None:
    """A head, a trailer or a chunk extension without end: cut off before it fills the memory, long before a deadline."""
    limits = Limits(head_seconds=60, body_seconds=60, header_bytes=32_768)
    with running(limits=limits) as server, socket.create_connection(("127.0.0.1", server.port), timeout=60) as wire:
        wire.sendall(begin)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 20 * 2**20:
                wire.sendall(more)
                sent += len(more)
        assert sent < 20 * 2**20
        with server.client() as http:
            assert http.get("/api/health").status_code == 200


def test_requests_that_offer_another_protocol_are_answered(recorded: Running) -> None:
    """Some clients offer HTTP/2 with their first request, also with one that has a body."""
    body = b'{"sql": "SELECT 1 AS one"}'
    head = b"POST /api/sql HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    head += b"HTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    with socket.create_connection(("127.0.0.1", recorded.port), timeout=60) as wire:
        wire.sendall(head + body)
        found = wire.recv(65_536)
        assert found.startswith(b"HTTP/1.1 200 ")
        while b'"rows":[{"one":1}]' not in found.replace(b" ", b""):
            part = wire.recv(65_536)
            assert part, found
            found += part


def test_requests_one_behind_the_other(recorded: Running) -> None:
    one = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    found = raw(recorded.port, one * 3 + one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert found.count(b"HTTP/1.1 200 ") == 4


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 100,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"BREW /api/info HTTP/1.1\r\nHost: localhost\r\n\r\n",  # a method that nobody knows
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"G\xc3\x84T / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /api/sql HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/sql HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"POST /api/sql HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_what_is_not_http_gets_a_400_or_is_dropped(data: bytes) -> None:
    with running(limits=TIGHT) as server:
        found = raw(server.port, data)
        assert found == b"" or found.split(b"\r\n")[0].split()[1] in (b"400", b"408", b"505")
        if b"\r\n\r\n" in found:
            assert json.loads(found.split(b"\r\n\r\n", 1)[1])["error"]["code"]
        with server.client() as http:
            # whoever is slow to ask is cut off here
            assert eventually(lambda: http.get("/api/health").status_code == 200)


def test_connections_are_bounded() -> None:
    limits = Limits(head_seconds=60.0, connections=10)
    with running(limits=limits) as server:
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(10)]
        try:
            asked = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            assert eventually(lambda: b" 503 " in raw(server.port, asked))
        finally:
            for wire in idle:
                wire.close()
        with server.client() as http:
            assert eventually(lambda: http.get("/api/health").status_code == 200)


def test_a_reader_that_stalls_is_cut_off_and_holds_nobody_up() -> None:
    """An export that nobody reads ends after the stall limit; the server answers others meanwhile."""

    def fill(state: object) -> None:
        store = state.slot.get()  # type: ignore[attr-defined]
        store.write("wide", {"time": list(range(200_000)), "name": "x" * 100, "value": list(range(200_000))})

    with running(limits=Limits(stall_seconds=0.5), prepare=fill) as server, server.client() as http:
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as wire:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.sendall(b"GET /api/telemetry/export?table=wide&format=csv HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert http.get("/api/health").status_code == 200
            counted = '{method="GET",route="/api/telemetry/export",status="200"} 1'
            assert eventually(lambda: counted in http.get("/metrics").text)
        assert eventually(lambda: server.state.heavy.held == 0)


def test_fifty_clients_at_once(recorded: Running) -> None:
    problems: list[object] = []

    def work(number: int) -> None:
        try:
            with recorded.client() as http:
                for path in ("/api/info", "/api/telemetry/export?hours=1&format=csv", "/metrics", "/api/health"):
                    answer = http.get(path)
                    # 503 is what a full queue says; nothing else may go wrong
                    if answer.status_code not in (200, 503):
                        problems.append((number, path, answer.status_code, answer.text))
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
