"""Threads that encode and decode chunks: NumPy and the codec leave the interpreter's lock while they work."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

_T = TypeVar("_T")
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(CORES, "kymograph-stream")


def ahead(works: Iterable[Callable[[], _T]]) -> Iterator[_T]:
    """The results in order; a few are worked on before they are asked for."""
    waiting: deque[Future[_T]] = deque()
    try:
        for work in works:
            waiting.append(_pool().submit(work))
            if len(waiting) > 2 * CORES:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
