"""How routes answer: JSON without NaN, and streams of bytes made in threads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from fastapi import Response
from starlette.responses import StreamingResponse

from kymograph.server.encoding import MEDIA, json_text
from kymograph.server.pool import Pool

# a chunk smaller than this is sent together with the next ones
_PIECE = 64 * 2**10
# so much is sent at one time: a slow client that takes so much before the guard's patience ends is not cut off
_SENT = 256 * 2**10


def json_answer(value: Any, status: int = 200) -> Response:
    return Response(json_text(value), status, media_type="application/json")


async def streamed(
    pool: Pool, format: str, pieces: Iterator[bytes | memoryview], filename: str | None = None
) -> Response:
    """An answer made piece by piece, in a format of `MEDIA` or of the media type given.

    The first piece is made before the answer begins, so that what fails at once still gets a status of its own.
    """
    chunks = pool.iterate(_joined(pieces))
    first = await anext(chunks, b"")

    async def body() -> AsyncIterator[bytes | memoryview]:
        try:
            chunk: bytes | memoryview | None = first
            while chunk is not None:
                for low in range(0, len(chunk), _SENT):
                    yield memoryview(chunk)[low : low + _SENT]
                chunk = await anext(chunks, None)
        finally:
            await chunks.aclose()  # type: ignore[attr-defined]

    headers = {"Content-Disposition": f'attachment; filename="{filename}"'} if filename else None
    return StreamingResponse(body(), headers=headers, media_type=MEDIA.get(format, format))


def _joined(pieces: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    held = bytearray()
    try:
        for piece in pieces:
            # large ones go as they are, after what was held back
            large = len(piece) >= _PIECE
            if not large:
                held += piece
            if len(held) >= (1 if large else _PIECE):
                yield bytes(held)
                held.clear()
            if large:
                yield piece
        if held:
            yield bytes(held)
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()
