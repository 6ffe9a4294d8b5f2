"""How the routes of Prometheus' API answer: its envelope, compressed where the client takes that, cancelled where it left."""

from __future__ import annotations

import asyncio
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import cramjam
from fastapi import Request, Response

from kymograph.errors import KymographError, LimitExceeded, QueryError
from kymograph.promql.lexer import ParseError
from kymograph.promql.limits import QueryCancelled, QueryTimeout
from kymograph.server.envelope import Piece, body_of, failure, text_of
from kymograph.server.faults import of_error
from kymograph.server.pool import Busy
from kymograph.server.routes.answers import streamed
from kymograph.server.state import ServerState
from kymograph.store.store import Store

T = TypeVar("T")
Gone = Callable[[], bool]
_JSON = "application/json"
# shorter answers fit into one packet as they are
_WORTH = 1024


def store_of(state: ServerState, request: Request) -> Store:
    """The store that a request asks. Raises StorageError while it is not open."""
    return state.slot.get()


async def asked(state: ServerState, request: Request, work: Callable[[Gone], T]) -> T:
    """Run a question in the pool of queries; the function it is given says whether the client has left."""
    left = threading.Event()
    watcher = asyncio.create_task(_watch(request, left))
    try:
        return await state.heavy.run(work, left.is_set)
    finally:
        watcher.cancel()


async def _watch(request: Request, left: threading.Event) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    left.set()


def packed(request: Request, pieces: Iterable[Piece]) -> Response:
    """An answer of moderate size, whole. Takes time when it is compressed."""
    body = b"".join(pieces)
    headers = {"Vary": "Accept-Encoding"}
    if len(body) >= _WORTH and _takes_gzip(request.headers.get("accept-encoding", "")):
        body = bytes(cramjam.gzip.compress(body, 1))
        headers["Content-Encoding"] = "gzip"
    return Response(body, headers=headers, media_type=_JSON)


async def flowing(state: ServerState, request: Request, pieces: Iterator[Piece]) -> Response:
    """A large answer, sent while the rest of it is still being made."""
    packs = _takes_gzip(request.headers.get("accept-encoding", ""))
    answer = await streamed(state.heavy, "json", _squeezed(pieces) if packs else pieces)
    answer.headers["Vary"] = "Accept-Encoding"
    if packs:
        answer.headers["Content-Encoding"] = "gzip"
    return answer


def _squeezed(pieces: Iterator[Piece]) -> Iterator[Piece]:
    packer = zlib.compressobj(1, wbits=31)
    for piece in pieces:
        yield packer.compress(piece)
    yield packer.flush()


def given(request: Request, value: Any, *notes: list[str]) -> Response:
    """An answer with data that JSON can say; notes are warnings, then infos."""
    return packed(request, body_of([text_of(value)], *notes))


def failed(error: KymographError, path: str) -> Response:
    """What a failure is in Prometheus' terms."""
    status, kind = _fault_of(error)
    if status is None:
        return of_error(error, path)
    hint = "" if isinstance(error, QueryError) else error.hint
    return Response(failure(status, error.message, hint, kind), status, media_type=_JSON)


def _fault_of(error: KymographError) -> tuple[int | None, str]:
    if isinstance(error, QueryTimeout):
        return 503, "timeout"
    if isinstance(error, QueryCancelled):
        return 499, "canceled"
    if isinstance(error, Busy):
        return None, ""
    if isinstance(error, ParseError):
        return 400, "bad_data"
    if isinstance(error, (QueryError, LimitExceeded)):
        return 422, "execution"
    return None, ""


def _takes_gzip(accepted: str) -> bool:
    for part in accepted.lower().split(","):
        coding, _, parameters = part.partition(";")
        if coding.strip() in ("gzip", "*"):
            quality = parameters.replace(" ", "").removeprefix("q=")
            return quality.strip("0.") != "" or not parameters
    return False
