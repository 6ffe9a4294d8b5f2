"""/api/session and /api/tokens: a browser's way in, and the tokens themselves (for admins)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi import Path as PathParam
from pydantic import BaseModel, ConfigDict, Field

from kymograph.model.time import isoformat
from kymograph.server.auth import Gate
from kymograph.server.routes.answers import json_answer
from kymograph.server.state import ServerState
from kymograph.store import tokens as store_tokens


class SessionRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    token: str = Field(min_length=1, max_length=200)


class TokenRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["read", "write", "admin"]
    name: str = Field("", max_length=100)


def set_session(response: Response, gate: Gate, request: Request, token: str) -> None:
    """Let the browser come back without showing the token again; no script can read the cookie."""
    session, seconds = gate.open_session(token)
    response.set_cookie(
        gate.cookie_name(request.scope),
        session,
        max_age=seconds,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(prefix="/api", tags=["access"])

    @routes.post("/session", summary="Exchange a token for a browser session", status_code=204)
    async def enter(request: Request, asked: SessionRequest) -> Response:
        response = Response(status_code=204)
        if state.gate.required:
            await state.gate.check(asked.token, request.scope, state.light)
            set_session(response, state.gate, request, asked.token)
        return response

    @routes.delete("/session", summary="End the browser session", status_code=204)
    async def leave(request: Request) -> Response:
        state.gate.end_session(request.scope, dict(request.scope["headers"]))
        response = Response(status_code=204)
        response.delete_cookie(state.gate.cookie_name(request.scope), httponly=True, samesite="strict")
        return response

    @routes.get("/tokens", summary="Tokens by id; the tokens themselves are not known")
    async def listed() -> Response:
        def ask() -> list[dict[str, Any]]:
            found = store_tokens.list(state.slot.get().engine)
            return [{**token, "created": isoformat(token["created"])} for token in found]

        return json_answer(await state.light.run(ask))

    @routes.post("/tokens", summary="Make a token; it is shown this once", status_code=201)
    async def create(asked: TokenRequest) -> Response:
        def make() -> str:
            return store_tokens.create(state.slot.get().engine, asked.role, asked.name)

        return json_answer({"token": await state.light.run(make), "role": asked.role, "name": asked.name}, 201)

    @routes.delete("/tokens/{id}", summary="Revoke a token", status_code=204)
    async def revoke(id: Annotated[str, PathParam(max_length=64)]) -> Response:
        await state.light.run(lambda: store_tokens.revoke(state.slot.get().engine, id))
        state.gate.forget()
        return Response(status_code=204)

    return routes
