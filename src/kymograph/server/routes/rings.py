"""The ring face: /ingest, /query and /metrics/…, with metric_id, tags and seconds, as its clients know them."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as PathParam
from pydantic import BaseModel, ConfigDict, Field

from kymograph.errors import InvalidInput
from kymograph.model.time import SECOND
from kymograph.server.encoding import rows
from kymograph.server.incoming import unpacked
from kymograph.server.ring_bodies import from_json, step_micros
from kymograph.server.ring_streams import from_arrow
from kymograph.server.routes.answers import json_answer
from kymograph.server.state import ServerState
from kymograph.store.rings.metric import seconds

_ARROW = ("application/vnd.apache.arrow.stream", "application/x-arrow-stream")
_MOST_IDS = 10_000
MetricId = Annotated[int, PathParam(ge=0, lt=2**63)]
Moment = Annotated[float | None, Query(description="seconds since 1970; the range is closed at both ends")]


class Tagged(BaseModel):
    """A metric by name and tags: exactly these tags, or else the only one that has them and others."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(min_length=1, max_length=255)
    tags: dict[str, str] = Field(default_factory=dict)


class Selected(BaseModel):
    """A metric of a query, and the alias that stands for its id as `{{alias}}`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    metric: str = Field(min_length=1, max_length=255)
    tags: dict[str, str] = Field(default_factory=dict)
    alias: str | None = Field(None, min_length=1, max_length=100)


class WindowRequest(BaseModel):
    """One statement over the samples of a range of seconds."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sql: str = Field(min_length=1, max_length=100_000)
    start_ts: float | None = Field(None, description="seconds since 1970, included")
    end_ts: float | None = Field(None, description="seconds since 1970, included")
    metric_ids: list[int] | None = Field(None, max_length=_MOST_IDS)
    selectors: list[Selected] | None = Field(None, max_length=1000)


class RetentionRequest(BaseModel):
    """What bounds a ring; what is left out stays."""

    model_config = ConfigDict(extra="forbid", strict=True)

    step: float | None = Field(None, description="seconds of one slot")
    slots: int | None = None


def _body(field: str) -> dict[str, Any]:
    """What /docs shows of a body that is read as it comes."""
    example = {"name": "power", "tags": {"gpu": "0"}, "ts": 1790000000.5, field: 305.5, "step": 1, "slots": 3600}
    content = {"schema": {"type": "object"}, "example": example}
    return {"requestBody": {"required": True, "content": {"application/json": content, _ARROW[0]: {}}}}


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(tags=["rings"])

    @routes.post(
        "/ingest/gauge",
        summary="Samples of gauges: one, a JSON array, or an Arrow stream",
        openapi_extra=_body("value"),
    )
    async def gauge(request: Request) -> Response:
        return await _ingest(state, request, "gauge", "value")

    @routes.post("/ingest/counter", summary="Readings of counters, likewise", openapi_extra=_body("raw_value"))
    async def counter(request: Request) -> Response:
        return await _ingest(state, request, "counter", "raw_value")

    @routes.post("/query", summary="SQL over samples(metric_id, ts, value), metrics and metric_tags")
    async def query(asked: WindowRequest) -> Response:
        return json_answer(await state.heavy.run(_query, state, asked))

    @routes.get("/api/metrics", summary="Metrics with their ids, tags and rings")
    async def metrics() -> Response:
        return await listing(state)

    @routes.post("/metrics/lookup", summary="The id of a metric by name and tags")
    async def lookup(asked: Tagged) -> Response:
        found = await state.light.run(lambda: state.slot.get().ring_metrics().resolve(asked.name, asked.tags))
        return json_answer(found.as_json())

    @routes.get("/metrics/{id}/series", summary="Samples of one metric, oldest first")
    async def series(
        id: MetricId,
        start_ts: Moment = None,
        end_ts: Moment = None,
        bucket: Annotated[float | None, Query(description="seconds of one bucket to summarise by")] = None,
    ) -> Response:
        return json_answer(await state.heavy.run(_series, state, id, start_ts, end_ts, step_micros(bucket)))

    @routes.post("/metrics/{id}/retention", summary="Give a ring another step or number of slots, at once")
    async def retention(id: MetricId, asked: RetentionRequest) -> Response:
        if asked.step is None and asked.slots is None:
            raise InvalidInput("give step, slots or both")
        step = step_micros(asked.step)
        found = await state.writes.run(lambda: state.slot.get().resize_metric(id, step, asked.slots))
        return json_answer(found.as_json())

    @routes.delete("/metrics/{id}", summary="Forget a metric and its samples", status_code=204)
    async def remove(id: MetricId) -> Response:
        await state.writes.run(lambda: state.slot.get().delete_metric(id))
        return Response(status_code=204)

    return routes


