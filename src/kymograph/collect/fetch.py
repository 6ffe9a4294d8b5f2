"""One HTTP request to a server that is not trusted, a page read or a text sent: bounded in time, bytes and redirects."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urljoin, urlsplit, urlunsplit

from kymograph._version import __version__
from kymograph.errors import InvalidInput, LimitExceeded

REDIRECTS = 5
_MOVED = (301, 302, 303, 307, 308)
_TAKEN = (200, 201, 202, 204)
_FINAL = tuple(status for status in range(400, 500) if status not in (408, 425, 429))
_CHUNK = 64 * 1024
_ANSWER_BYTES = 2**20
_PORTS = {"http": 80, "https": 443}


class Refused(ConnectionError):
    """The server answered that it will not take this; trying again is of no use."""


@dataclass(frozen=True)
class Page:
    """A body, decompressed, and its content type in lower case without surrounding space."""

    body: bytes
    content_type: str


def checked_url(url: str) -> SplitResult:
    """The parts of an http or https URL.

    Raises:
        InvalidInput: another scheme, no host, a bad port, or characters that no URL has.
    """
    hint = "write it like http://127.0.0.1:9100/metrics"
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidInput(f"{url!r} is not a URL", hint=hint)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidInput(f"{url!r} is not a URL", hint=hint) from None
    if parts.scheme not in _PORTS or not parts.hostname or port == 0:
        raise InvalidInput(f"{_shown(parts)} is not an http or https URL", hint=hint)
    return parts


def address(parts: SplitResult) -> str:
    """`host:port` of a checked URL, the port always given."""
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{parts.port or _PORTS[parts.scheme]}"


def get(url: str, *, accept: str, timeout: float, max_bytes: int) -> Page:
    """The page at `url`.

    User and password in the URL are sent as basic authentication, and not to where a redirect to
    another origin leads. Proxy settings of the environment are not used.

    Args:
        url: checked by `checked_url`.
        accept: the Accept header.
        timeout: seconds for everything, resolving names excepted.
        max_bytes: of the body, before and after decompression.

    Raises:
        InvalidInput: the URL, or one that a redirect leads to, is none.
        LimitExceeded: the body is larger.
        OSError: no connection, no answer in time, or an answer that is no page.
    """
    deadline = time.monotonic() + timeout
    parts = checked_url(url)
    headers = {
        "Accept": accept,
        "Accept-Encoding": "gzip",
        "User-Agent": f"kymograph/{__version__}",
        "X-Prometheus-Scrape-Timeout-Seconds": f"{timeout:g}",
        "Connection": "close",
    }
    headers |= _credentials(parts)
    for _ in range(REDIRECTS + 1):
        found = _exchange(parts, headers, deadline, max_bytes)
        if isinstance(found, Page):
            return found
        target = checked_url(urljoin(urlunsplit(parts), found))
        if (target.scheme, address(target)) != (parts.scheme, address(parts)):
            headers.pop("Authorization", None)
        parts = target
    raise ConnectionError(f"more than {REDIRECTS} redirects")


def post(url: str, body: bytes, *, content_type: str, timeout: float) -> None:
    """Send a text to `url`; what is answered is not looked at, as long as it is a success.

    Raises:
        InvalidInput: the URL is none.
        Refused: the server does not want it, ever.
        OSError: no connection, no answer in time, or one that says to try again.
    """
    parts = checked_url(url)
    headers = {"Content-Type": content_type, "User-Agent": f"kymograph/{__version__}", "Connection": "close"}
    headers |= _credentials(parts)
    found = _exchange(parts, headers, time.monotonic() + timeout, _ANSWER_BYTES, body)
    if not isinstance(found, Page):
        raise Refused(f"the answer leads to {found[:200]!r}")


def _credentials(parts: SplitResult) -> dict[str, str]:
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return {"Authorization": "Basic " + base64.b64encode(pair).decode()}


def _exchange(
    parts: SplitResult, headers: dict[str, str], deadline: float, max_bytes: int, sent: bytes | None = None
) -> Page | str:
    """The page, or where the answer redirects to; a POST where something is sent."""
    connection = _connection(parts, max(0.001, deadline - time.monotonic()))
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.connect()
        with _cut_at(connection.sock, deadline):
            connection.request("GET" if sent is None else "POST", target, sent, headers)
            response = connection.getresponse()
            if response.status in _MOVED:
                location = response.getheader("Location")
                if not location:
                    raise ConnectionError(f"HTTP {response.status} without a Location")
                return location
            if sent is not None and response.status in _FINAL:
                said = response.read(300).decode("utf-8", "replace")
                raise Refused(f"HTTP {response.status} {response.reason}: {said}".strip())
            if response.status != http.client.OK and (sent is None or response.status not in _TAKEN):
                raise ConnectionError(f"HTTP {response.status} {response.reason}".strip())
            body = _body(response, max_bytes)
        if time.monotonic() >= deadline:
            # cut by us, which looks like the end of a page that tells no length
            raise TimeoutError
        return Page(body, (response.getheader("Content-Type") or "").strip().lower())
    except (OSError, http.client.HTTPException, ValueError) as problem:
        if time.monotonic() >= deadline:
            raise TimeoutError("no complete answer in time") from None
        if isinstance(problem, http.client.HTTPException):
            raise ConnectionError(f"not an HTTP answer: {problem or type(problem).__name__}") from None
        if isinstance(problem, ValueError):
            # a host name that cannot be one, such as a part of more than 63 characters
            raise ConnectionError(str(problem)) from None
        raise
    finally:
        connection.close()


def _connection(parts: SplitResult, timeout: float) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    port = parts.port or _PORTS[parts.scheme]
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
    return http.client.HTTPConnection(host, port, timeout=timeout)


@contextlib.contextmanager
def _cut_at(sock: socket.socket, deadline: float) -> Iterator[None]:
    """End every read and write at the deadline: a socket's own timeout starts anew with each byte."""
    # past the TLS layer, which is not safe to shut down while another thread reads
    timer = threading.Timer(max(0.0, deadline - time.monotonic()), _shut, [sock])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _body(response: http.client.HTTPResponse, max_bytes: int) -> bytes:
    coding = (response.getheader("Content-Encoding") or "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip"):
        raise ConnectionError(f"the answer is coded as {coding[:40]!r}, which was not asked for")
    inflate = None if coding == "identity" else zlib.decompressobj(wbits=31)
    chunks: list[bytes] = []
    raw = size = 0
    while chunk := response.read(_CHUNK):
        raw += len(chunk)
        if inflate is not None:
            try:
                chunk = inflate.decompress(chunk, max_bytes + 1 - size)
            except zlib.error as problem:
                raise ConnectionError(f"the answer is not gzip: {problem}") from None
        chunks.append(chunk)
        size += len(chunk)
        if size > max_bytes or raw > max_bytes:
            raise LimitExceeded(f"the page has more than {max_bytes:,} bytes")
    if response.length:
        raise ConnectionError(f"the answer is cut off, {response.length:,} bytes are missing")
    if inflate is not None and not inflate.eof:
        raise ConnectionError("the gzip answer is cut off")
    return b"".join(chunks)


def _shown(parts: SplitResult) -> str:
    """The URL without user and password, for messages."""
    return repr(urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])))
