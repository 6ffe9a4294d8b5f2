"""The listening socket, its protocol limits and a server that stops without drama."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kymograph.errors import InvalidInput, StorageError
from kymograph.server.faults import fault_body
from kymograph.server.limits import Limits

# bytes of chunk sizes and line ends for each byte of a body; a chunk of one byte has five
_FRAMING = 16
# headers, and tokens of the header Connection, that offer to go on in another protocol
_OFFERS = frozenset({b"upgrade", b"http2-settings"})


class _Denied(logging.Filter):
    """Drops complaints about what is done on purpose: refusing a WebSocket with an answer (anyone could fill the log
    with it) and cutting off an answer that broke, which the guard has logged."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("ASGI callable returned without completing")


class AddressInUse(StorageError):
    """The port is taken, or the address is not of this machine."""

    code = "address_unavailable"


def is_loopback(host: str) -> bool:
    """Whether every address that `host` stands for is reachable from this machine only."""
    try:
        found = socket.getaddrinfo(host or "0.0.0.0", None, type=socket.SOCK_STREAM)  # noqa: S104
    except OSError:
        return False
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    return bool(addresses) and all(ipaddress.ip_address(address).is_loopback for address in addresses)


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one.

    Raises:
        InvalidInput: no such address, or a port out of range.
        AddressInUse: the port is taken or may not be taken.
    """
    if not 0 <= port <= 65_535:
        raise InvalidInput(f"the port {port} is out of range", hint="0 to 65535, 0 takes a free one")
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as problem:
        raise InvalidInput(f"there is no address {host!r}: {problem}", hint="give an address of this machine") from None
    found = socket.socket(family, kind, proto)
    try:
        # a server that was just stopped must not block the next start for a minute
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(256)
    except OSError as problem:
        found.close()
        raise AddressInUse(
            f"cannot listen on {host} port {port}: {problem.strerror}", hint="choose another one with --port"
        ) from None
    found.setblocking(False)
    return found


def protocol(limits: Limits) -> type[HttpToolsProtocol]:
    """uvicorn's HTTP/1.1 protocol with deadlines, bounds on what is no body, and errors in the one JSON shape."""

    class BoundedProtocol(HttpToolsProtocol):
        _deadline: asyncio.TimerHandle | None = None
        # of the present request: whether its head is still being read, and whether any of it has come
        _in_head = True
        _begun = False
        # bytes received since its beginning, and how many of them are its body
        _received = 0
        _body = 0

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            stalled = transport.get_extra_info("socket")
            if stalled is not None and hasattr(socket, "TCP_USER_TIMEOUT") and stalled.family != socket.AF_UNIX:
                # the kernel drops a peer that takes nothing, also while a closing connection drains
                stalled.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(limits.stall_seconds * 1000))
            if len(self.connections) > limits.connections:
                self._refuse(503, b"Service Unavailable", "busy", "too many connections")
                return
            self._expect_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._drop_deadline()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            self._unset_keepalive_if_required()
            self._received += len(data)
            while data:
                try:
                    self.parser.feed_data(data)
                    break
                except httptools.HttpParserUpgrade as offer:
                    if self._should_upgrade():
                        self.handle_websocket_upgrade()
                        return
                    data = self._without_offer() + data[offer.args[0] :]
                except httptools.HttpParserError:
                    self.send_400_response("")
                    return
            # the parser bounds neither a head nor what follows the last chunk of a body; it keeps both in memory
            allowed = limits.header_bytes if self._in_head else limits.header_bytes + _FRAMING * self._body
            if self._begun and self._received - self._body > allowed + len(data):
                self.send_400_response("")

        def _without_offer(self) -> bytes:
            """The head of a request less its offer to go on in another protocol, for a parser that has not seen it.

            Behind an offer the parser takes nothing for a body, while clients that offer HTTP/2 send one.
            """
            self.parser = httptools.HttpRequestParser(self)
            lines = [b"%s %s HTTP/1.1" % (self.scope["method"].encode(), self.url)]
            for name, value in self.headers:
                if name == b"connection":
                    tokens = [token.strip() for token in value.split(b",")]
                    value = b", ".join(token for token in tokens if token.lower() not in _OFFERS)
                if name not in _OFFERS:
                    lines.append(b"%s: %s" % (name, value))
            return b"\r\n".join([*lines, b"", b""])

        def _offered(self) -> bool:
            return bool(self.parser.should_upgrade()) and not self._should_upgrade()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._begun = self._in_head = True
            self._received = self._body = 0

        def on_headers_complete(self) -> None:
            if self.parser.get_method() == b"CONNECT":
                raise ValueError("this is no proxy")
            if self._offered():  # it comes again, without the offer
                self.scope["method"] = self.parser.get_method().decode("ascii")
                return
            self._drop_deadline()
            self._in_head = False
            super().on_headers_complete()

        def on_header(self, name: bytes, value: bytes) -> None:
            if self._in_head:  # trailers behind a chunked body are nobody's
                super().on_header(name, value)

        def on_body(self, body: bytes) -> None:
            self._body += len(body)
            super().on_body(body)

        def on_message_complete(self) -> None:
            if not self._offered():
                super().on_message_complete()
                self._begun = False

        def handle_websocket_upgrade(self) -> None:
            self._drop_deadline()
            super().handle_websocket_upgrade()

        def on_response_complete(self) -> None:
            last = not self.pipeline
            super().on_response_complete()
            if last and not self.transport.is_closing():
                self._expect_head()

        def send_400_response(self, msg: str) -> None:
            self._refuse(400, b"Bad Request", "invalid_request", "this is not a valid HTTP request")

        def _expect_head(self) -> None:
            self._drop_deadline()
            self._deadline = self.loop.call_later(limits.head_seconds, self._too_slow)

        def _drop_deadline(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _too_slow(self) -> None:
            if not (self._begun and self._in_head):  # idle: nothing was asked, so nothing is answered
                self.transport.close()
                return
            self._refuse(408, b"Request Timeout", "request_too_slow", "no complete request came in time")

        def _refuse(self, status: int, phrase: bytes, code: str, message: str) -> None:
            self._drop_deadline()
            if self.transport.is_closing():
                return
            body = fault_body(code, message)
            head = b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\nconnection: close\r\n" % (status, phrase)
            self.transport.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
            self.transport.close()

    return BoundedProtocol


def spare_what_is_loaded() -> None:
    """Let the garbage collector pass over all that is there by now, which a server keeps to its end.

    A full round over the modules alone stops every thread for some 0.1 s.
    """
    gc.collect()
    gc.freeze()


class Server(uvicorn.Server):
    """uvicorn's server without its signal handling: whoever runs it sets `should_exit`.

    Args:
        on_start: called once it answers.
    """

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None] | None = None) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._on_start is not None:
            self._on_start()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn would raise the signal again afterwards and end the process before the store is closed
        yield


def config_of(app: Any, limits: Limits, tls_cert: Path | None = None, tls_key: Path | None = None) -> uvicorn.Config:
    """uvicorn's settings for an application under these limits.

    Raises:
        InvalidInput: the certificate or the key cannot be used.
    """
    config = uvicorn.Config(
        app,
        http=protocol(limits),
        ws="websockets-sansio",
        ws_max_size=limits.message_bytes,
        ws_per_message_deflate=False,
        loop="asyncio",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="warning",  # at "info" it would log queries, and a token may be in one
        access_log=False,
        proxy_headers=False,  # anyone may send X-Forwarded-For
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=5,
        ssl_certfile=tls_cert,
        ssl_keyfile=tls_key,
    )
    logger = logging.getLogger("uvicorn.error")
    if not any(isinstance(each, _Denied) for each in logger.filters):
        logger.addFilter(_Denied())
    try:
        config.load()
    except (OSError, ssl.SSLError) as problem:
        raise InvalidInput(
            f"the certificate {tls_cert} or the key {tls_key} cannot be used: {problem}",
            hint="both are PEM files, the key without a passphrase",
        ) from None
    return config
