"""/api/rollups and /api/downsampling: summaries beside the samples, and in place of them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Response
from fastapi import Path as PathParam
from pydantic import BaseModel, ConfigDict

from kymograph.model.time import isoformat
from kymograph.options import Retention
from kymograph.server.routes.answers import json_answer
from kymograph.server.state import ServerState
from kymograph.store.rollups.definition import duration

Name = Annotated[str, PathParam(max_length=127)]
_STRICT = ConfigDict(extra="forbid", strict=True)


class KeepRequest(BaseModel):
    """What bounds a rollup's table."""

    model_config = _STRICT

    age: str | None = None
    bytes: str | int | None = None


class RollupRequest(BaseModel):
    """A rollup of `source`, or of what `query` says."""

    model_config = _STRICT

    name: str
    source: str = "samples"
    every: str = "1m"
    by: list[str] | None = None
    fields: list[str] | None = None
    keep: KeepRequest | None = None
    start_offset: str | None = None
    end_offset: str | None = "1m"
    query: str | None = None
    refresh: bool = True


class RefreshRequest(BaseModel):
    """The buckets to make anew; an empty body only brings the rollup up to date."""

    model_config = _STRICT

    start: str | int | None = None
    end: str | int | None = None


class PolicyRequest(BaseModel):
    """What happens to samples of an age, of some series."""

    model_config = _STRICT

    policy: str
    name: str | None = None
    labels: dict[str, str | list[str]] | None = None


class DownsampleRequest(BaseModel):
    """Samples to replace now."""

    model_config = _STRICT

    older_than: str
    interval: str
    name: str | None = None
    labels: dict[str, str | list[str]] | None = None


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(prefix="/api", tags=["rollups"])

    @routes.get("/rollups", summary="Rollups and how fresh they are")
    async def rollups() -> Response:
        found = await state.light.run(lambda: state.slot.get().rollups())
        return json_answer([_told(one) for one in found])

    @routes.post("/rollups", summary="Keep summaries per bucket from now on", status_code=201)
    async def create(request: RollupRequest) -> Response:
        made = await state.heavy.run(lambda: state.slot.get().create_rollup(**_arguments(request)))
        return json_answer(_told(made), 201)

    @routes.post("/rollups/{name}/refresh", summary="Bring a rollup up to date, or make a range anew")
    async def refresh(name: Name, request: RefreshRequest | None = None) -> Response:
        asked = request or RefreshRequest()
        rows = await state.heavy.run(lambda: state.slot.get().refresh_rollup(name, asked.start, asked.end))
        return json_answer({"rows": rows})

    @routes.delete("/rollups/{name}", summary="Forget a rollup with its rows", status_code=204)
    async def drop(name: Name) -> Response:
        await state.heavy.run(lambda: state.slot.get().drop_rollup(name))
        return Response(status_code=204)

    @routes.get("/downsampling", summary="What is replaced by summaries, and up to when")
    async def policies() -> Response:
        found = await state.light.run(lambda: state.slot.get().downsample_policies())
        return json_answer([_told(one) for one in found])

    @routes.post("/downsampling", summary="Set the policy of some series; an empty one ends it")
    async def set_policy(request: PolicyRequest) -> Response:
        found = await state.light.run(
            lambda: state.slot.get().downsample_policy(request.policy, request.name, request.labels)
        )
        return json_answer([_told(one) for one in found])

    @routes.post("/downsampling/run", summary="Replace samples by summaries now")
    async def downsample(request: DownsampleRequest) -> Response:
        found = await state.heavy.run(
            lambda: state.slot.get().downsample(request.older_than, request.interval, request.name, request.labels)
        )
        return json_answer(_told(found))

    return routes


def _arguments(request: RollupRequest) -> dict[str, Any]:
    given = request.model_dump()
    keep = given.pop("keep")
    return {**given, "keep": None if keep is None else Retention(**keep)}


_TIMES = ("oldest", "newest", "fresh_until", "upto", "boundary")
_DURATIONS = ("every", "keep", "start_offset", "end_offset", "interval", "older_than")


def _told(one: dict[str, Any]) -> dict[str, Any]:
    """Times as ISO 8601, durations as text that is read back."""
    spoken = dict(one)
    for names, say in ((_TIMES, isoformat), (_DURATIONS, duration)):
        spoken |= {name: say(one[name]) for name in names if one.get(name) is not None}
    return spoken
