"""/stream/live: new rows of a stream as they are committed, packed, over a WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from kymograph.errors import InvalidInput, KymographError, NotFound
from kymograph.model.stream import TIMESTAMP
from kymograph.server.faults import of_error
from kymograph.server.routes.stream.words import existing
from kymograph.server.staging import Array
from kymograph.server.state import ServerState
from kymograph.server.watching import watched
from kymograph.store.streams.stream import Stream
from kymograph.wire.streams.binary import encode_binary

# between two looks for new rows, seconds
_PAUSE = 0.05
# rows of one frame, and frames of one look; a client that falls behind reads on from the store
_ROWS = 1 << 14
_FRAMES = 16


def router(state: ServerState) -> APIRouter:
    routes = APIRouter()

    @routes.websocket("/stream/live")
    async def live(socket: WebSocket) -> None:
        path = socket.query_params.get("path", "")
        try:
            stream = await state.light.run(lambda: existing(state.slot.get(), path))
            if stream.level:
                raise InvalidInput(f"{path} is a level of a pyramid", hint="follow the stream itself")
            # before the client is let in: what is committed once it is, is sent
            cursor = await state.light.run(_end, stream)
        except KymographError as error:
            await socket.send_denial_response(of_error(error, "/stream/live"))
            return
        await socket.accept()
        await watched(state, socket, _follow(state, stream, cursor, socket))

    return routes


async def _follow(state: ServerState, stream: Stream, cursor: int | None, socket: WebSocket) -> None:
    """Send what is at or after `cursor`, µs, and what comes."""
    streams = state.slot.get().engine.streams
    seen = streams.version(stream.path)
    while True:
        try:
            frames = await state.light.run(_newer, stream, cursor)
        except NotFound:
            await socket.close(1001, "the stream is gone")
            return
        for frame in frames:
            try:
                async with asyncio.timeout(state.limits.stall_seconds):
                    await socket.send_bytes(encode_binary(frame))
            except (TimeoutError, WebSocketDisconnect, OSError):
                return
            cursor = int(frame[TIMESTAMP][-1]) + 1
        if frames:
            continue
        while (now := streams.version(stream.path)) == seen:
            await asyncio.sleep(_PAUSE)
        seen = now


def _end(stream: Stream) -> int | None:
    extent = stream.intervals().extent
    return extent[1] if extent else None


def _newer(stream: Stream, cursor: int | None) -> list[Array]:
    chunks: Iterator[Array] = stream.chunks(cursor, None, rows=_ROWS)
    return list(islice(chunks, _FRAMES))
