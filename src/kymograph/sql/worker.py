"""Threads that queries run in, so that a caller waits exactly as long as its deadline and no longer.

A query that outlives its deadline is left behind in its thread: an exception thrown into that thread makes DataFusion
drop the plan at its next pause (usually at once; within one operator's batch at worst). It is thrown only where the
thread waits for DataFusion, never into an engine's own code, which may hold locks. The planner recurses, hence the deep
stacks.
"""

from __future__ import annotations

import ctypes
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

T = TypeVar("T")
_STACK = 64 * 2**20
_IDLE_SECONDS = 20.0
# How many items a flow is ahead of who takes them, and how often it looks whether anybody still does.
_AHEAD, _POLL_SECONDS = 4, 0.2
_END = object()


class Abandoned(BaseException):
    """Thrown into a thread whose caller has gone; never seen outside this room."""


class _Task:
    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.done = threading.Event()
        self.result: Any = None
        self.problem: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self.work()
        except Abandoned:
            # nobody asks for it; with its traceback it would keep the plan and its scans alive
            self.problem = Abandoned()
        except BaseException as problem:
            self.problem = problem
        finally:
            self.done.set()


class _Worker(threading.Thread):
    """One thread. All but `tasks` is read and written under `_lock` only.

    Attributes:
        current: what it works on.
        abandoned: nobody waits for `current` any more; the thread ends with it.
        exposed: `Abandoned` may be thrown into it now.
    """

    def __init__(self) -> None:
        super().__init__(name="kymograph-sql", daemon=True)
        self.tasks: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self.current: _Task | None = None
        self.abandoned = False
        self.exposed = False

    def run(self) -> None:
        try:
            while self._step():
                pass
        except Abandoned:
            pass  # thrown a moment after its task had ended

    def _step(self) -> bool:
        try:
            task = self.tasks.get(timeout=_IDLE_SECONDS)
        except queue.Empty:
            with _lock:
                if self in _idle:
                    _idle.remove(self)
                    return False
                return True  # taken just now: its task is on the way
        task.run()
        with _lock:
            self.current, self.exposed = None, False
            if not self.abandoned:
                _idle.append(self)
            return not self.abandoned


_lock = threading.Lock()
_idle: list[_Worker] = []


def _give(task: _Task) -> _Worker:
    with _lock:
        worker = _idle.pop() if _idle else None
        if worker is None:
            before = threading.stack_size(_STACK)
            try:
                worker = _Worker()
                worker.start()
            finally:
                threading.stack_size(before)
        worker.current = task
    worker.tasks.put(task)
    return worker


def run(work: Callable[[], T], timeout: float | None, abandon: Callable[[], None]) -> T:
    """`work()`, in another thread.

    Args:
        timeout: seconds; None waits for ever.
        abandon: called once when the caller gives up (deadline or Ctrl-C), before its thread is told to stop.

    Raises:
        TimeoutError: the deadline passed. Whatever `work` raises is raised as it is.
    """
    task = _Task(work)
    worker = _give(task)
    try:
        finished = task.done.wait(timeout)
    except BaseException:
        _abandon(worker, task, abandon)
        raise
    if not finished:
        _abandon(worker, task, abandon)
        raise TimeoutError
    if task.problem is not None:
        raise task.problem
    result: T = task.result
    return result


def flow(
    work: Callable[[Callable[[Any], None]], None], timeout: float | None, abandon: Callable[[], None]
) -> Iterator[Any]:
    """What `work(put)` puts, item by item, from another thread that is a few items ahead.

    Args:
        timeout: seconds that may pass in all while the next item is waited for; None waits for ever.
        abandon: as in `run`; also called when the iterator is closed before its end.

    Raises:
        TimeoutError: the time is up. Whatever `work` raises is raised as it is, after the items before it.
    """
    items: queue.Queue[Any] = queue.Queue(_AHEAD)
    gone = threading.Event()

    def put(item: Any) -> None:
        while not gone.is_set():
            with suppress(queue.Full):
                return items.put(item, timeout=_POLL_SECONDS)
        raise Abandoned

    def run_to_end() -> None:
        try:
            work(put)
        finally:
            put(_END)

    task = _Task(run_to_end)
    worker = _give(task)
    try:
        while True:
            began = time.monotonic()
            try:
                item = items.get(timeout=timeout)
            except queue.Empty:
                raise TimeoutError from None
            if item is _END:
                break
            if timeout is not None:
                timeout = max(0.0, timeout - (time.monotonic() - began))
            yield item
        task.done.wait()
        if task.problem is not None:
            raise task.problem
    finally:
        gone.set()
        if not task.done.is_set():
            _abandon(worker, task, abandon)


def _abandon(worker: _Worker, task: _Task, abandon: Callable[[], None]) -> None:
    abandon()
    with _lock:
        if worker.current is not task:
            return
        worker.abandoned = True
        if worker.exposed and worker.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(worker.ident), ctypes.py_object(Abandoned))


@contextmanager
def exposed() -> Iterator[None]:
    """Inside, a caller that gives up stops this thread at once. Without effect outside a worker."""
    yield from _exposing(True)


@contextmanager
def shielded() -> Iterator[None]:
    """Inside, a caller that gives up stops this thread only at the end. Without effect outside a worker."""
    yield from _exposing(False)


def _exposing(wanted: bool) -> Iterator[None]:
    worker = threading.current_thread()
    if not isinstance(worker, _Worker):
        yield
        return
    before = _expose(worker, wanted)
    try:
        yield
    finally:
        _expose(worker, before)


def _expose(worker: _Worker, wanted: bool) -> bool:
    with _lock:
        before, worker.exposed = worker.exposed, wanted
        late = wanted and worker.abandoned
    if late:
        raise Abandoned
    return before
