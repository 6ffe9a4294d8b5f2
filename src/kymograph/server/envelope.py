"""Prometheus' answer shape: which paths speak it, and what becomes of a failure there.

`{"status": "success", "data", "warnings"?, "infos"?}` or `{"status": "error", "errorType", "error"}`. Clients of that API
read nothing else, so that refusals of the guard on its paths, and of paths that it does not have, are in this shape too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

Piece = bytes | memoryview

# all below /api/v1 but what takes and gives samples in the protocols of others
_PATHS = re.compile(r"/api/v1/(?!(?:write|read|import|export|influx|otlp)(?:/|$)).*", re.DOTALL)
_KINDS = {
    400: "bad_data",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    408: "timeout",
    422: "execution",
    429: "unavailable",
    499: "canceled",
    503: "unavailable",
    507: "unavailable",
}


def speaks(path: str) -> bool:
    """Whether answers of this path have Prometheus' shape."""
    return _PATHS.fullmatch(path) is not None


def failure(status: int, message: str, hint: str = "", kind: str = "") -> bytes:
    """The body of an error; its type follows from the status unless it is given."""
    fallback = "internal" if status >= 500 else "bad_data"
    text = f"{message} ({hint})" if hint else message
    return text_of({"status": "error", "errorType": kind or _KINDS.get(status, fallback), "error": text})


def body_of(
    data: Iterable[Piece], warnings: list[str] | None = None, infos: list[str] | None = None
) -> Iterator[Piece]:
    """The body of an answer around data that is JSON already, piece by piece."""
    yield b'{"status":"success","data":'
    yield from data
    for name, notes in (("warnings", warnings), ("infos", infos)):
        if notes:
            yield b',"%s":%s' % (name.encode(), text_of(notes))
    yield b"}"


def text_of(value: Any) -> bytes:
    """Compact JSON; what is no UTF-8 in a text becomes U+FFFD, as Prometheus has it."""
    text = _ENCODER.encode(value)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _LONE.sub("\ufffd", text).encode()


_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_LONE = re.compile("[\ud800-\udfff]")
