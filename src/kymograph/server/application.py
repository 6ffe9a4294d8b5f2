"""The application: guard, routes and pages over one state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI

from kymograph._version import __version__
from kymograph.server import faults, namespaces
from kymograph.server.direct import Direct, Directions, plain, writing
from kymograph.server.guard import Guard
from kymograph.server.namespaces import NamespaceDoor, NamespaceHall
from kymograph.server.prefix import PathPrefix
from kymograph.server.routes import (
    access,
    dashboards,
    imports,
    influx,
    lifecycle,
    metrics,
    otlp,
    pages,
    prometheus,
    query,
    remote,
    retention,
    rings,
    rollups,
    store,
    stream,
    telemetry,
)
from kymograph.server.state import ServerState

# what is there over the whole store and over each namespace alike; what dashboards ask all the time is looked up first
_STORE = (
    *prometheus.FACES,
    telemetry,
    query,
    store,
    imports,
    influx,
    otlp,
    metrics,
    remote,
    rings,
    dashboards,
    rollups,
    retention,
    stream,
)
_ABOUT = """Telemetry of this machine: live, recorded, and in SQL.

Errors are `{"error": {"code", "message", "hint"}}`. Times are ISO 8601 in UTC; NaN and infinities are null in JSON.
"""


def create_app(state: ServerState) -> FastAPI:
    """The ASGI application over a state that is already made; starting and stopping what it holds is the caller's."""
    app = _application(state, (*_STORE, access, lifecycle, namespaces, pages))
    app.add_middleware(NamespaceHall, state=state, make=lambda inner: _application(inner, _STORE))
    app.add_middleware(
        Guard, gate=state.gate, meter=state.meter, pool=state.light, limits=state.limits, hosts=state.hosts
    )
    app.add_middleware(NamespaceDoor)
    if state.prefix:
        app.add_middleware(PathPrefix, prefix=state.prefix)
    return app


def _application(state: ServerState, faces: Iterable[Any]) -> FastAPI:
    app = FastAPI(
        title="Kymograph",
        version=__version__,
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    routers = [face.router(state) for face in faces]
    faults.install(app, routers)
    directions: Directions = {}
    for routes in routers:
        app.include_router(routes)
        directions |= plain(routes)
    lines = writing(influx.writer(state))
    directions |= {("POST", path): lines for path in influx.WRITES}
    directions["POST", remote.WRITE] = writing(remote.writer(state))
    app.add_middleware(Direct, directions=directions)
    return app
