"""Times for data that has none: a data clock that counts rows at a rate, held against the wall clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from kymograph.errors import InvalidInput
from kymograph.model.stream import DATA, TIMESTAMP, Layout
from kymograph.model.time import isoformat

Array = np.ndarray[Any, Any]


class DataClock:
    """Row n of an interval has the time `start + n / rate`.

    Args:
        rate: rows per second, up to a million.
        start: time of the first row, µs; None follows the wall clock: the first row is read now, and where the data falls
            behind it by more than `gap` an interval ends and another begins.
        gap: µs that data clock and wall clock may be apart.
        now: the wall clock, µs.
    """

    def __init__(
        self, rate: float, start: int | None, gap: int, now: Callable[[], int] = lambda: time.time_ns() // 1000
    ) -> None:
        if not 0 < rate <= 1e6:
            raise InvalidInput(f"a rate of {rate:g} rows per second is out of range", hint="above 0, to a million")
        self._rate = rate
        self._live = start is None
        self._start = start
        self._gap = gap
        self._now = now
        self._rows = 0

    def stamp(self, values: Array, layout: Layout) -> tuple[Array, bool]:
        """Rows of these values, and whether there is a gap before them.

        Raises:
            InvalidInput: the data is ahead of the wall clock by more than the gap allows: the rate is too low.
        """
        broken = False
        if self._live:
            broken = self._follow(len(values))
        assert self._start is not None
        made = np.empty(len(values), layout.rows)
        steps = self._rows + np.arange(len(values), dtype=np.float64)
        made[TIMESTAMP] = self._start + np.rint(steps * (1e6 / self._rate)).astype(np.int64)
        made[DATA] = values
        self._rows += len(values)
        return made, broken

    def _follow(self, count: int) -> bool:
        now = self._now()
        # rows have been read when they are here: the last of them is now
        first = now - int((count - 1) * 1e6 / self._rate)
        if self._start is None:
            self._start = first
            return False
        behind = first - (self._start + int(self._rows * 1e6 / self._rate))
        if behind > self._gap:
            self._start, self._rows = first, 0
            return True
        if -behind > self._gap:
            raise InvalidInput(
                f"the data is {-behind / 1e6:.3f} s ahead of the wall clock, {isoformat(now)}",
                hint=f"it comes faster than {self._rate:g} rows per second, or --start is missing",
            )
        return False
