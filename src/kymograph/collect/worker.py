"""One collector's thread: its turns, its failures, its hangs."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from typing import Any, Literal

from kymograph.collect.batch import Batch
from kymograph.collect.interface import Collector, Factory, Finishing, checked_interval
from kymograph.collect.schedule import Clock, Schedule, backoff
from kymograph.errors import MissingDependency

log = logging.getLogger("kymograph.collect")

State = Literal["running", "waiting", "failing", "hung", "absent"]

# A turn is hung after the longer of these: 10 s, or so many intervals.
HANG_LEAST = 10_000_000
HANG_INTERVALS = 5
# How often to look again for what is not on this machine.
ABSENT_PAUSE = 60_000_000
# Stuck threads left behind per collector; then it is replaced only once one of them returns.
STUCK_MOST = 4


class Worker:
    """Runs a collector until stopped and delivers each batch, whatever the collector does.

    A turn that raises is tried again after a growing pause, with a fresh collector where a factory was
    given. A turn that hangs is abandoned: its thread is left alone, what it returns one day is dropped,
    and a fresh collector goes on in a fresh thread. Without a factory the collector stays hung until
    its call returns.
    """

    def __init__(
        self,
        collector: Collector | Factory,
        deliver: Callable[[Batch], None],
        *,
        clock: Clock | None = None,
        hang_after: int | None = None,
        jitter: random.Random | None = None,
    ) -> None:
        """`hang_after` in µs replaces the limit computed from the interval."""
        self._factory: Factory | None
        # a class has the attributes of what it makes, so it is asked about first
        if isinstance(collector, type) or not isinstance(collector, Collector):
            self._factory, first = collector, collector()
        else:
            self._factory, first = None, collector
        self.name = first.name
        self.interval = checked_interval(first.interval)
        self._hang_after = hang_after or max(HANG_LEAST, HANG_INTERVALS * self.interval)
        self._deliver = deliver
        self._clock = clock or Clock()
        # spreads retries, decides nothing that must not be guessed
        self._jitter = jitter or random.Random()  # noqa: S311
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._turn = 0
        self._threads: list[threading.Thread] = []
        self._collector: Collector | None = first
        self._since: int | None = None
        self._state: State = "waiting"
        self._failures = 0
        self._restarts = 0
        self._last_success: int | None = None
        self._last_error = ""

    def start(self) -> None:
        with self._lock:
            self._launch(0)

    def stop(self) -> None:
        """Ask it to end; a turn under way still delivers."""
        self._stop.set()

    def join(self, timeout: float) -> bool:
        """Wait for its current thread; True when that ended."""
        with self._lock:
            thread = self._threads[-1] if self._threads else None
        if thread is not None:
            thread.join(max(0.0, timeout))
        return thread is None or not thread.is_alive()

    def health(self) -> dict[str, Any]:
        with self._lock:
            return {
                "name": self.name,
                "state": self._state,
                "last_success": self._last_success,
                "last_error": self._last_error,
                "restarts": self._restarts,
                "interval_s": self.interval / 1e6,
            }

    def watch(self) -> None:
        """Notice a hang; called every so often by the supervisor."""
        with self._lock:
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            if self._stop.is_set() or self._since is None:
                return
            waited = self._clock.mono() - self._since
            if waited <= self._hang_after:
                return
            if self._state != "hung":
                self._note("hung", f"no answer for {waited / 1e6:.0f} s")
                self._failures += 1
            if self._factory is not None and len(self._threads) < STUCK_MOST:
                self._turn += 1
                self._restarts += 1
                self._collector = self._since = None
                self._launch(backoff(self._failures, self._jitter))

    def _launch(self, pause: int) -> None:
        thread = threading.Thread(
            target=self._run, args=(self._turn, self._collector, pause), name=f"kymograph-{self.name}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def _note(self, state: State, error: str) -> None:
        """Enter a state. Only changes of it are logged, so that a dead target does not fill the log."""
        if state != self._state:
            if state == "running" and self._state != "waiting":
                log.info("collector %s works again", self.name)
            elif state == "absent":
                log.info("collector %s: %s", self.name, error)
            elif state in ("failing", "hung"):
                log.warning("collector %s is %s: %s", self.name, state, error)
        self._state = state
        self._last_error = error or self._last_error

    def _run(self, turn: int, collector: Collector | None, pause: int) -> None:
        schedule = Schedule(self.interval)
        try:
            while turn == self._turn:
                mono = self._clock.mono()
                due = schedule.following(self._clock.wall(), mono, pause)
                if self._stop.wait(max(0, due - mono) / 1e6):
                    self._finish(turn, collector)
                    return
                collector, pause = self._take_turn(turn, collector, schedule)
        finally:
            _close(collector)

    def _finish(self, turn: int, collector: Collector | None) -> None:
        """Deliver what the collector holds back; one that never had a turn holds nothing."""
        if turn != self._turn or self._last_success is None or not isinstance(collector, Finishing):
            return
        try:
            batch = collector.finish(self._clock.wall())
        except Exception:
            log.warning("collector %s could not give out what it had left", self.name, exc_info=True)
        else:
            self._deliver(batch)

    def _take_turn(self, turn: int, collector: Collector | None, schedule: Schedule) -> tuple[Collector | None, int]:
        """One turn; the collector for the next one (None: make it anew) and µs to pause before it."""
        with self._lock:
            self._since = self._clock.mono()
        batch, problem = None, None
        try:
            if collector is None:
                assert self._factory is not None
                collector = self._factory()
            batch = collector.collect(schedule.stamp(self._clock.wall()))
        except BaseException as raised:  # a thread that dies silently would be the worst failure
            problem = raised
        with self._lock:
            if turn != self._turn:
                return collector, 0
            self._since = None
            if batch is None:
                pause = self._failed(problem)
            elif self._state == "hung":
                self._note("waiting", "")
                return collector, 0
            else:
                self._succeeded(batch)
                pause = 0
        if batch is not None:
            self._deliver(batch)
        elif self._factory is not None and not isinstance(problem, MissingDependency):
            _close(collector)
            collector = None
        return collector, pause

    def _succeeded(self, batch: Batch) -> None:
        self._failures = 0
        self._last_success = self._clock.wall()
        if batch.problem:
            self._note("failing", batch.problem)
        else:
            self._note("running", "")

    def _failed(self, problem: BaseException | None) -> int:
        if isinstance(problem, MissingDependency):
            self._failures = 0
            self._note("absent", str(problem))
            return ABSENT_PAUSE
        self._failures += 1
        self._restarts += self._factory is not None
        text = str(problem)
        self._note("failing", f"{type(problem).__name__}: {text}" if text else type(problem).__name__)
        return backoff(self._failures, self._jitter)


def _close(collector: Collector | None) -> None:
    try:
        if collector is not None:
            collector.close()
    except Exception:
        log.debug("closing a collector failed", exc_info=True)
