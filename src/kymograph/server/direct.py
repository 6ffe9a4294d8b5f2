"""A way past the router for paths where the router would take longer than the work.

What stands before it (the guard: roles, limits, sizes) holds as for any path. The path is also a route of the
application, so that it is described like the others and refuses other methods like them.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from kymograph.server.asgi import App, Receive, Scope, Send
from kymograph.server.faults import of_any

# status, headers, body
Answered = tuple[int, list[tuple[bytes, bytes]], bytes]
# of headers, query string and body
Handler = Callable[[Mapping[bytes, bytes], bytes, bytes], Awaitable[Answered]]
# makes the answer to a request, which is then sent by calling it
Direction = Callable[[Scope, Receive], Awaitable[App]]
# by method and path
Directions = dict[tuple[str, str], Direction]


class _Place(NamedTuple):
    """What the meter looks at of a route."""

    path: str


def plain(router: APIRouter) -> Directions:
    """The routes of a router that have one path, take the request and nothing else, and answer by themselves."""
    found: Directions = {}
    for route in router.routes:
        if isinstance(route, APIRoute) and not route.param_convertors and _is_plain(route.endpoint):
            found |= dict.fromkeys(((method, route.path) for method in route.methods or ()), _asking(route.endpoint))
    return found


def _is_plain(endpoint: Callable[..., Any]) -> bool:
    about = inspect.signature(endpoint, eval_str=True)
    taken = [parameter.annotation for parameter in about.parameters.values()]
    return inspect.iscoroutinefunction(endpoint) and taken == [Request] and about.return_annotation is Response


def _asking(endpoint: Callable[[Request], Awaitable[Response]]) -> Direction:
    async def direction(scope: Scope, receive: Receive) -> App:
        return await endpoint(Request(scope, receive))

    return direction


def writing(handler: Handler) -> Direction:
    """The way to what takes in a body."""

    async def direction(scope: Scope, receive: Receive) -> App:
        body = (await receive())["body"]  # the guard gives it in one piece
        status, headers, content = await handler(dict(scope["headers"]), scope["query_string"], body)

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": content})

        return answer

    return direction


class Direct:
    """ASGI layer that answers the requests it has directions for; others go on."""

    def __init__(self, app: App, *, directions: Directions) -> None:
        self._app = app
        self._directions = directions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        direction = self._directions.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if direction is None:
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        scope["route"] = _Place(path)
        try:
            answer = await direction(scope, receive)
        except Exception as error:
            answer = of_any(error, f"{scope['method']} {path}", path)
        await answer(scope, receive, send)
