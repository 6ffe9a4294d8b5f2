"""/-/healthy, /-/ready and /-/reload, as programs that watch and steer a Prometheus know them."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from kymograph.errors import InvalidInput
from kymograph.server.state import ServerState


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(prefix="/-", tags=["lifecycle"], default_response_class=PlainTextResponse)

    @routes.head("/healthy", include_in_schema=False)
    @routes.get("/healthy", summary="Whether the server answers")
    async def healthy() -> str:
        return "Kymograph is Healthy.\n"

    @routes.head("/ready", include_in_schema=False)
    @routes.get("/ready", summary="Whether the store is open")
    async def ready() -> PlainTextResponse:
        # why it is not may name a path, which is nothing to tell everybody
        if state.slot.reason:
            return PlainTextResponse("The store is not open.\n", 503)
        return PlainTextResponse("Kymograph is Ready.\n")

    @routes.put("/reload", summary="Read the rule files again")
    @routes.post("/reload", summary="Read the rule files again")
    async def reload() -> PlainTextResponse:
        rules = state.rules
        try:
            if rules is not None:
                await state.heavy.run(lambda: rules.reload(state.slot.get()))
        except InvalidInput as error:
            return PlainTextResponse(f"failed to reload config: {error}\n", 500)
        return PlainTextResponse("")

    return routes
