"""A WebSocket that only sends: until either side ends, or the token behind it is not valid any more."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any

from fastapi import WebSocket

from kymograph.errors import KymographError
from kymograph.server.state import ServerState


async def watched(state: ServerState, socket: WebSocket, sending: Coroutine[Any, Any, None]) -> None:
    """Send until either side ends; whatever the client says is read and ignored, within bounds.

    Args:
        socket: accepted.
        sending: sends, and returns when it cannot any more.
    """
    tasks = [
        asyncio.create_task(_listen(socket, state.limits.messages_per_minute)),
        asyncio.create_task(sending),
    ]
    if state.gate.required:
        tasks.append(asyncio.create_task(_recheck(state, socket)))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _recheck(state: ServerState, socket: WebSocket) -> None:
    """End the stream once its token is revoked or its session over; a store that is away revokes nothing."""
    headers = dict(socket.scope["headers"])
    while True:
        await asyncio.sleep(state.limits.recheck_seconds)
        try:
            good = await state.gate.has_session(socket.scope, headers, state.light)
        except KymographError:
            continue
        if not good:
            await socket.close(1008, "the token is not valid any more")
            return


async def _listen(socket: WebSocket, most: int) -> None:
    times: deque[float] = deque(maxlen=most)
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        now = time.monotonic()
        if len(times) == most and times[0] > now - 60:
            await socket.close(1008, "too many messages")
            return
        times.append(now)
