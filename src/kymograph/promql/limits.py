"""What one query may use, and the meter that says when it is too much."""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from kymograph.errors import LimitExceeded


class QueryTimeout(LimitExceeded):
    """The query took more wall time than it may."""


class QueryCancelled(LimitExceeded):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True)
class PromLimits:
    """What one query may use.

    Attributes:
        series: selected by one selector.
        samples: read and computed in all.
        seconds: of wall time.
        cancelled: asked now and then, from the thread of the query; true ends it with QueryCancelled.
    """

    series: int = 50_000
    samples: int = 50_000_000
    seconds: float = 60.0
    cancelled: Callable[[], bool] | None = None


def pulse() -> None:
    """Fail when the query that this is done for has run out of time; for what is long at work on one function."""
    meter = _METER.get()
    if meter is not None:
        meter.room(0)


class Meter:
    """Counts what a query uses. Times are measured at every node of the query and every block of work."""

    def __init__(self, limits: PromLimits) -> None:
        self._limits = limits
        self._deadline = clock.monotonic() + limits.seconds
        self.samples = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within this, `pulse` asks this meter; in threads that are given the context of this one, too."""
        before = _METER.set(self)
        try:
            yield
        finally:
            _METER.reset(before)

    def series(self, count: int) -> None:
        if count > self._limits.series:
            raise LimitExceeded(
                f"the query selects {count:,} series, the limit is {self._limits.series:,}",
                hint="add label matchers",
            )

    def spend(self, samples: int) -> None:
        """Samples read from storage."""
        self.samples += samples
        self.room(0)

    def room(self, samples: int) -> None:
        """Fail before a result of this many samples is made, or when the time is up."""
        if self.samples + samples > self._limits.samples:
            raise LimitExceeded(
                f"the query needs {self.samples + samples:,} samples, the limit is {self._limits.samples:,}",
                hint="ask for fewer series, a shorter range or a longer step",
            )
        cancelled = self._limits.cancelled
        if cancelled is not None and cancelled():
            raise QueryCancelled("the query was cancelled")
        if clock.monotonic() > self._deadline:
            raise QueryTimeout(
                f"the query took longer than {self._limits.seconds:g} s",
                hint="ask for fewer series, a shorter range or a longer step",
            )


_METER: ContextVar[Meter | None] = ContextVar("meter", default=None)
