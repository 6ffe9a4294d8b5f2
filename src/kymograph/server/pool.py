"""The bridge from the event loop to the synchronous core: bounded threads, a bounded queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import ParamSpec, TypeVar

from kymograph.errors import LimitExceeded

P = ParamSpec("P")
T = TypeVar("T")


class Busy(LimitExceeded):
    """More work is waiting than the pool may hold; try again soon."""

    code, status = "busy", 503


class Pool:
    """Runs blocking calls in at most `threads` threads; at most `waiting` more wait for one.

    Every method must be called from one event loop. A call whose caller has gone still runs to its end.
    """

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"kymograph-{name}")
        self._room = threads + waiting
        self._held = 0

    @property
    def held(self) -> int:
        """Calls at work or waiting."""
        return self._held

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The call's result.

        Raises:
            Busy: the queue is full.
        """
        if self._held >= self._room:
            raise Busy(f"{self._held} requests are waiting already", hint="try again in a second")
        return await self._submit(call, *args, **kwargs)

    async def _submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        self._held += 1
        future = self._executor.submit(call, *args, **kwargs)
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: self._release(loop))
        return await asyncio.wrap_future(future)

    def _release(self, loop: asyncio.AbstractEventLoop) -> None:
        with suppress(RuntimeError):  # the loop has closed: nobody counts any more
            loop.call_soon_threadsafe(self._one_less)

    def _one_less(self) -> None:
        self._held -= 1

    async def iterate(self, items: Iterator[T]) -> AsyncIterator[T]:
        """The items, each made in a thread; no thread is held while the reader is slow.

        What has begun is not refused for want of room: it waits its turn. Leaving early closes a generator in a thread, so that what it has open is let go of.
        """
        try:
            while True:
                item = await self._submit(next, items, None)
                if item is None:
                    return
                yield item
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                self._executor.submit(_quietly, close)

    def close(self) -> None:
        """Take no more; wait for what runs."""
        self._executor.shutdown(wait=True, cancel_futures=True)


def _quietly(close: Callable[[], None]) -> None:
    # a generator may still be at work for a reader that has gone
    with suppress(ValueError, RuntimeError):
        close()
