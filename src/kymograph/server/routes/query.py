"""/api/sql: read-only SQL over HTTP, as JSON rows, or streamed as CSV or Arrow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Response
from pydantic import BaseModel, ConfigDict, Field

from kymograph.server.encoding import chunks, rows
from kymograph.server.routes.answers import json_answer, streamed
from kymograph.server.state import ServerState
from kymograph.sql.result import Stream

Scalar = None | bool | int | float | str
Format = Literal["json", "csv", "arrow"]


class SqlRequest(BaseModel):
    """One statement and the values of its `$name` placeholders."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sql: str = Field(min_length=1, max_length=100_000, examples=["SELECT * FROM latest.gpu_metrics"])
    params: dict[str, Scalar] | None = Field(None, max_length=100)
    format: Format | None = Field(None, description="json (default), csv or arrow; otherwise by Accept")


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(prefix="/api", tags=["sql"])

    @routes.post("/sql", summary="Run one read-only SQL statement")
    async def sql(request: SqlRequest, accept: Annotated[str, Header()] = "") -> Response:
        wanted = request.format or _accepted(accept)
        if wanted == "json":
            return json_answer(await state.heavy.run(_rows, state, request))
        pieces = await state.heavy.run(_pieces, state, request, wanted)
        return await streamed(state.heavy, wanted, pieces)

    return routes


def _rows(state: ServerState, request: SqlRequest) -> dict[str, Any]:
    began = time.monotonic()
    limits = state.limits.of_query(streamed=False)
    found = state.slot.get().sql(request.sql, request.params, limits=limits)
    table = found.arrow()
    return {
        "columns": [{"name": field.name, "type": str(field.type)} for field in table.schema],
        "rows": rows(table),
        "row_count": table.num_rows,
        "tiers": found.tiers,
        "approximate": found.approximate,
        "elapsed_ms": round((time.monotonic() - began) * 1000, 3),
    }


def _pieces(state: ServerState, request: SqlRequest, format: str) -> Iterator[bytes]:
    stream = state.slot.get().sql_stream(request.sql, request.params, limits=state.limits.of_query(streamed=True))
    return _encoded(stream, format)


def _encoded(stream: Stream, format: str) -> Iterator[bytes]:
    """The rows as the query yields them; the query ends with whoever reads this."""
    try:
        yield from chunks(format, stream.schema, stream)
    finally:
        stream.close()


def _accepted(accept: str) -> str:
    """The first format that Accept names; anything else gets JSON."""
    for part in accept.lower().split(","):
        kind = part.partition(";")[0].strip()
        if kind == "text/csv":
            return "csv"
        if kind in ("application/vnd.apache.arrow.stream", "application/x-arrow-stream"):
            return "arrow"
        if kind == "application/json":
            return "json"
    return "json"
