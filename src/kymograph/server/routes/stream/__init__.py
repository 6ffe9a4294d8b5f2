"""/stream/…, /version and /dbinfo: streams under the paths that clients of waveform databases know."""

from __future__ import annotations

from fastapi import APIRouter

from kymograph.server.routes.stream import catalog, live, rows
from kymograph.server.state import ServerState


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(tags=["streams"])
    for part in (catalog, rows, live):
        routes.include_router(part.router(state))
    return routes
