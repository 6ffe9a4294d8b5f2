"""When the next turn is due: a fixed rate on the wall clock's grid, and the pause after failures."""

from __future__ import annotations

import random
import time

# A stamp this close to the grid is put on it: equal steps of time compress to nothing.
_SNAP_SHARE = 100
_SNAP_MOST = 10_000

FIRST_PAUSE = 1_000_000
LONGEST_PAUSE = 60_000_000


class Clock:
    """The two clocks, in int µs: `wall` says what time it is and may jump, `mono` only how much passed."""

    def wall(self) -> int:
        return time.time_ns() // 1000

    def mono(self) -> int:
        return time.monotonic_ns() // 1000


class Schedule:
    """Turns at wall-clock multiples of an interval, paced by the monotonic clock.

    No drift: each turn is computed from the grid, not from the turn before. Turns missed while one
    was running are skipped, never made up. When the wall clock is set, the grid follows it without
    ever putting two turns closer than half an interval.
    """

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self._tolerance = min(interval // _SNAP_SHARE, _SNAP_MOST)
        self._offset: int | None = None
        self._last: int | None = None

    def following(self, wall: int, mono: int, pause: int = 0) -> int:
        """Monotonic µs of the first turn later than now + `pause`."""
        if self._offset is None or abs(wall - mono - self._offset) > self._tolerance:
            self._offset = wall - mono
        due = ((mono + pause + self._offset) // self._interval + 1) * self._interval - self._offset
        if self._last is not None and due - self._last < self._interval // 2:
            due += self._interval
        self._last = due
        return due

    def stamp(self, wall: int) -> int:
        """`wall`, or the grid time next to it if that is within 1 % of the interval and 10 ms."""
        nearest = (wall + self._interval // 2) // self._interval * self._interval
        return nearest if abs(wall - nearest) <= self._tolerance else wall


def backoff(failures: int, jitter: random.Random) -> int:
    """µs to pause after so many failures in a row: 1 s, 2 s, 4 s … 60 s, each ± 20 %."""
    pause = min(FIRST_PAUSE << min(failures - 1, 16), LONGEST_PAUSE)
    return int(pause * jitter.uniform(0.8, 1.2))
