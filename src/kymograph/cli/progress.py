"""Progress of long work on stderr: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time as clock
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

# seconds between two plain lines; short work prints none
_EVERY = 5.0


class Report(Protocol):
    """What long work calls with how much is done, and which part of all that is (0 to 1, None when unknown)."""

    def __call__(self, done: int, part: float | None) -> None: ...


@contextmanager
def progress(what: str, unit: str) -> Iterator[Report]:
    """Show work called `what` whose amount is counted in `unit`."""
    if not sys.stderr.isatty():
        yield _Lines(what, unit)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[counted]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None, counted="")
        started = clock.monotonic()

        def report(done: int, part: float | None) -> None:
            rate = done / max(clock.monotonic() - started, 1e-3)
            counted = f"{done:,} {unit}, {rate:,.0f} {unit}/s"
            bar.update(task, total=None if part is None else 1.0, completed=part or 0.0, counted=counted)

        yield report


class _Lines:
    def __init__(self, what: str, unit: str) -> None:
        self._what, self._unit = what, unit
        self._started = self._last = clock.monotonic()

    def __call__(self, done: int, part: float | None) -> None:
        now = clock.monotonic()
        if now - self._last < _EVERY:
            return
        self._last = now
        passed = now - self._started
        line = f"{self._what}: {done:,} {self._unit}, {done / passed:,.0f} {self._unit}/s"
        if part:
            line += f", {part:.0%}, {passed / part - passed:,.0f} s left"
        print(line, file=sys.stderr, flush=True)
