"""What an engine does for streams, reached as `engine.streams`: rows of one layout, with exact knowledge of what is covered.

Ownership: arrays given to `insert` may be changed by the caller once it returns; arrays that come back belong to the caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from kymograph.errors import InvalidInput, Overlap
from kymograph.model.interval import Intervals
from kymograph.model.stream import TIMESTAMP, StreamSchema
from kymograph.model.time import MAX_TIME, MIN_TIME, isoformat

Array = np.ndarray[Any, Any]
# rows of one array that a reader is given, unless it asks for others
READ_ROWS = 1 << 16


@dataclass(frozen=True)
class StreamStatistics:
    """Numbers of one stream. Times are int µs, None while nothing is covered; sizes are bytes.

    `start` and `end` are the extent of the coverage, `covered` the µs within it that are. `pyramid_bytes` are part of
    `bytes`.
    """

    rows: int = 0
    intervals: int = 0
    start: int | None = None
    end: int | None = None
    covered: int = 0
    bytes: int = 0
    pyramid_bytes: int = 0
    hot_rows: int = 0
    blocks: int = 0


@runtime_checkable
class Streams(Protocol):
    """Streams of one engine, by path; safe to call from many threads. Unknown paths raise NotFound.

    A level of the pyramid groups 4**level rows that follow one another within an interval. Groups are counted from the
    first row of the interval as it was inserted; what an insertion appends goes on counting, what is inserted before
    others starts again, and a removal changes no count. So a group has fewer rows at the end of an interval, before
    rows that were there earlier, and next to a removal, and never reaches across a gap.
    """

    def streams(self) -> Mapping[str, StreamSchema]:
        """The streams as of now, by path."""

    def create(self, schema: StreamSchema) -> None:
        """Durable when it returns. Raises AlreadyExists when the path is taken."""

    def alter(self, schema: StreamSchema) -> None:
        """Replace metadata and retention; layout and pyramid never change (SchemaError)."""

    def rename(self, path: str, to: str) -> None:
        """Move a stream to another path. Raises AlreadyExists when that is taken."""

    def destroy(self, path: str) -> None:
        """Forget a stream and its rows; its disk is free when it returns."""

    def insert(self, path: str, rows: Array, start: int, end: int) -> int:
        """Store rows and cover `[start, end)` with them, all or nothing; durable and visible when it returns.

        Args:
            rows: C-contiguous, of the dtype `Layout.rows`, in time order; none at all is a known emptiness.

        Returns:
            Rows stored.

        Raises:
            InvalidInput: times that do not increase or lie outside, an end before the start, another dtype.
            Overlap: part of `[start, end)` is covered already.
            DiskFull, StorageError, ReadOnly, StoreClosed: nothing is stored.
        """

    def remove(self, path: str, start: int, end: int) -> int:
        """Uncover `[start, end)` and drop its rows for good. Returns how many."""

    def coverage(self, path: str, start: int | None = None, end: int | None = None) -> Intervals:
        """What is covered of `[start, end)`."""

    def count(self, path: str, start: int | None = None, end: int | None = None) -> int:
        """Rows of `[start, end)`, exactly."""

    def read(
        self,
        path: str,
        start: int | None = None,
        end: int | None = None,
        columns: Sequence[int] | None = None,
        level: int = 0,
        rows: int = READ_ROWS,
    ) -> Iterator[Array]:
        """Arrays in time order, each of 1 to `rows` rows that lie in one interval.

        What is inserted or removed meanwhile may or may not be seen; no row is seen twice.

        Args:
            columns: places of the columns wanted, in the order wanted; None is all.
            level: 0 gives `rows_dtype`, others `levels_dtype`: rows whose mean time lies in `[start, end)`.
        """

    def statistics(self, path: str) -> StreamStatistics: ...

    def version(self, path: str) -> int:
        """A number that is another one after each change of the stream's rows or coverage."""

    def wait(self, path: str, seen: int, timeout: float) -> int:
        """Wait until `version` is not `seen`, at most `timeout` seconds. Returns the version."""


def check_insert(schema: StreamSchema, rows: Array, start: int, end: int) -> None:
    """What every engine refuses before it looks at what it holds.

    Raises:
        InvalidInput: names the first row that offends, and both times.
    """
    if rows.dtype != schema.layout.rows or rows.ndim != 1:
        raise InvalidInput(f"{schema.path} takes rows of {schema.layout.rows}, not {rows.dtype}")
    times = rows[TIMESTAMP]
    # the order first: then only the ends can lie outside
    steps = times[1:] <= times[:-1]
    if steps.any():
        at = int(steps.argmax())
        raise InvalidInput(
            f"{schema.path}: row {at + 1} at {_shown(times[at + 1])} does not come after row {at} at {_shown(times[at])}",
            hint="times increase strictly; nothing was stored",
        )
    if not MIN_TIME <= start <= end <= MAX_TIME:
        raise InvalidInput(f"{schema.path}: [{start}, {end}) is no interval", hint="the end comes after the start")
    if not len(times):
        return
    if times[0] < start:
        raise InvalidInput(
            f"{schema.path}: row 0 at {_shown(times[0])} is before the start of the interval, {_shown(start)}",
            hint="nothing was stored",
        )
    if times[-1] >= end:
        at = int(np.searchsorted(times, end, "left"))
        raise InvalidInput(
            f"{schema.path}: row {at} at {_shown(times[at])} is not before the end of the interval, {_shown(end)}",
            hint="nothing was stored",
        )


def overlapping(path: str, start: int, end: int, there: tuple[int, int]) -> Overlap:
    """The error for `[start, end)` when `there` is covered already."""
    return Overlap(
        f"{path}: [{start}, {end}) overlaps [{there[0]}, {there[1]}), which is covered already, "
        f"from {isoformat(max(start, there[0]))} to {isoformat(min(end, there[1]))}",
        hint="nothing was stored; remove it first, or insert what is missing",
    )


def _shown(micros: Any) -> str:
    return f"{isoformat(int(micros))} ({int(micros)})"
