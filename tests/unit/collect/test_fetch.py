"""One GET against a real server that misbehaves in every way we thought of."""

from __future__ import annotations

import base64
import gzip
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from kymograph.collect.fetch import REDIRECTS, Page, get
from kymograph.errors import InvalidInput, LimitExceeded
from tests.ports import free_port
from tests.unit.collect.pages import Handler, Pages, serving


@pytest.fixture
def server() -> Iterator[Pages]:
    with serving() as pages:
        yield pages


def fetched(url: str, *, timeout: float = 10.0, max_bytes: int = 100_000) -> Page:
    return get(url, accept="text/plain", timeout=timeout, max_bytes=max_bytes)


def test_a_page(server: Pages) -> None:
    server.page("a 1\n", " Text/Plain; Version=0.0.4 ")
    page = fetched(server.url + "/metrics?x=1")
    assert page == Page(b"a 1\n", "text/plain; version=0.0.4")
    path, headers = server.requests[0]
    assert path == "/metrics?x=1"
    assert headers["accept"] == "text/plain"
    assert headers["accept-encoding"] == "gzip"
    assert headers["user-agent"].startswith("kymograph/")
    assert headers["x-prometheus-scrape-timeout-seconds"] == "10"
    assert "authorization" not in headers


def test_gzip(server: Pages) -> None:
    body = b"metric 1\n" * 5000
    server.answer = lambda handler: handler.send(gzip.compress(body), Content_Encoding="gzip")
    assert fetched(server.url).body == body


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_gzip_bomb_is_not_unpacked(server: Pages, pieces: int) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    server.answer = lambda handler: handler.send(bomb, Content_Encoding="gzip")
    with pytest.raises(LimitExceeded, match="100,000 bytes"):
        fetched(server.url)


def test_a_cut_off_or_broken_gzip_answer_is_refused(server: Pages) -> None:
    whole = gzip.compress(b"metric 1\n" * 5000)
    for body, words in ((whole[:-12], "cut off"), (b"not gzip at all", "not gzip")):
        server.answer = lambda handler, body=body: handler.send(body, Content_Encoding="gzip")  # type: ignore[misc]
        with pytest.raises(ConnectionError, match=words):
            fetched(server.url)


def test_a_coding_nobody_asked_for(server: Pages) -> None:
    server.answer = lambda handler: handler.send(b"x", Content_Encoding="br")
    with pytest.raises(ConnectionError, match="br"):
        fetched(server.url)


def test_a_page_that_is_too_large(server: Pages) -> None:
    server.page("x" * 100_000)
    assert len(fetched(server.url).body) == 100_000
    server.page("x" * 100_001)
    with pytest.raises(LimitExceeded):
        fetched(server.url)


def test_a_page_that_never_ends(server: Pages) -> None:
    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not server.released.is_set():
            handler.wfile.write(b"a 1\n" * 1000)

    server.answer = endless
    with pytest.raises(LimitExceeded):
        fetched(server.url)


def test_a_page_that_drips_is_cut_at_the_timeout(server: Pages) -> None:
    def drip(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not server.released.wait(0.05):
            handler.wfile.write(b"a")
            handler.wfile.flush()

    server.answer = drip
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="in time"):
        fetched(server.url, timeout=0.4)
    assert time.monotonic() - began < 60


def test_a_server_that_says_nothing(server: Pages) -> None:
    server.answer = lambda handler: server.released.wait(200) and None
    with pytest.raises(TimeoutError):
        fetched(server.url, timeout=0.2)


def test_a_cut_off_page_is_refused(server: Pages) -> None:
    def cut(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"a 1\n")

    server.answer = cut
    with pytest.raises(ConnectionError, match="996 bytes are missing"):
        fetched(server.url)


def test_what_is_not_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                connection.recv(1000)

        thread = threading.Thread(target=speak)
        thread.start()
        with pytest.raises(ConnectionError, match="not an HTTP answer"):
            fetched(f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()


def test_nobody_listens() -> None:
    with pytest.raises(ConnectionRefusedError):
        fetched(f"http://127.0.0.1:{free_port()}")


def test_a_host_name_that_cannot_be_one() -> None:
    with pytest.raises(ConnectionError, match="label"):
        fetched(f"http://{'a' * 70}.test/")


def test_a_status_that_is_not_ok(server: Pages) -> None:
    server.answer = lambda handler: handler.send(b"no", status=503)
    with pytest.raises(ConnectionError, match="HTTP 503"):
        fetched(server.url)


def redirect(server: Pages, target: str) -> None:
    server.answer = lambda handler: (
        handler.send(b"a 1\n") if handler.path == "/end" else handler.send(b"", status=302, Location=target)
    )


def test_redirects_are_followed_and_keep_the_password_at_home(server: Pages) -> None:
    redirect(server, "/end")
    with_password = server.url.replace("//", "//user:p%40ss@")
    assert fetched(with_password + "/start").body == b"a 1\n"
    sent = "Basic " + base64.b64encode(b"user:p@ss").decode()
    assert [headers.get("authorization") for _, headers in server.requests] == [sent, sent]
    with serving() as other:
        redirect(server, other.url + "/end")
        assert fetched(with_password + "/start").body == b"a 1\n"
        assert "authorization" not in other.requests[0][1]


def test_redirects_without_end(server: Pages) -> None:
    redirect(server, "/again")
    with pytest.raises(ConnectionError, match=f"more than {REDIRECTS} redirects"):
        fetched(server.url)
    assert len(server.requests) == REDIRECTS + 1


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://example.org/", "javascript:1", "http://h:x/"])
def test_redirects_to_what_is_not_http(server: Pages, target: str) -> None:
    redirect(server, target)
    with pytest.raises(InvalidInput):
        fetched(server.url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:9100",
        "file:///etc/passwd",
        "ftp://h/",
        "http://",
        "http:///x",
        "http://h:99999/",
        "http://h:0/",
        "http://h/\r\nX: 1",
        "http://h/a b",
        "http://[::1",
        "http://h:x/",
        "http://ä/",
    ],
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(InvalidInput, match="URL"):
        fetched(url)


def test_a_refused_url_does_not_show_its_password() -> None:
    with pytest.raises(InvalidInput) as problem:
        fetched("ftp://user:secret@host/")
    assert "secret" not in str(problem.value)
