"""A way past the router for paths where the router would take longer than the work.

What stands before it (the guard: roles, limits, sizes) holds as for any path. The path is also a route of the
application, so that it is described like the others and refuses other methods like them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from kymograph.server.guard import App, Receive, Scope, Send

# status, headers, body
Answered = tuple[int, list[tuple[bytes, bytes]], bytes]
# of headers, query string and body
Handler = Callable[[Mapping[bytes, bytes], bytes, bytes], Awaitable[Answered]]


class _Place(NamedTuple):
    """What the meter looks at of a route."""

    path: str


class Direct:
    """ASGI layer that answers POST to some paths itself; others go on.

    Args:
        handlers: by path. What they raise is answered by the guard.
    """

    def __init__(self, app: App, *, handlers: Mapping[str, Handler]) -> None:
        self._app = app
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = None
        if scope["type"] == "http" and scope["method"] == "POST":
            handler = self._handlers.get(scope["path"])
        if handler is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = _Place(scope["path"])
        body = (await receive())["body"]  # the guard gives it in one piece
        status, headers, content = await handler(dict(scope["headers"]), scope["query_string"], body)
        start: dict[str, Any] = {"type": "http.response.start", "status": status, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": content})
