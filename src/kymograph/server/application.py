"""The application: guard, routes and pages over one state."""

from __future__ import annotations

from fastapi import FastAPI

from kymograph._version import __version__
from kymograph.server import faults
from kymograph.server.guard import Guard
from kymograph.server.routes import access, metrics, pages, prometheus, query, store, telemetry
from kymograph.server.state import ServerState

_ABOUT = """Telemetry of this machine: live, recorded, and in SQL.

Errors are `{"error": {"code", "message", "hint"}}`. Times are ISO 8601 in UTC; NaN and infinities are null in JSON.
"""


def create_app(state: ServerState) -> FastAPI:
    """The ASGI application over a state that is already made; starting and stopping what it holds is the caller's."""
    app = FastAPI(
        title="Kymograph",
        version=__version__,
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_middleware(
        Guard, gate=state.gate, meter=state.meter, pool=state.light, limits=state.limits, hosts=state.hosts
    )
    faults.install(app)
    for face in (telemetry, query, store, access, metrics, prometheus, pages):
        app.include_router(face.router(state))
    return app
