"""The bridge from the event loop to the synchronous core: bounded threads, a bounded queue."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, ParamSpec, TypeVar

from kymograph.errors import LimitExceeded

P = ParamSpec("P")
T = TypeVar("T")


class Busy(LimitExceeded):
    """More work is waiting than the pool may hold; try again soon."""

    code, status = "busy", 503


class Pool:
    """Runs blocking calls in at most `threads` threads; at most `waiting` more wait for one.

    Every method but `close` must be called from one event loop. A call whose caller has gone still runs to its end.
    The threads are daemons, so that a query under way does not hold up the end of the process for its whole timeout.
    """

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self._name = name
        self._most = threads
        self._room = threads + waiting
        self._held = 0
        self._tasks: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

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
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def ended(future: Future[T]) -> None:
            with suppress(RuntimeError):  # the loop has closed: nobody waits any more
                loop.call_soon_threadsafe(self._ended, future, answer)

        self._held += 1
        future = self._put(partial(call, *args, **kwargs))
        # one call into the loop for all there is to do there: each one wakes it, and takes the interpreter from the thread
        future.add_done_callback(ended)
        try:
            return await answer
        except asyncio.CancelledError:
            future.cancel()
            raise

    def _ended(self, future: Future[T], answer: asyncio.Future[T]) -> None:
        self._held -= 1
        if answer.done():  # whoever asked has left
            return
        problem = future.exception()
        if problem is None:
            answer.set_result(future.result())
        else:
            answer.set_exception(problem)

    def _put(self, call: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        self._tasks.put((future, call))
        if len(self._threads) < min(self._most, self._held):
            thread = threading.Thread(target=self._work, name=f"kymograph-{self._name}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            future, call = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as problem:
                future.set_exception(problem)
            del future, call, task  # a result may be large, and the next task far away

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
                self._put(partial(_quietly, close))

    def close(self, patience: float = 2.0) -> None:
        """Take no more; wait so many seconds for what runs."""
        for _ in self._threads:
            self._tasks.put(None)
        deadline = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def _quietly(close: Callable[[], None]) -> None:
    # a generator may still be at work for a reader that has gone
    with suppress(ValueError, RuntimeError):
        close()
