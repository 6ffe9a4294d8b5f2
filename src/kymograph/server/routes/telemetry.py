"""/api/telemetry: GPUs live and recorded, under the names this API has always used."""

from __future__ import annotations

import asyncio
import math
import re
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response, WebSocket, WebSocketDisconnect
from fastapi import Path as PathParam
from starlette.datastructures import QueryParams

from kymograph.errors import InvalidInput, NotFound
from kymograph.model.time import HOUR, SECOND, to_micros
from kymograph.options import parse_duration
from kymograph.server import telemetry
from kymograph.server.encoding import chunks
from kymograph.server.faults import fault
from kymograph.server.live import Slot
from kymograph.server.routes.answers import json_answer, streamed
from kymograph.server.state import ServerState
from kymograph.server.watching import watched

_MOST_GPU = 2**31 - 1
GpuIndex = Annotated[int | None, Query(ge=0, le=_MOST_GPU, description="only this GPU")]
Hours = Annotated[int, Query(ge=1, le=2160, description="how far back")]
Limit = Annotated[int, Query(ge=1, le=10_000, description="most rows to return")]
Step = Annotated[str | None, Query(max_length=40, description="bucket width to downsample to: 5m, 1h, or seconds")]
Moment = Annotated[str | None, Query(max_length=64, description="ISO 8601, or int µs since 1970")]


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(prefix="/api/telemetry", tags=["telemetry"])
    limits = state.limits.of_query(streamed=False)

    @routes.get("/history", summary="Recorded rows, newest first")
    async def history(
        gpu_index: GpuIndex = None, hours: Hours = 24, limit: Limit = 1000, step: Step = None
    ) -> Response:
        width = None if step is None else _width(step)

        def ask() -> list[dict[str, Any]]:
            start = _hours_ago(hours)
            return telemetry.history(
                state.slot.get(), limits, gpu_index=gpu_index, start=start, limit=limit, step=width
            )

        return json_answer(await state.heavy.run(ask))

    @routes.get("/stats/{gpu_index}", summary="Least, greatest and mean values of one GPU")
    async def stats(gpu_index: Annotated[int, PathParam(ge=0, le=_MOST_GPU)], hours: Hours = 24) -> Response:
        def ask() -> dict[str, Any]:
            start = _hours_ago(hours)
            return telemetry.statistics(state.slot.get(), limits, gpu_index=gpu_index, hours=hours, start=start)

        return json_answer(await state.heavy.run(ask))

    @routes.get("/database/stats", summary="How much is recorded")
    async def database() -> Response:
        return json_answer(await state.heavy.run(lambda: telemetry.database(state.slot.get(), limits)))

    @routes.get("/export", summary="Rows of a table as a file, streamed")
    async def export(
        *,
        format: Annotated[Literal["csv", "json", "parquet", "arrow"], Query()] = "csv",
        table: Annotated[str, Query(min_length=1, max_length=127)] = telemetry.TABLE,
        start: Moment = None,
        end: Moment = None,
        gpu_index: GpuIndex = None,
        hours: Annotated[int | None, Query(ge=1, le=2160, description="instead of start")] = None,
    ) -> Response:
        since, until = _moment("start", start), _moment("end", end)
        if hours is not None:
            if since is not None:
                raise InvalidInput("give start or hours, not both")
            since = _hours_ago(hours)
        if since is not None and until is not None and since > until:
            raise InvalidInput("start is after end")
        reader = await state.heavy.run(_open, state, table, since, until, gpu_index)
        batches = reader if gpu_index is None else telemetry.gpu_batches(reader, gpu_index)
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", table)
        return await streamed(state.heavy, format, chunks(format, reader.schema, batches), f"{name}.{format}")

    @routes.websocket("/stream")
    async def stream(socket: WebSocket) -> None:
        try:
            interval, gpu_index = _watch_params(socket.query_params)
        except InvalidInput as error:
            await socket.send_denial_response(fault(400, error.code, error.message, error.hint))
            return
        await socket.accept()
        slot = state.hub.join(interval, gpu_index)
        try:
            await watched(state, socket, _send(socket, slot, state.limits.stall_seconds))
        finally:
            state.hub.leave(slot)

    return routes


def _open(state: ServerState, table: str, since: int | None, until: int | None, gpu_index: int | None) -> Any:
    store = state.slot.get()
    if table not in store.tables():
        hint = "nothing was recorded yet" if table == telemetry.TABLE else "GET /api/tables lists them"
        raise NotFound(f"there is no table {table}", hint=hint)
    if gpu_index is not None:
        telemetry.require_gpu_column(store, table)
    return store.reader(table, start=since, end=until)


def _hours_ago(hours: int) -> int:
    return time.time_ns() // 1000 - hours * HOUR


def _width(step: str) -> int:
    micros = int(step) * SECOND if step.isascii() and step.isdigit() and len(step) < 10 else parse_duration(step)
    if not SECOND <= micros <= 2160 * HOUR:
        raise InvalidInput(f"a step of {step[:40]} is out of range", hint="1s to 2160h")
    return micros


def _moment(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    if re.fullmatch(r"-?[0-9]{1,19}", text, re.ASCII):
        return to_micros(int(text))
    # a + of a zone that was not percent-encoded arrives as a space
    text = re.sub(r" (\d\d:\d\d)$", r"+\1", text)
    try:
        return to_micros(text)
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error.message}", hint=error.hint) from None


def _watch_params(params: QueryParams) -> tuple[float, int | None]:
    try:
        interval = float(params.get("interval", "1.0"))
    except ValueError:
        interval = math.nan
    if not 0.1 <= interval <= 60:
        raise InvalidInput("interval must be a number of seconds from 0.1 to 60")
    given = params.get("gpu_index", "")
    if not given:
        return interval, None
    if not re.fullmatch(r"[0-9]{1,9}", given, re.ASCII):
        raise InvalidInput("gpu_index must be a whole number from 0")
    return interval, int(given)


async def _send(socket: WebSocket, slot: Slot, patience: float) -> None:
    while True:
        frame = await slot.take()
        try:
            async with asyncio.timeout(patience):
                await socket.send_text(frame)
        except (TimeoutError, WebSocketDisconnect, OSError):
            return
