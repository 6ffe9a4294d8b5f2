"""The outermost layer: what every request must satisfy before a route sees it, and what every answer carries.

Host names are checked against DNS rebinding, Origin and Fetch Metadata against other web pages, sizes and times
against exhaustion. No CORS header is ever sent. Whatever goes wrong below comes out in the one JSON shape.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from urllib.parse import urlsplit

from fastapi import Response
from starlette.datastructures import MutableHeaders

from kymograph.errors import KymographError
from kymograph.server.asgi import App, Message, Receive, Scope, Send
from kymograph.server.auth import Gate
from kymograph.server.bodies import Bodies, Flow, Replay
from kymograph.server.faults import Refusal, of_any, of_refusal
from kymograph.server.incoming import is_streamed, is_write
from kymograph.server.limits import Limits
from kymograph.server.meter import Meter
from kymograph.server.pool import Pool

log = logging.getLogger("kymograph.server")

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class _Stalled(Exception):
    """The client stopped taking the answer."""


def host_of(value: str) -> str:
    """The name of a Host header without its port, lower case; "" when it is malformed."""
    try:
        parts = urlsplit(f"//{value}")
        _ = parts.port
    except ValueError:
        return ""
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return ""
    return (parts.hostname or "").rstrip(".")


def _same_origin(origin: str, host: str) -> bool:
    """Whether an Origin header names the host (and port) that the request was sent to."""
    try:
        parts = urlsplit(origin)
        asked = urlsplit(f"//{host}")
        standard = {"http": 80, "https": 443}.get(parts.scheme)
        return (
            standard is not None
            and bool(parts.hostname)
            and parts.hostname == asked.hostname
            and (parts.port or standard) == (asked.port or standard)
        )
    except ValueError:
        return False


class Guard:
    """ASGI middleware around the whole application.

    Args:
        hosts: names, beside loopback and the address a connection came in on, that Host may say.
    """

    def __init__(
        self, app: App, *, gate: Gate, meter: Meter, pool: Pool, limits: Limits, hosts: frozenset[str]
    ) -> None:
        self._app = app
        self._gate = gate
        self._meter = meter
        self._pool = pool
        self._limits = limits
        self._bodies = Bodies(limits)
        self._hosts = hosts | _LOOPBACK
        self._requests = 0
        self._watchers = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.monotonic()
        answer = _Answer(send, self._limits.stall_seconds)
        self._requests += 1
        try:
            await self._answer(scope, receive, answer)
        except _Stalled:
            log.info("%s %s: the client stopped reading", scope["method"], scope["path"])
        except Exception as error:
            await self._fail(scope, receive, answer, error)
        finally:
            self._requests -= 1
            route = getattr(scope.get("route"), "path", None) or "other"
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._meter.answered(method, route, answer.status, time.monotonic() - began)

    async def _answer(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        if self._requests > self._limits.requests:
            raise Refusal(503, "busy", "too many requests at one time", "try again soon", {"Retry-After": "1"})
        headers = self._check(scope)
        await self._gate.admit(scope, headers, self._pool)
        if is_streamed(scope["method"], scope["path"]):
            await self._app(scope, Flow(receive, self._limits), answer)
            return
        writes = is_write(scope["method"], scope["path"])
        body = await self._bodies.read(headers, receive, writes)
        size = len(body)
        try:
            await self._app(scope, Replay(body, receive), answer)
        finally:
            if writes:
                self._bodies.let_go(size)

    async def _fail(self, scope: Scope, receive: Receive, answer: _Answer, error: Exception) -> None:
        place = f"{scope['method']} {scope['path'][:200]}"
        if answer.status:
            # what a route raises too late for an answer comes wrapped
            error = error.__cause__ if isinstance(error.__cause__, KymographError) else error
            # half an answer must not look whole: returning before its end makes the server cut the connection
            log.error("%s broke off: %s", place, error, exc_info=None if _is_known(error) else error)
            return
        try:
            await of_any(error, place, scope["path"])(scope, receive, answer)
        except _Stalled:
            log.info("%s: the client stopped reading", place)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._watchers >= self._limits.watchers:
            refusal = Refusal(503, "busy", "too many WebSocket clients", "try again soon")
            await _deny(of_refusal(refusal), scope, receive, send)
            return
        self._watchers += 1
        try:
            headers = self._check(scope)
            await self._gate.admit(scope, headers, self._pool)
        except (Refusal, KymographError) as error:
            await _deny(of_any(error, scope["path"], scope["path"]), scope, receive, send)
            return
        else:
            await self._app(scope, receive, send)
        finally:
            self._watchers -= 1

    def _check(self, scope: Scope) -> dict[bytes, bytes]:
        """Headers by name, once everything about the head of the request is in order."""
        if len(scope["raw_path"]) + len(scope["query_string"]) > self._limits.target_bytes:
            raise Refusal(414, "uri_too_long", f"path and query exceed {self._limits.target_bytes} bytes")
        # the parser bounds only what comes in several pieces
        if sum(len(name) + len(value) for name, value in scope["headers"]) > self._limits.header_bytes:
            raise Refusal(431, "headers_too_large", f"the headers exceed {self._limits.header_bytes} bytes")
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in (b"host", b"origin", b"authorization") and name in headers:
                raise Refusal(400, "invalid_request", f"the header {name.decode()} is there twice")
            headers[name] = value
        if b"host" not in headers and scope.get("http_version") == "1.1":
            raise Refusal(400, "invalid_request", "the header host is missing")
        host = headers.get(b"host", b"").decode("latin-1")
        self._check_host(host, scope)
        self._check_page(headers, host, scope)
        return headers

    def _check_host(self, host: str, scope: Scope) -> None:
        name = host_of(host)
        bound = str((scope.get("server") or ("", 0))[0])
        if name and (name in self._hosts or _same_address(name, bound)):
            return
        raise Refusal(
            403,
            "host_not_allowed",
            f"this server does not answer to the name {name[:100]!r}",
            "start it with --allowed-host NAME if that name is meant",
        )

    def _check_page(self, headers: dict[bytes, bytes], host: str, scope: Scope) -> None:
        """No page of another site may send a request here; browsers say where a request comes from."""
        origin = headers.get(b"origin")
        if origin is not None and not _same_origin(origin.decode("latin-1"), host):
            raise Refusal(403, "origin_not_allowed", "requests of other web pages are refused")
        site = headers.get(b"sec-fetch-site", b"none")
        navigation = (
            scope["type"] == "http"
            and scope["method"] in ("GET", "HEAD")
            and headers.get(b"sec-fetch-mode") == b"navigate"
            and headers.get(b"sec-fetch-dest") == b"document"
        )
        if site not in (b"none", b"same-origin") and not navigation:
            raise Refusal(403, "origin_not_allowed", "requests of other web pages are refused")


class _Answer:
    """`send` that adds the headers every answer has and does not wait for ever.

    Attributes:
        status: of the answer; 0 until it has begun.
    """

    def __init__(self, send: Send, patience: float) -> None:
        self._send = send
        self._patience = patience
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message.setdefault("headers", [])
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        try:
            async with asyncio.timeout(self._patience):
                await self._send(message)
        except TimeoutError:
            raise _Stalled from None


def _is_known(error: Exception) -> bool:
    return isinstance(error, (KymographError, Refusal))


async def _deny(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse a WebSocket with a plain HTTP answer, before it is one."""
    message = await receive()
    if message["type"] != "websocket.connect":
        return
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [*response.raw_headers, (b"connection", b"close")]
    await send({"type": "websocket.http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": bytes(response.body)})


def _same_address(name: str, bound: str) -> bool:
    """Whether a Host name is literally the IP address the connection came in on."""
    try:
        return ipaddress.ip_address(name) == ipaddress.ip_address(bound)
    except ValueError:
        return False
