"""Working one stream into another: what the source covers and the destination does not, so that it resumes by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kymograph.errors import InvalidInput
from kymograph.model.interval import Intervals
from kymograph.model.stream import TIMESTAMP
from kymograph.store.streams.arrays import Array, as_rows
from kymograph.store.streams.stream import Stream


@dataclass(frozen=True)
class Stretch:
    """Rows that lie in one interval of the source, with a few around them for context.

    Attributes:
        rows: structured `timestamp` and `data` of the source.
        first, last: the rows to work on are `rows[first:last]`; those around them are context from the same interval.
        start, end: covered time, µs, that they stand for.
        final: whether the interval ends here; rows that are not used now will not come again with more.
    """

    rows: Array
    first: int
    last: int
    start: int
    end: int
    final: bool

    @property
    def own(self) -> Array:
        """The rows to work on."""
        return self.rows[self.first : self.last]


Work = Callable[[Stretch], Any]


def process(
    source: Stream,
    destination: Stream,
    function: Work,
    *,
    start: Any = None,
    end: Any = None,
    before: int = 0,
    after: int = 0,
    rows: int = 1 << 18,
) -> Intervals:
    """Fill a stream from another one, wherever the source covers time that the destination does not.

    Each piece of work is one insertion, so it may be stopped and started again, and run again when the source has grown.

    Args:
        function: gets a `Stretch` and returns the destination's rows for it, in any form that `Stream.insert` takes,
            with times in `[start, end)` of the stretch; or `(rows, used)` when it used only the first `used` of its own
            rows: the rest comes again, followed by more. At the end of an interval all counts as used.
        start, end: work only there.
        before, after: rows of context; fewer at the ends of an interval.
        rows: of the source, at once.

    Returns:
        The time that was filled.

    Raises:
        InvalidInput: what `Stream.insert` raises; a function that uses nothing while there is more.
    """
    if min(before, after) < 0 or rows < 1:
        raise InvalidInput("context and rows are counts: not negative, and at least one row at once")
    whole = source.intervals()
    todo = source.intervals(start, end, diff=destination)
    for low, high in todo:
        _interval(source, destination, function, whole, (low, high), (before, after, rows))
    return todo


def _interval(
    source: Stream,
    destination: Stream,
    function: Work,
    whole: Intervals,
    interval: tuple[int, int],
    counts: tuple[int, int, int],
) -> None:
    before, after, most = counts
    at, end = interval
    wanted = most
    # one row more tells whether the interval goes on
    more = max(after, 1)
    bounds = whole.overlap(at, end) or interval
    behind = _behind(source, bounds[0], at, before)
    while at < end:
        held = _ahead(source, at, bounds[1], wanted + more)
        times = held[TIMESTAMP]
        inside = int(np.searchsorted(times, end))
        last = min(wanted, inside)
        # all of the interval is here: what follows is context from beyond what is to be filled
        final = last == inside and (len(held) < wanted + more or inside < len(held))
        until = end if final else int(times[last])
        stretch = Stretch(
            np.concatenate([behind, held[: last + after]]), len(behind), len(behind) + last, at, until, final
        )
        result, used = _used(function(stretch), last)
        if final:
            used = last
        elif used == 0:
            # it asks for more rows at once
            wanted *= 2
            if wanted > 64 * most:
                raise InvalidInput(f"the function used none of {last} rows", hint="it has to use some of what it gets")
            continue
        until = until if used == last else int(times[used])
        made = as_rows(result, destination.layout)
        destination.insert(made, at, until)
        behind = np.concatenate([behind, held[:used]])[-before:] if before else behind[:0]
        at, wanted = until, most


def _used(answer: Any, last: int) -> tuple[Any, int]:
    if isinstance(answer, tuple):
        result, used = answer
        if not 0 <= used <= last:
            raise InvalidInput(f"the function says that it used {used} of {last} rows")
        return result, int(used)
    return answer, last


def _ahead(source: Stream, start: int, end: int, rows: int) -> Array:
    """The first rows of `[start, end)`."""
    parts: list[Array] = []
    count = 0
    for chunk in source.chunks(start, end):
        parts.append(chunk[: rows - count])
        count += len(parts[-1])
        if count == rows:
            break
    return np.concatenate(parts) if parts else np.empty(0, source.layout.rows)


def _behind(source: Stream, start: int, end: int, rows: int) -> Array:
    """The last rows of `[start, end)`, found by looking back ever further."""
    none = np.empty(0, source.layout.rows)
    if not rows or start >= end:
        return none
    span = 1_000_000
    while True:
        low = max(start, end - span)
        if low == start or source.count(low, end) >= rows:
            found: Array = source.read(low, end)
            return found[-rows:]
        span *= 4
