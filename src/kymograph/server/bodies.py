"""Bodies of requests on their way to a route: read whole, or passed on piece by piece; bounded in size and in time."""

from __future__ import annotations

import asyncio

from kymograph.server.asgi import Message, Receive
from kymograph.server.faults import Refusal
from kymograph.server.limits import Limits

_CLOSE = {"Connection": "close"}
_AGAIN = {"Retry-After": "1", **_CLOSE}


class Bodies:
    """Reads bodies whole; those of writes count together from their first byte until `let_go`."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held = 0

    def let_go(self, size: int) -> None:
        """The body of a write, of so many bytes, is no longer held."""
        self._held -= size

    async def read(self, headers: dict[bytes, bytes], receive: Receive, writes: bool) -> bytes:
        """The whole body; raises Refusal where it is too large, too slow or cut off."""
        limits = self._limits
        length = headers.get(b"content-length", b"0")
        most = limits.write_bytes if writes else limits.body_bytes
        seconds = limits.write_seconds if writes else limits.body_seconds
        if length.isdigit() and int(length[:20]) > most:
            raise _too_large(most)
        if length == b"0" and b"transfer-encoding" not in headers:
            return b""
        parts = bytearray()
        complete = False
        try:
            async with asyncio.timeout(seconds):
                while not complete:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal(400, "incomplete_body", "the connection closed before the body was complete")
                    piece = message.get("body", b"")
                    parts += piece
                    self._held += len(piece) if writes else 0
                    if len(parts) > most:
                        raise _too_large(most)
                    if self._held > limits.held_bytes:
                        raise Refusal(503, "busy", "too much is being written at one time", "try again soon", _AGAIN)
                    complete = not message.get("more_body", False)
            return piece if len(piece) == len(parts) else bytes(parts)
        except TimeoutError:
            text = f"the body was not complete after {seconds:g} s"
            raise Refusal(408, "body_too_slow", text, "", _CLOSE) from None
        finally:
            if writes and not complete:
                self._held -= len(parts)


def _too_large(most: int) -> Refusal:
    return Refusal(413, "body_too_large", f"the body exceeds {most} bytes", "", _CLOSE)


class Replay:
    """`receive` that gives the body read already, then whatever the connection says."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return message


class Flow:
    """`receive` of a body that the route reads piece by piece: bounded in size, and in the time that a piece takes."""

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self._receive = receive
        self._limits = limits
        self._size = 0
        self._complete = False

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout(self._limits.write_seconds):
                message = await self._receive()
        except TimeoutError:
            text = f"no piece of the body came for {self._limits.write_seconds:g} s"
            raise Refusal(408, "body_too_slow", text, "", _CLOSE) from None
        self._size += len(message.get("body", b""))
        # text takes several times the room of the rows in it
        if self._size > 8 * self._limits.upload_bytes:
            raise _too_large(8 * self._limits.upload_bytes)
        self._complete = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message
