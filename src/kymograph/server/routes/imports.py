"""/api/import and /api/v1/import: rows of files, pages of metrics and exported series, sent in; and /api/v1/export."""

from __future__ import annotations

import io
import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from kymograph.errors import InvalidInput
from kymograph.model.time import SECOND, to_micros
from kymograph.server.incoming import unpacked
from kymograph.server.routes.answers import json_answer, streamed
from kymograph.server.state import ServerState
from kymograph.store.exchange.imports import import_rows
from kymograph.store.exchange.series import export_series, import_series
from kymograph.store.ingest.exposition import extra_labels

_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,9})?", re.ASCII)

Stamp = Annotated[str | None, Query(max_length=64, description="ISO 8601, or seconds since 1970")]


class _Body(io.BytesIO):
    name = "the body"


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(tags=["import"])

    async def body_of(request: Request) -> tuple[bytes, str]:
        return await request.body(), request.headers.get("content-encoding", "")

    @routes.post("/api/import", summary="Rows of a CSV, JSON lines, Parquet or Arrow file into a table")
    async def rows(
        request: Request,
        *,
        table: Annotated[str, Query(min_length=1, max_length=127)],
        format: Annotated[Literal["csv", "json", "parquet", "arrow"], Query()] = "csv",
        labels: Annotated[str | None, Query(max_length=4000, description="label columns")] = None,
    ) -> Response:
        names = None if labels is None else [name for name in labels.split(",") if name]
        data = await body_of(request)

        def store() -> int:
            body = _Body(unpacked(*data, state.limits.write_bytes))
            return import_rows(state.slot.get(), table, body, form=format, labels=names, whole=True)

        return json_answer({"rows": await _counted(state, store)})

    @routes.post("/api/v1/import/prometheus", summary="A page of the exposition format", status_code=204)
    async def page(
        request: Request,
        timestamp: Annotated[int | None, Query(description="of samples without one, ms since 1970")] = None,
        extra_label: Annotated[
            list[str] | None, Query(max_length=100, description="name=value for every series")
        ] = None,
    ) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        added = extra_labels(extra_label or [])
        time = None if timestamp is None else to_micros(timestamp * 1000)
        data = await body_of(request)

        def store() -> int:
            text = unpacked(*data, state.limits.write_bytes)
            openmetrics = kind == "application/openmetrics-text"
            return state.slot.get().write_exposition(text, openmetrics=openmetrics, time=time, labels=added)

        await _counted(state, store)
        return Response(status_code=204)

    @routes.post("/api/v1/import", summary="Series as JSON lines", status_code=204)
    async def series(request: Request) -> Response:
        data = await body_of(request)
        await _counted(state, lambda: import_series(state.slot.get(), unpacked(*data, state.limits.write_bytes)))
        return Response(status_code=204)

    @routes.get("/api/v1/export", summary="Series as JSON lines, streamed")
    async def export(
        match: Annotated[list[str], Query(alias="match[]", min_length=1, max_length=100)],
        start: Stamp = None,
        end: Stamp = None,
    ) -> Response:
        since, until = _moment("start", start), _moment("end", end)
        # the end of this API is within the range
        until = None if until is None else until + 1
        pieces = await state.heavy.run(lambda: export_series(state.slot.get(), match, since, until))
        return await streamed(state.heavy, "application/x-ndjson", pieces)

    return routes


async def _counted(state: ServerState, work: Any) -> int:
    stored: int = await state.writes.run(work)
    state.slot.count(stored)
    return stored


def _moment(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    if _NUMBER.fullmatch(text):
        whole, _, part = text.partition(".")
        micros = int(part[:6].ljust(6, "0")) if part else 0
        return to_micros(int(whole) * SECOND + (-micros if text.startswith("-") else micros))
    try:
        return to_micros(re.sub(r" (\d\d:\d\d)$", r"+\1", text))
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error.message}", hint=error.hint) from None
