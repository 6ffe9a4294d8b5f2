"""The shape of errors on the paths of streams: `{"status": "404 Not Found", "message": "…"}`, as their clients read it."""

from __future__ import annotations

import json
from http import HTTPStatus


def speaks(path: str) -> bool:
    """Whether errors of this path have the streams' shape."""
    return path.startswith("/stream/") or path in ("/version", "/dbinfo")


def failure(status: int, message: str, hint: str = "") -> bytes:
    """The body of an error."""
    phrase = f"{status} {HTTPStatus(status).phrase}"
    return json.dumps({"status": phrase, "message": f"{message} ({hint})" if hint else message}).encode()
