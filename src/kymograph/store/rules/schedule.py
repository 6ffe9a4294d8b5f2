"""The threads that evaluate the groups of one store when they are due: a few, so that a slow group holds up no other."""

from __future__ import annotations

import logging
import threading
import time as clock
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kymograph.errors import StoreClosed
from kymograph.store.rules.evaluation import GroupState, Notify, end
from kymograph.store.rules.handover import handed_over
from kymograph.store.rules.rule import Group

if TYPE_CHECKING:
    from kymograph.store.store import Store

log = logging.getLogger("kymograph.store")

_THREADS = 4


class RuleSchedule:
    """Groups, each evaluated at whole multiples of its interval since 1970; those that come too late are left out.

    Attributes:
        groups: in the order of the files.
        missed: evaluations left out, since the ones before took too long.
    """

    def __init__(
        self,
        store: Store,
        groups: Sequence[Group],
        notify: Notify | None = None,
        url: str = "",
        former: Sequence[GroupState] = (),
    ) -> None:
        """
        Args:
            notify: is given the alerts to tell about; it must not block.
            url: where templates say this is.
            former: groups of a schedule that has stopped; those that are among the new ones go on.
        """
        self.groups, self._ended = handed_over([GroupState(group, url) for group in groups], former)
        self.missed = 0
        self._store = store
        self._notify = notify
        self._changed = threading.Condition()
        self._stopping = False
        # when the groups that nobody is at work on are due, µs
        self._due: dict[int, int] = {}
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        if self._threads:
            return
        self._end(_now())
        self._due = {place: _following(state.group.interval) for place, state in enumerate(self.groups)}
        for _ in range(min(_THREADS, len(self.groups))):
            thread = threading.Thread(target=self._work, name="kymograph-rules", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End after the rules under way. May be called twice."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(30.0)

    @property
    def running(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def evaluate(self, now: int) -> None:
        """Every group once, as of `now`, µs, in this thread; for a schedule that is not started."""
        self._end(now)
        for state in self.groups:
            state.evaluate(self._store, now, self._notify)

    def _end(self, now: int) -> None:
        """Mark the series of groups that are gone."""
        end(self._store, self._ended, now)
        self._ended = frozenset()

    def _work(self) -> None:
        while (taken := self._next()) is not None:
            place, moment = taken
            state = self.groups[place]
            interval = state.group.interval
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
            with self._changed:
                self._due[place] = moment + interval
                self._changed.notify()

    def _next(self) -> tuple[int, int] | None:
        """A group that is due and the time it is due for, once there is one; None at the end."""
        with self._changed:
            while not self._stopping:
                if not self._due:
                    self._changed.wait()
                    continue
                place = min(self._due, key=self._due.__getitem__)
                pause, interval = self._due[place] - _now(), self.groups[place].group.interval
                if pause > interval:  # the clock was set back
                    self._due[place] = _following(interval)
                elif pause > 0:
                    self._changed.wait(min(pause / 1e6, 60.0))
                else:
                    return place, self._due.pop(place)
        return None


def _now() -> int:
    return clock.time_ns() // 1000


def _following(interval: int) -> int:
    """The next multiple of an interval."""
    return (_now() // interval + 1) * interval
