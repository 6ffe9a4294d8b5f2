"""Items that wait are worked on together; each gets its own answer, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence

import pytest

from kymograph.server.gather import Gather
from kymograph.server.pool import Busy, Pool


@pytest.fixture
def pool() -> Iterator[Pool]:
    found = Pool("test", 2, 4)
    yield found
    found.close()


def test_what_comes_meanwhile_is_taken_together(pool: Pool) -> None:
    groups: list[list[int]] = []
    began, go = threading.Event(), threading.Event()

    def work(items: Sequence[int]) -> list[int | Exception]:
        groups.append(list(items))
        began.set()
        assert go.wait(60)
        return [ValueError(str(item)) if item % 5 == 4 else item * 10 for item in items]

    async def main() -> list[int | BaseException]:
        gather: Gather[int, int] = Gather(pool, work, lambda item: 1, 8)
        first = asyncio.ensure_future(gather.run(0))
        await asyncio.to_thread(began.wait, 60)
        rest = [asyncio.ensure_future(gather.run(item)) for item in range(1, 20)]
        await asyncio.sleep(0)
        go.set()
        found = await asyncio.gather(first, *rest, return_exceptions=True)
        assert await gather.run(20) == 200  # it begins anew
        return found

    found = asyncio.run(main())
    assert [len(group) for group in groups] == [1, 8, 8, 3, 1]
    for item, answer in enumerate(found):
        if item % 5 == 4:
            assert isinstance(answer, ValueError)
        else:
            assert answer == item * 10


def test_what_is_too_heavy_goes_alone(pool: Pool) -> None:
    groups: list[list[int]] = []

    def work(items: Sequence[int]) -> list[int]:
        groups.append(list(items))
        return list(items)

    async def main() -> None:
        gather: Gather[int, int] = Gather(pool, work, lambda item: item, 10)
        assert await asyncio.gather(*(gather.run(item) for item in (50, 60, 4, 5, 6))) == [50, 60, 4, 5, 6]

    asyncio.run(main())
    assert [50] in groups
    assert [60] in groups
    assert all(len(group) == 1 or sum(group) <= 10 for group in groups)


def test_a_failure_of_the_work_reaches_everybody(pool: Pool) -> None:
    def work(_: Sequence[int]) -> list[int]:
        raise ZeroDivisionError

    async def main() -> None:
        gather: Gather[int, int] = Gather(pool, work, lambda item: 1, 10)
        for _ in range(2):
            found = await asyncio.gather(*(gather.run(item) for item in range(5)), return_exceptions=True)
            assert [type(each) for each in found] == [ZeroDivisionError] * 5

    asyncio.run(main())


def test_a_pool_without_room_refuses(pool: Pool) -> None:
    go = threading.Event()

    async def main() -> None:
        held = [asyncio.ensure_future(pool.run(go.wait, 60)) for _ in range(6)]
        await asyncio.sleep(0)
        gather: Gather[int, int] = Gather(pool, list, lambda item: 1, 10)
        found = await asyncio.gather(gather.run(1), gather.run(2), return_exceptions=True)
        assert [type(each) for each in found] == [Busy, Busy]
        go.set()
        await asyncio.gather(*held)
        await asyncio.sleep(0)
        assert await gather.run(3) == 3

    asyncio.run(main())


def test_whoever_left_disturbs_nobody(pool: Pool) -> None:
    go = threading.Event()

    def work(items: Sequence[int]) -> list[int]:
        assert go.wait(60)
        return list(items)

    async def main() -> None:
        gather: Gather[int, int] = Gather(pool, work, lambda item: 1, 10)
        tasks = [asyncio.ensure_future(gather.run(item)) for item in range(4)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[2].cancel()
        go.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [each for each in found if not isinstance(each, asyncio.CancelledError)] == [1, 3]

    asyncio.run(main())