async def listing(state: ServerState) -> Response:
    """Every metric as JSON: what GET /api/metrics answers, and GET /metrics to those who ask for JSON."""
    found = await state.light.run(lambda: [one.as_json() for one in state.slot.get().ring_metrics().all()])
    return json_answer(found)


def wants_json(accept: str) -> bool:
    """Whether an Accept header prefers JSON to the exposition text."""
    best, json_first = -1.0, False
    for part in accept.lower().split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        weight = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        try:
            q = float(weight)
        except ValueError:
            q = 0.0
        known = kind in ("application/json", "text/plain", "application/openmetrics-text", "text/*", "*/*")
        if known and q > max(best, 0.0):
            best, json_first = q, kind == "application/json"
    return json_first


async def _ingest(state: ServerState, request: Request, kind: str, field: str) -> Response:
    body = await request.body()
    coding = request.headers.get("content-encoding", "")
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return json_answer(await state.writes.run(_store, state, body, coding, media in _ARROW, kind, field))


def _store(state: ServerState, body: bytes, coding: str, arrow: bool, kind: str, field: str) -> dict[str, Any]:
    most = state.limits.write_bytes
    plain = unpacked(body, coding, most)
    samples = from_arrow(plain, field, most) if arrow else from_json(plain, field)
    ids = state.slot.get().write_rings(kind, samples.targets, samples.of, samples.times, samples.values)
    state.slot.count(len(samples.times))
    if samples.single:
        return {"metric_id": ids[0], "accepted": 1}
    return {"metric_ids": list(dict.fromkeys(ids)), "accepted": len(samples.times)}


def _query(state: ServerState, asked: WindowRequest) -> dict[str, Any]:
    from kymograph.store.rings.window import Selector

    selectors = [Selector(one.metric, one.tags, one.alias) for one in asked.selectors or ()]
    result = state.slot.get().ring_sql(
        asked.sql,
        start=asked.start_ts,
        end=asked.end_ts,
        metric_ids=asked.metric_ids or (),
        selectors=selectors,
        limits=state.limits.of_query(streamed=False),
    )
    found = rows(result.arrow())
    return {"rows": found, "count": len(found)}


def _series(state: ServerState, id: int, start: float | None, end: float | None, bucket: int | None) -> dict[str, Any]:
    found = state.slot.get().ring_samples(id, start=start, end=end, bucket=bucket, most=state.limits.query_rows)
    metric = found.pop("metric")
    ts = [seconds(micros) for micros in found.pop("ts").tolist()]
    columns = {name: _listed(values) for name, values in found.items()}
    listed = [dict(zip(("ts", *columns), row, strict=True)) for row in zip(ts, *columns.values(), strict=True)]
    return {**metric.as_json(), "bucket": None if bucket is None else bucket / SECOND, "rows": listed, "count": len(ts)}


def _listed(values: Any) -> list[Any]:
    """Numbers as JSON has them; what it cannot say is null."""
    listed: list[Any] = values.tolist()
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return listed
    return [value if there else None for value, there in zip(listed, np.isfinite(values).tolist(), strict=True)]
