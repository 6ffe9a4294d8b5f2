"""Group commit: whoever gets the lock first commits what waits behind him too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from kymograph.errors import KymographError


@dataclass
class Waiting:
    """What one writer wants committed, and what came of it."""

    done: bool = field(default=False, init=False)
    error: BaseException | None = field(default=None, init=False)


W = TypeVar("W", bound=Waiting)


class GroupCommit(Generic[W]):
    """Writers that come together share one commit.

    Args:
        lock: held while a group is committed.
        write: commits all of a group or, when it raises, none; but for those to which it gives an error of their own.
    """

    def __init__(self, lock: AbstractContextManager[Any], write: Callable[[list[W]], None]) -> None:
        self._lock, self._write = lock, write
        self._queue: list[W] = []
        self._queueing = threading.Lock()

    def commit(self, mine: W) -> None:
        """Return once it is durable; raises what it failed with."""
        with self._queueing:
            self._queue.append(mine)
        with self._lock:
            if not mine.done:
                with self._queueing:
                    group, self._queue = self._queue, []
                self._lead(group)
        if mine.error is not None:
            raise mine.error

    def _lead(self, group: list[W]) -> None:
        try:
            self._write(group)
        except BaseException as problem:
            for one in group:
                one.error = one.error or problem
            if not isinstance(problem, KymographError):
                raise
        finally:
            for one in group:
                one.done = True
