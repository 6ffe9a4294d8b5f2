"""What the tests of recording share: a sink that obeys, fails or blocks on command, and waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from kymograph.collect.batch import Batch
from kymograph.model.exemplar import Exemplar
from kymograph.store.metrics import Sample


def until(condition: Callable[[], object], timeout: float = 60.0) -> None:
    """Return once the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


class Recorder:
    """Keeps what it is given; `fail` is raised by every call, `gate` must be open for one to return."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, Any]] = []
        self.samples: list[Sample] = []
        self.exemplars: list[Exemplar] = []
        self.described: list[tuple[str, str | None, str | None, str | None]] = []
        self.calls = 0
        self.fail: BaseException | None = None
        self.fail_on: str | None = None
        self.gate = threading.Event()
        self.gate.set()

    def write(self, table: str, data: Any) -> int:
        self._obey(table)
        self.rows.append((table, data))
        return 1

    def record(self, samples: Iterable[Sample]) -> int:
        self._obey("samples")
        kept = list(samples)
        self.samples += kept
        return len(kept)

    def record_exemplars(self, exemplars: Iterable[Exemplar]) -> list[bool]:
        self._obey("exemplars")
        self.exemplars += exemplars
        return [True]

    def describe(self, name: str, *, kind: str | None = None, unit: str | None = None, help: str | None = None) -> None:
        self._obey("describe")
        self.described.append((name, kind, unit, help))

    def _obey(self, what: str) -> None:
        self.calls += 1
        self.gate.wait(200)
        if self.fail is not None and self.fail_on in (None, what):
            raise self.fail

    def times(self, table: str) -> list[int]:
        return [data["time"][0] for name, data in self.rows if name == table]


def batch(number: int, *, source: str = "test", samples: int = 0, tables: Iterable[str] = ("t",)) -> Batch:
    """A batch whose rows all carry `number` as time."""
    return Batch(
        source,
        number,
        {table: {"time": [number], "value": [float(number)]} for table in tables},
        [Sample(f"m{each}", 1.0, {}, number) for each in range(samples)],
    )
