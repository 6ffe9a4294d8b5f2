"""The two entrances of the server: the application over a state, and the whole of `kymo serve`."""

from __future__ import annotations

from kymograph.server.application import create_app
from kymograph.server.serving import serve

__all__ = ["create_app", "serve"]
