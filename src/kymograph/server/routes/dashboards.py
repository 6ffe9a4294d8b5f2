"""/dashboards: JSON documents that pages draw; what is in them is theirs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi import Path as PathParam

from kymograph.errors import InvalidInput
from kymograph.model.time import isoformat
from kymograph.server.ring_bodies import parsed
from kymograph.server.routes.answers import json_answer
from kymograph.server.state import ServerState
from kymograph.store import dashboards

_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}}
Slug = Annotated[str, PathParam(max_length=100)]


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(prefix="/dashboards", tags=["dashboards"])

    @routes.get("", summary="Dashboards by slug")
    async def listed() -> Response:
        found = await state.light.run(lambda: dashboards.list(state.slot.get().engine))
        return json_answer([_told(one) for one in found])

    @routes.post(
        "", summary="Keep a dashboard under its slug, or one made from its title", status_code=201, openapi_extra=_BODY
    )
    async def save(request: Request) -> Response:
        document = parsed(await request.body())
        if not isinstance(document, dict):
            raise InvalidInput("a dashboard is a JSON object")
        kept, new = await state.light.run(lambda: dashboards.save(state.slot.get().engine, document))
        return json_answer(_told(kept), 201 if new else 200)

    @routes.get("/{slug}", summary="One dashboard")
    async def one(slug: Slug) -> Response:
        return json_answer(_told(await state.light.run(lambda: dashboards.get(state.slot.get().engine, slug))))

    @routes.delete("/{slug}", summary="Forget a dashboard", status_code=204)
    async def remove(slug: Slug) -> Response:
        await state.light.run(lambda: dashboards.remove(state.slot.get().engine, slug))
        return Response(status_code=204)

    return routes


def _told(dashboard: dict[str, Any]) -> dict[str, Any]:
    return {**dashboard, "updated": isoformat(dashboard["updated"])}
