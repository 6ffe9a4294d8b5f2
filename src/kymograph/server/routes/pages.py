"""/, /docs and /ui: the pages and what they load, all of it shipped in the package."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse

from kymograph.server.faults import Refusal
from kymograph.server.routes.access import set_session
from kymograph.server.state import ServerState

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class _Asset:
    def __init__(self, name: str, body: bytes) -> None:
        self.body = body
        self.kind = _TYPES[name[name.rindex(".") :]]
        self.tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'

    def answer(self, request: Request, status: int = 200) -> Response:
        headers = {"Content-Security-Policy": _POLICY, "ETag": self.tag, "Cache-Control": "no-cache"}
        if status == 200 and request.headers.get("if-none-match") == self.tag:
            return Response(status_code=304, headers=headers)
        return Response(self.body, status, headers, self.kind)


def _assets() -> dict[str, _Asset]:
    # read once, so that no request ever names a path
    folder = files("kymograph.server") / "ui"
    return {
        each.name: _Asset(each.name, each.read_bytes())
        for each in folder.iterdir()
        if each.name.endswith(tuple(_TYPES))
    }


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(include_in_schema=False)
    assets = _assets()

    @routes.api_route("/", methods=["GET", "HEAD"])
    async def page(request: Request) -> Response:
        if not state.gate.required:
            return assets["index.html"].answer(request)
        token = request.query_params.get("token")
        if token:
            return await _exchange(request, token)
        if await state.gate.has_session(request.scope, dict(request.scope["headers"]), state.light):
            return assets["index.html"].answer(request)
        return assets["login.html"].answer(request, 401)

    async def _exchange(request: Request, token: str) -> Response:
        try:
            await state.gate.check(token, request.scope, state.light)
        except Refusal as refusal:
            return assets["login.html"].answer(request, refusal.status)
        # the token leaves the address bar and the history with it
        response = RedirectResponse("./", 303)
        set_session(response, state.gate, request, token)
        return response

    @routes.get("/docs")
    async def docs(request: Request) -> Response:
        return assets["docs.html"].answer(request)

    @routes.get("/favicon.ico")
    async def icon(request: Request) -> Response:
        return assets["icon.svg"].answer(request)

    @routes.get("/ui/{name}")
    async def asset(request: Request, name: str) -> Response:
        found = assets.get(name)
        if found is None or name.endswith(".html"):
            raise HTTPException(404)
        return found.answer(request)

    return routes
