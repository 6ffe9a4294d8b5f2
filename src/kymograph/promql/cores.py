"""Work on parts of a query by as many threads as there are cores: NumPy lets go of the interpreter's lock."""

from __future__ import annotations

import contextvars
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import chain, islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
_CORES = min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
_ALONE = 4  # parts that are not worth waking a thread for


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_CORES, thread_name_prefix="kymograph-promql")


def each(function: Callable[[T], R], parts: Iterable[T]) -> Iterator[R]:
    """What a function gives for each part, in order. A few parts are worked on at once and held at most.

    The function runs in the context of the caller (NumPy keeps its error state there) and calls nothing of this module.
    """
    rest = iter(parts)
    first = list(islice(rest, _ALONE))
    if len(first) < _ALONE:
        yield from map(function, first)
        return
    waiting: deque[Future[R]] = deque()
    try:
        for part in chain(first, rest):
            waiting.append(_pool().submit(contextvars.copy_context().run, function, part))
            if len(waiting) > 2 * _CORES:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
