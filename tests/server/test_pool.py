"""Calls from the event loop into threads: answers, failures, room, and callers that leave."""

from __future__ import annotations

import asyncio
import threading

import pytest

from kymograph.server.pool import Busy, Pool


def test_answers_failures_and_room() -> None:
    pool = Pool("test", 1, 1)

    async def ask() -> None:
        assert await pool.run(pow, 2, 5) == 32
        with pytest.raises(ZeroDivisionError):
            await pool.run(divmod, 1, 0)
        assert pool.held == 0
        go = threading.Event()
        asked = [asyncio.ensure_future(pool.run(go.wait, 20)) for _ in range(2)]
        await asyncio.sleep(0)
        assert pool.held == 2
        with pytest.raises(Busy):
            await pool.run(pow, 2, 2)
        go.set()
        assert await asyncio.gather(*asked) == [True, True]
        assert pool.held == 0

    asyncio.run(ask())
    pool.close()


def test_whoever_leaves_before_its_turn_takes_no_room() -> None:
    pool = Pool("test", 1, 5)

    async def ask() -> list[int]:
        go, ran = threading.Event(), list[int]()
        first = asyncio.ensure_future(pool.run(go.wait, 20))
        left = asyncio.ensure_future(pool.run(ran.append, 1))
        last = asyncio.ensure_future(pool.run(ran.append, 2))
        await asyncio.sleep(0)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        await asyncio.sleep(0)
        assert pool.held == 2
        go.set()
        await asyncio.gather(first, last)
        return ran

    assert asyncio.run(ask()) == [2]
    pool.close()


def test_a_call_under_way_runs_to_its_end() -> None:
    pool = Pool("test", 1, 5)

    async def ask() -> None:
        began, go, ended = threading.Event(), threading.Event(), threading.Event()

        def work() -> None:
            began.set()
            go.wait(20)
            ended.set()

        one = asyncio.ensure_future(pool.run(work))
        assert await asyncio.to_thread(began.wait, 20)
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one
        assert pool.held == 1
        go.set()
        assert await asyncio.to_thread(ended.wait, 20)
        await pool.run(pow, 2, 2)
        assert pool.held == 0

    asyncio.run(ask())
    pool.close()
