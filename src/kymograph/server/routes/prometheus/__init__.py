"""Prometheus' HTTP API over a store: queries, series, metadata, status, rules and administration."""

from __future__ import annotations

from fastapi import APIRouter

from kymograph.server.routes.prometheus import admin, exemplars, metadata, queries, rules, series, status, syntax
from kymograph.server.state import ServerState


def router(state: ServerState) -> APIRouter:
    routes = APIRouter()
    for face in (queries, exemplars, series, metadata, rules, status, syntax, admin):
        routes.include_router(face.router(state))
    return routes
