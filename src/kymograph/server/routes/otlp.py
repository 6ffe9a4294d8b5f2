"""/v1/metrics: OpenTelemetry's metrics over HTTP, protobuf and JSON."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from kymograph.errors import KymographError
from kymograph.server.faults import Refusal, of_error
from kymograph.server.incoming import unpacked
from kymograph.server.state import ServerState
from kymograph.wire.otlp import request as otlp
from kymograph.wire.protobuf import put_bytes

_PROTOBUF = "application/x-protobuf"
_JSON = "application/json"

Promote = Annotated[
    str, Query(max_length=2000, description="resource attributes that become labels, by commas; * is all")
]


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(tags=["otlp"])

    async def taken(request: Request, promote: str) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in (_PROTOBUF, _JSON):
            raise Refusal(
                415,
                "unsupported_media_type",
                f"the Content-Type {kind[:80]!r} is not OTLP's",
                f"{_PROTOBUF} or {_JSON}; set the exporter's protocol to http/protobuf",
            )
        body, coding = await request.body(), request.headers.get("content-encoding", "")
        json = kind == _JSON
        try:
            text = await state.writes.run(_store, state, body, coding, json, promote)
        except KymographError as error:
            return _fault(error, json)
        return Response(text, media_type=kind)

    @routes.post("/v1/metrics", summary="OTLP metrics")
    async def metrics(request: Request, promote: Promote = "") -> Response:
        return await taken(request, promote)

    @routes.post("/api/v1/otlp/v1/metrics", summary="OTLP metrics, below the path of Prometheus' API")
    async def metrics_v1(request: Request, promote: Promote = "") -> Response:
        return await taken(request, promote)

    return routes


def _store(state: ServerState, body: bytes, coding: str, json: bool, promote: str) -> bytes:
    message = unpacked(body, coding, state.limits.write_bytes)
    names = [name.strip() for name in promote.split(",") if name.strip()]
    found = state.slot.get().write_otlp(message, json=json, promote=names)
    state.slot.count(found.stored)
    return otlp.answer(found, json=json)


def _fault(error: KymographError, json: bool) -> Response:
    """An error as OTLP wants it: a google.rpc.Status, of which exporters log the message, in the request's encoding."""
    answer = of_error(error)
    if not json:
        answer.body = put_bytes(2, str(error)[:4000].encode("utf-8", "replace"))
        answer.headers["content-type"] = _PROTOBUF
        answer.headers["content-length"] = str(len(answer.body))
    return answer
