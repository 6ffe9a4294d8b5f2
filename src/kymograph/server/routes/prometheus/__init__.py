"""Prometheus' HTTP API over a store: queries, series, metadata, status, rules and administration."""

from __future__ import annotations

from fastapi import APIRouter

from kymograph.server.routes.prometheus import metadata, queries, series, status, syntax
from kymograph.server.state import ServerState


def router(state: ServerState) -> APIRouter:
    routes = APIRouter()
    for face in (queries, series, metadata, status, syntax):
        routes.include_router(face.router(state))
    return routes
