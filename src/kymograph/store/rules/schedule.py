"""The thread that evaluates all groups of one store when they are due."""

from __future__ import annotations

import logging
import threading
import time as clock
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kymograph.errors import StoreClosed
from kymograph.store.rules.evaluation import GroupState, Notify
from kymograph.store.rules.rule import Group

if TYPE_CHECKING:
    from kymograph.store.store import Store

log = logging.getLogger("kymograph.store")


class RuleSchedule:
    """Groups, each evaluated at whole multiples of its interval since 1970; those that come too late are left out.

    Attributes:
        groups: in the order of the files.
        missed: evaluations left out, since the ones before took too long.
    """

    def __init__(self, store: Store, groups: Sequence[Group], notify: Notify | None = None, url: str = "") -> None:
        """`notify` is given the alerts to tell about; it must not block. `url` is where templates say this is."""
        self.groups = [GroupState(group, url) for group in groups]
        self.missed = 0
        self._store = store
        self._notify = notify
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self.groups and self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="kymograph-rules", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End after the rule under way. May be called twice."""
        self._stop.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(30.0)

    def evaluate(self, now: int) -> None:
        """Every group once, as of `now`, µs, in this thread; for a schedule that is not started."""
        for state in self.groups:
            state.evaluate(self._store, now, self._notify)

    def _loop(self) -> None:
        due = {place: _following(_now(), state.group.interval) for place, state in enumerate(self.groups)}
        while True:
            place = min(due, key=lambda one: due[one])
            pause = due[place] - _now()
            interval = self.groups[place].group.interval
            if pause > interval:  # the clock was set back
                due[place] = _following(_now(), interval)
                continue
            if pause > 0:
                if self._stop.wait(min(pause / 1e6, 60.0)):
                    return
                continue
            if self._stop.is_set():
                return
            state, moment = self.groups[place], due[place]
            late = (_now() - moment) // interval
            if late:  # the newest time that is due
                self.missed += late
                moment += late * interval
            try:
                state.evaluate(self._store, moment, self._notify)
            except StoreClosed:
                return
            except Exception:
                log.exception("group %s failed", state.group.name)
            due[place] = moment + interval


def _now() -> int:
    return clock.time_ns() // 1000


def _following(now: int, interval: int) -> int:
    return (now // interval + 1) * interval
