"""HTTP/1.1 as it is spoken here: what a connection may take of time and memory before the guard sees a request."""

from __future__ import annotations

import asyncio
import socket

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kymograph.server.faults import fault_body
from kymograph.server.limits import Limits

# bytes of chunk sizes and line ends for each byte of a body; a chunk of one byte has five
_FRAMING = 16
# headers, and tokens of the header Connection, that offer to go on in another protocol
_OFFERS = frozenset({b"upgrade", b"http2-settings"})


def protocol(limits: Limits) -> type[HttpToolsProtocol]:
    """What uvicorn makes one of for each connection, under these limits."""

    class Limited(BoundedProtocol):
        bounds = limits

    return Limited


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with deadlines, bounds on what is no body, and errors in the one JSON shape."""

    bounds: Limits
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
            stalled.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self.bounds.stall_seconds * 1000))
        if len(self.connections) > self.bounds.connections:
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
        allowed = self.bounds.header_bytes if self._in_head else self.bounds.header_bytes + _FRAMING * self._body
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
        self._deadline = self.loop.call_later(self.bounds.head_seconds, self._too_slow)

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
