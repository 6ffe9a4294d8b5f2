"""A server in place of a folder: its URL, and the token that it asks for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from kymograph.errors import AccessError

TOKEN = "KYMO_TOKEN"  # noqa: S105 - the name of the variable


def is_server(target: str) -> bool:
    return target.startswith(("http://", "https://"))


@contextmanager
def admitted() -> Iterator[str | None]:
    """The token that the environment has, None where it has none; who is refused without one is told where it belongs."""
    token = os.environ.get(TOKEN) or None
    try:
        yield token
    except AccessError as problem:
        if token is None:
            problem.hint = f"put it into the environment variable {TOKEN}"
        raise
