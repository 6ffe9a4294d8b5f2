"""/write and /api/v2/write: Influx line protocol, and what its clients ask a server before they write."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from kymograph._version import __version__
from kymograph.server.encoding import json_text
from kymograph.server.incoming import unpacked
from kymograph.server.routes.answers import json_answer
from kymograph.server.state import ServerState
from kymograph.store.ingest.lines import LinesReport

# clients ask by it what they may send; 1.8 is the first that has both ways of writing
_SPEAKS = {"X-Influxdb-Version": "1.8.10", "X-Influxdb-Build": "Kymograph"}
# faults that an answer names; a body of nothing but broken lines would come back several times as large
_NAMED = 100

Precision = Annotated[str, Query(max_length=10, description="unit of the times: ns, us, ms, s, m or h")]
# what only a server with databases needs to know
Ignored = Annotated[str, Query(max_length=1000, description="taken and not used")]


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(tags=["influx"])

    async def taken(request: Request, precision: str) -> Response:
        body, coding = await request.body(), request.headers.get("content-encoding", "")
        report = await state.writes.run(_store, state, body, coding, precision or "ns")
        return Response(status_code=204, headers=_SPEAKS) if not report.faults else _partial(report)

    @routes.post("/write", summary="Influx line protocol, as InfluxDB 1 takes it", status_code=204)
    async def write(request: Request, precision: Precision = "ns", db: Ignored = "", rp: Ignored = "") -> Response:
        return await taken(request, precision)

    @routes.post("/api/v2/write", summary="Influx line protocol, as InfluxDB 2 takes it", status_code=204)
    async def write_v2(
        request: Request, precision: Precision = "ns", bucket: Ignored = "", org: Ignored = ""
    ) -> Response:
        return await taken(request, precision)

    @routes.post("/api/v1/influx/write", summary="The same, below the path of Prometheus' API", status_code=204)
    async def write_v1(request: Request, precision: Precision = "ns", db: Ignored = "", rp: Ignored = "") -> Response:
        return await taken(request, precision)

    @routes.get("/ping", summary="Whether lines can be written", status_code=204)
    @routes.head("/ping", include_in_schema=False)
    async def ping() -> Response:
        state.slot.get()
        return Response(status_code=204, headers=_SPEAKS)

    @routes.get("/health", summary="The same, as InfluxDB 2 says it")
    async def health() -> Response:
        reason = state.slot.reason
        told = {"name": "kymograph", "version": __version__, "checks": []}
        if reason:
            return json_answer({**told, "status": "fail", "message": reason}, 503)
        return json_answer({**told, "status": "pass", "message": "ready for queries and writes"})

    return routes


def _store(state: ServerState, body: bytes, coding: str, precision: str) -> LinesReport:
    lines = unpacked(body, coding, state.limits.write_bytes)
    report = state.slot.get().write_lines(lines, precision=precision)
    state.slot.count(report.rows)
    return report


def _partial(report: LinesReport) -> Response:
    """400 with the broken lines, in the words of InfluxDB 1 (`error`), 2 (`code`, `message`) and 3 (`data`) at once."""
    named = report.faults[:_NAMED]
    texts = [f"line {fault.line} {fault.message}" for fault in named]
    if len(report.faults) > len(named):
        texts.append(f"and {len(report.faults) - len(named)} more")
    message = f"partial write: {'; '.join(texts)}; dropped={len(report.faults)}"
    told: dict[str, Any] = {
        "error": message,
        "code": "invalid",
        "message": message,
        "data": [
            {"line_number": fault.line, "error_message": fault.message, "original_line": fault.text} for fault in named
        ],
    }
    return Response(json_text(told), 400, _SPEAKS, "application/json")
