"""Answers made piece by piece: in which portions they leave, and that what fails or stops early leaves nothing open."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from kymograph.server.pool import Pool
from kymograph.server.routes.answers import streamed

SIZES = [0, 1, 10, 70_000, 3, 3_000_000, 65_536, 65_535, 1, 262_145]
PIECES = [bytes([place]) * size for place, size in enumerate(SIZES)]


async def _portions(pieces: Iterator[bytes | memoryview], most: int = 2**62) -> list[bytes]:
    pool = Pool("test", 2, 10)
    found: list[bytes] = []
    try:
        answer = await streamed(pool, "json", pieces)
        body = answer.body_iterator  # type: ignore[attr-defined]
        async for part in body:
            found.append(bytes(part))
            if len(found) == most:
                break
        await body.aclose()
    finally:
        pool.close()
    return found


def test_portions() -> None:
    """Small pieces leave together and large ones in parts, so that a slow client is seen to take something."""
    pieces = (memoryview(piece) if place % 2 else piece for place, piece in enumerate(PIECES))
    found = asyncio.run(_portions(pieces))
    assert b"".join(found) == b"".join(PIECES)
    assert max(map(len, found)) <= 2**18
    assert len(found) < 24
    assert asyncio.run(_portions(iter([]))) == []


def test_failing_at_once_and_later() -> None:
    def failing(after: int) -> Iterator[bytes]:
        yield from PIECES[:after]
        raise ValueError(f"after {after}")

    for after in (0, 2, 7):
        with pytest.raises(ValueError, match=f"after {after}"):
            asyncio.run(_portions(failing(after)))


def test_leaving_early_closes_what_makes_the_pieces() -> None:
    closed = []

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 100_000
        finally:
            closed.append(True)

    assert len(asyncio.run(_portions(endless(), most=3))) == 3
    assert closed == [True]
