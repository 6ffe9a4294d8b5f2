"""What a collector is, what may take its batches, and how the supervisor makes one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, runtime_checkable

from kymograph.collect.batch import Batch
from kymograph.errors import InvalidInput
from kymograph.model.exemplar import Exemplar
from kymograph.store.metrics import Sample

MIN_INTERVAL = 100_000


@runtime_checkable
class Collector(Protocol):
    """Observes something at a fixed rate. Used by one thread at a time.

    Making one is cheap and touches nothing outside the process; the first `collect` does.

    Attributes:
        name: unique among the collectors of a supervisor; shown in health.
        interval: µs between two turns, at least `MIN_INTERVAL`.
    """

    name: str
    interval: int

    def collect(self, now: int) -> Batch:
        """What is to be seen now.

        Args:
            now: int µs since the epoch, to stamp what has no time of its own.

        Raises:
            MissingDependency: what it observes is not on this machine; it is asked again rarely.
            Exception: this turn failed; it is asked again after a pause that grows.
        """
        ...

    def close(self) -> None:
        """Free what it holds; called once, by the thread that called `collect`."""
        ...


@runtime_checkable
class Finishing(Protocol):
    """A collector that holds back what it received: the end of recording asks for the rest of it."""

    def finish(self, now: int) -> Batch:
        """What is left, as `collect` would give it some day; called at most once, before `close`."""
        ...


# A factory lets the supervisor start afresh after a failure or a hang.
Factory = Callable[[], Collector]


class Sink(Protocol):
    """The part of a store that recording needs; called from one thread."""

    def write(self, table: str, data: Any) -> int: ...

    def record(self, samples: Iterable[Sample]) -> int: ...

    def record_exemplars(self, exemplars: Iterable[Exemplar]) -> object: ...

    def describe(
        self, name: str, *, kind: str | None = None, unit: str | None = None, help: str | None = None
    ) -> None: ...


def checked_interval(interval: int) -> int:
    """`interval` in µs, if a collector can be run at it.

    Raises:
        InvalidInput: shorter than 0.1 s or longer than a day.
    """
    if isinstance(interval, bool) or not isinstance(interval, int) or not MIN_INTERVAL <= interval <= 86_400 * 10**6:
        raise InvalidInput(f"an interval of {interval!r} µs is out of range", hint="0.1s to 1d")
    return interval
