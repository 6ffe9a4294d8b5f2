"""Writes that come while others are being stored are stored together: one hand-over between threads, one commit."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from kymograph.server.pool import Pool

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Gather(Generic[Item, Answer]):
    """Hands items, as many as are waiting, to a thread of a pool. `run` belongs to the event loop.

    Args:
        work: in the thread; an answer or an exception for each item, in order.
        weight: of one item; what is worked on together weighs `most` at most, or is one item.
        workers: threads that work at one time.
    """

    def __init__(
        self,
        pool: Pool,
        work: Callable[[Sequence[Item]], Sequence[Answer | Exception]],
        weight: Callable[[Item], int],
        most: int,
        workers: int = 1,
    ) -> None:
        self._pool = pool
        self._work = work
        self._weight = weight
        self._most = most
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._workers = workers
        self._at_work = 0

    async def run(self, item: Item) -> Answer:
        """The item's answer. Raises what became of it, or Busy."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        with self._lock:
            self._waiting.append((item, future))
            idle = self._at_work < self._workers
            self._at_work += idle
        if idle:
            # not awaited for its own sake: this item is answered before the last one is
            task = asyncio.ensure_future(self._pool.run(self._drain, loop))
            task.add_done_callback(self._ended)
        return await future

    def _drain(self, loop: asyncio.AbstractEventLoop) -> None:
        while group := self._next():
            try:
                answers = self._work([item for item, _ in group])
            except Exception as problem:
                answers = [problem] * len(group)
            futures = [future for _, future in group]
            with suppress(RuntimeError):  # the loop has closed: nobody waits any more
                loop.call_soon_threadsafe(_resolve, futures, answers)

    def _next(self) -> list[tuple[Item, asyncio.Future[Answer]]]:
        """What is worked on together next; nothing ends the work."""
        with self._lock:
            group: list[tuple[Item, asyncio.Future[Answer]]] = []
            weight = 0
            while self._waiting:
                weight += self._weight(self._waiting[0][0])
                if group and weight > self._most:
                    break
                group.append(self._waiting.popleft())
            self._at_work -= not group
            return group

    def _ended(self, task: asyncio.Future[None]) -> None:
        problem = None if task.cancelled() else task.exception()
        if problem is None:
            return
        # the pool did not take the work: nobody else would answer those who wait
        with self._lock:
            self._at_work -= 1
            if self._at_work:
                return
            left, self._waiting = list(self._waiting), deque()
        _resolve([future for _, future in left], [problem] * len(left))


def _resolve(futures: Sequence[asyncio.Future[Answer]], answers: Sequence[Answer | BaseException]) -> None:
    for future, answer in zip(futures, answers, strict=True):
        if future.done():  # the client has left
            continue
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)
