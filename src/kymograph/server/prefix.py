"""A path prefix: behind a reverse proxy that hands on `/PREFIX/…` as it came, or takes the prefix off itself."""

from __future__ import annotations

import re

from starlette.responses import RedirectResponse

from kymograph.errors import InvalidInput
from kymograph.server.asgi import App, Receive, Scope, Send

_VALID = re.compile(r"(?:/[A-Za-z0-9._~-]+)+", re.ASCII)


def checked_prefix(text: str) -> str:
    """A prefix as `/a/b`, "" for none.

    Raises:
        InvalidInput: characters that mean something in a URL, or a path that the server has itself.
    """
    prefix = text.strip().strip("/")
    if not prefix:
        return ""
    prefix = f"/{prefix}"
    if not _VALID.fullmatch(prefix) or {"..", "."} & set(prefix.split("/")):
        raise InvalidInput(f"{text!r} is not a path prefix", hint="write it like /kymograph")
    return prefix


class PathPrefix:
    """Outermost ASGI layer: takes the prefix off the path, so that everything below knows nothing of it."""

    def __init__(self, app: App, *, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            path = scope["path"]
            if path == self._prefix and scope["type"] == "http":
                # pages name what they load by relative paths, which need the slash
                await RedirectResponse(f"{self._prefix}/", 308)(scope, receive, send)
                return
            if path.startswith(f"{self._prefix}/"):
                # no root_path: Starlette would take it off once more from a path that begins like it
                scope = {**scope, "path": path[len(self._prefix) :]}
        await self._app(scope, receive, send)
