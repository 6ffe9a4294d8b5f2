"""/api/retention: ages of some scalar series, shorter than that of all."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict

from kymograph.model.schema import SAMPLES
from kymograph.model.time import isoformat
from kymograph.options import Retention
from kymograph.server.routes.answers import json_answer
from kymograph.server.state import ServerState
from kymograph.store.rollups.definition import duration


class AgeRequest(BaseModel):
    """The age of the series of a selector."""

    model_config = ConfigDict(extra="forbid", strict=True)

    series: str
    age: str


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(prefix="/api/retention", tags=["store"])

    @routes.get("", summary="Which series go earlier than all, and when")
    async def ages() -> Response:
        found = await state.light.run(lambda: state.slot.get().series_retention())
        return json_answer([_told(one) for one in found])

    @routes.post("", summary="Give the series of a selector an age")
    async def set_age(request: AgeRequest) -> Response:
        def work() -> list[dict[str, Any]]:
            store = state.slot.get()
            store.set_retention(SAMPLES, Retention(age=request.age), series=request.series)
            return store.series_retention()

        return json_answer([_told(one) for one in await state.light.run(work)])

    @routes.delete("", summary="Take the age of a selector away", status_code=204)
    async def drop(series: Annotated[str, Query()]) -> Response:
        await state.light.run(lambda: state.slot.get().set_retention(SAMPLES, None, series=series))
        return Response(status_code=204)

    return routes


def _told(one: dict[str, Any]) -> dict[str, Any]:
    boundary = one["boundary"]
    return {**one, "age": duration(one["age"]), "boundary": None if boundary is None else isoformat(boundary)}
