"""Sets of time as sorted, disjoint, half-open intervals in two int64 arrays; every operation is NumPy, none walks a list.

A set of n intervals costs O(log n) to search and O(n) to combine; `model.coverage.Coverage` is the one that grows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from kymograph.errors import InvalidInput

Ints = np.ndarray[Any, np.dtype[np.int64]]


class Intervals:
    """An immutable set of µs as the fewest half-open intervals `[start, end)` that make it up.

    Intervals that touch are one: `[0, 5)` and `[5, 9)` are `[0, 9)`. Empty ones are nothing.

    Args:
        starts, ends: int64 of equal length, in any order, overlapping or not.

    Raises:
        InvalidInput: an interval that ends before it starts.
    """

    __slots__ = ("ends", "starts")

    def __init__(self, starts: Any = (), ends: Any = ()) -> None:
        low, high = np.asarray(starts, np.int64).ravel(), np.asarray(ends, np.int64).ravel()
        if len(low) != len(high):
            raise InvalidInput(f"{len(low)} starts and {len(high)} ends are no intervals")
        wrong = np.flatnonzero(high < low)
        if len(wrong):
            at = wrong[0]
            raise InvalidInput(f"the interval [{low[at]}, {high[at]}) ends before it starts")
        self.starts, self.ends = _normal(low, high)
        for array in (self.starts, self.ends):
            array.flags.writeable = False

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, int]]) -> Intervals:
        """From (start, end) pairs."""
        array = np.array(list(pairs), np.int64).reshape(-1, 2)
        return cls(array[:, 0], array[:, 1])

    @classmethod
    def sorted(cls, starts: Ints, ends: Ints) -> Intervals:
        """From arrays that are sorted, disjoint and joined already; they are shared, not copied."""
        made = cls.__new__(cls)
        made.starts, made.ends = starts, ends
        return made

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.starts.tolist(), self.ends.tolist(), strict=True)

    def __getitem__(self, at: int) -> tuple[int, int]:
        return int(self.starts[at]), int(self.ends[at])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Intervals):
            return NotImplemented
        return np.array_equal(self.starts, other.starts) and np.array_equal(self.ends, other.ends)

    def __hash__(self) -> int:
        return hash((self.starts.tobytes(), self.ends.tobytes()))

    def __repr__(self) -> str:
        shown = " ".join(f"[{start}, {end})" for start, end in list(self)[:4])
        return f"<Intervals {shown}{f' … {len(self)}' if len(self) > 4 else ''}>"

    @property
    def duration(self) -> int:
        """µs covered."""
        # unsigned, because the span of all times does not fit int64
        return int((self.ends - self.starts).view(np.uint64).sum(dtype=np.uint64))

    @property
    def extent(self) -> tuple[int, int] | None:
        """From the first start to the last end, or None."""
        return (int(self.starts[0]), int(self.ends[-1])) if len(self) else None

    def slice(self, start: int | None, end: int | None) -> slice:
        """Positions of the intervals that share time with `[start, end)`; None leaves a side open."""
        low = 0 if start is None else int(np.searchsorted(self.ends, start, "right"))
        high = len(self) if end is None else int(np.searchsorted(self.starts, end, "left"))
        return slice(low, max(low, high))

    def clip(self, start: int | None = None, end: int | None = None) -> Intervals:
        """What lies in `[start, end)`."""
        if start is not None and end is not None and end <= start:
            return Intervals()
        chosen = self.slice(start, end)
        starts, ends = self.starts[chosen], self.ends[chosen]
        if start is not None:
            starts = np.maximum(starts, start)
        if end is not None:
            ends = np.minimum(ends, end)
        return Intervals.sorted(starts, ends)

    def covers(self, start: int, end: int) -> bool:
        """Whether all of `[start, end)` is in the set."""
        at = int(np.searchsorted(self.starts, start, "right")) - 1
        return end <= start or (at >= 0 and int(self.ends[at]) >= end)

    def contains(self, times: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which of `times` (int64 µs) are in the set."""
        at = self.locate(times)
        inside: np.ndarray[Any, np.dtype[np.bool_]] = at >= 0
        return inside

    def locate(self, times: Any) -> Ints:
        """Position of the interval that holds each time; -1 where none does."""
        wanted = np.asarray(times, np.int64)
        at = np.searchsorted(self.starts, wanted, "right") - 1
        if len(self):
            at[wanted >= self.ends[np.maximum(at, 0)]] = -1
        return at

    def overlap(self, start: int, end: int) -> tuple[int, int] | None:
        """The first interval that shares time with `[start, end)`, or None."""
        chosen = self.slice(start, end)
        return self[chosen.start] if chosen.stop > chosen.start and end > start else None

    def union(self, other: Intervals) -> Intervals:
        """What is in either set."""
        return Intervals(np.concatenate([self.starts, other.starts]), np.concatenate([self.ends, other.ends]))

    def intersection(self, other: Intervals) -> Intervals:
        """What is in both sets."""
        low = np.searchsorted(other.ends, self.starts, "right")
        high = np.searchsorted(other.starts, self.ends, "left")
        counts = np.maximum(high - low, 0)
        mine = np.repeat(np.arange(len(self)), counts)
        # position within each run of the other's intervals
        within = np.arange(len(mine)) - np.repeat(np.cumsum(counts) - counts, counts)
        theirs = np.repeat(low, counts) + within
        starts = np.maximum(self.starts[mine], other.starts[theirs])
        ends = np.minimum(self.ends[mine], other.ends[theirs])
        return Intervals.sorted(starts, ends)

    def difference(self, other: Intervals) -> Intervals:
        """What is in this set and not in the other."""
        if not len(self) or not len(other):
            return self
        first, last = int(self.starts[0]), int(self.ends[-1])
        return self.intersection(other.complement(first, last))

    def complement(self, start: int, end: int) -> Intervals:
        """What of `[start, end)` is not in the set: the gaps."""
        inner = self.clip(start, end)
        starts, ends = np.append(np.int64(start), inner.ends), np.append(inner.starts, np.int64(end))
        kept = starts < ends
        return Intervals.sorted(starts[kept], ends[kept])

    __or__, __and__, __sub__ = union, intersection, difference


def _normal(starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    kept = starts < ends
    starts, ends = starts[kept], ends[kept]
    if len(starts) > 1 and (starts[1:] <= starts[:-1]).any():
        order = np.argsort(starts, kind="stable")
        starts, ends = starts[order], ends[order]
    if len(starts) > 1:
        reach = np.maximum.accumulate(ends)
        new = np.empty(len(starts), np.bool_)
        new[0] = True
        np.greater(starts[1:], reach[:-1], out=new[1:])
        firsts = np.flatnonzero(new)
        starts, ends = starts[firsts], reach[np.append(firsts[1:], len(reach)) - 1]
    return starts, ends
