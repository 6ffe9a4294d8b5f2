"""The coverage of a stream as it grows: intervals in pages of bounded length, so that an insertion never moves them all."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from kymograph.model.interval import Intervals, Ints

# intervals of one page; an insertion moves at most these
_PAGE = 1024


class Coverage:
    """A growing set of half-open intervals. Not safe for use by several threads at once.

    `replace` costs the same however much is covered already: a search among the pages and a move within one.
    """

    def __init__(self, intervals: Intervals | None = None) -> None:
        whole = intervals or Intervals()
        self._starts: list[Ints] = []
        self._ends: list[Ints] = []
        for at in range(0, len(whole), _PAGE):
            self._starts.append(np.array(whole.starts[at : at + _PAGE]))
            self._ends.append(np.array(whole.ends[at : at + _PAGE]))
        self._firsts = [int(page[0]) for page in self._starts]
        self._count = len(whole)
        self._duration = whole.duration
        self._whole: Intervals | None = whole

    def __len__(self) -> int:
        return self._count

    @property
    def duration(self) -> int:
        """µs covered."""
        return self._duration

    @property
    def extent(self) -> tuple[int, int] | None:
        """From the first start to the last end, or None."""
        return (self._firsts[0], int(self._ends[-1][-1])) if self._firsts else None

    def intervals(self, start: int | None = None, end: int | None = None) -> Intervals:
        """A snapshot of what lies in `[start, end)`."""
        if self._whole is not None:
            return self._whole.clip(start, end)
        if start is None and end is None:
            self._whole = Intervals.sorted(np.concatenate(self._starts), np.concatenate(self._ends))
            return self._whole
        low = 0 if start is None else max(0, bisect_right(self._firsts, start) - 1)
        high = len(self._firsts) if end is None else bisect_right(self._firsts, end)
        if low >= high:
            return Intervals()
        near = Intervals.sorted(np.concatenate(self._starts[low:high]), np.concatenate(self._ends[low:high]))
        return near.clip(start, end)

    def near(self, start: int, end: int) -> Intervals:
        """The intervals, whole, that share time with `[start, end)` or touch it."""
        low = max(0, bisect_right(self._firsts, start) - 1)
        high = bisect_right(self._firsts, end)
        if low >= high:
            return Intervals()
        starts, ends = np.concatenate(self._starts[low:high]), np.concatenate(self._ends[low:high])
        kept = (ends >= start) & (starts <= end)
        return Intervals.sorted(starts[kept], ends[kept])

    def overlap(self, start: int, end: int) -> tuple[int, int] | None:
        """The first interval that shares time with `[start, end)`, or None."""
        return self.near(start, end).overlap(start, end)

    def adding(self, start: int, end: int) -> tuple[Intervals, Intervals]:
        """What covering `[start, end)` replaces: the intervals that go and those that come. Changes nothing."""
        gone = self.near(start, end)
        return gone, gone.union(Intervals.of([(start, end)]))

    def removing(self, start: int, end: int) -> tuple[Intervals, Intervals]:
        """What uncovering `[start, end)` replaces, as `adding`."""
        near = self.near(start, end)
        chosen = near.slice(start, end)
        gone = Intervals.sorted(near.starts[chosen], near.ends[chosen])
        return gone, gone.difference(Intervals.of([(start, end)]))

    def replace(self, gone: Intervals, came: Intervals) -> None:
        """Put the second in the place of the first, as `adding` or `removing` have found them."""
        self._count += len(came) - len(gone)
        self._duration += came.duration - gone.duration
        self._whole = None
        if not self._firsts:
            self._starts, self._ends = [np.array(came.starts)], [np.array(came.ends)]
            self._split(0, 1)
            return
        at = gone.starts[0] if len(gone) else came.starts[0] if len(came) else 0
        until = gone.starts[-1] if len(gone) else at
        low = max(0, bisect_right(self._firsts, int(at)) - 1)
        high = max(low + 1, bisect_right(self._firsts, int(until)))
        starts, ends = np.concatenate(self._starts[low:high]), np.concatenate(self._ends[low:high])
        place = int(np.searchsorted(starts, at, "left"))
        rest = place + len(gone)
        self._starts[low:high] = [np.concatenate([starts[:place], came.starts, starts[rest:]])]
        self._ends[low:high] = [np.concatenate([ends[:place], came.ends, ends[rest:]])]
        self._split(low, high)

    def _split(self, low: int, high: int) -> None:
        """Put the page at `low` into shape, where pages `low` to `high` were before."""
        starts, ends = self._starts[low], self._ends[low]
        if len(starts) > _PAGE:
            half = len(starts) // 2 if len(starts) <= 2 * _PAGE else _PAGE // 2
            # a page at the end of time stays nearly full, because what follows comes after it
            half = _PAGE if low == len(self._starts) - 1 and len(starts) == _PAGE + 1 else half
            cuts = range(0, len(starts), half)
            self._starts[low : low + 1] = [starts[at : at + half] for at in cuts]
            self._ends[low : low + 1] = [ends[at : at + half] for at in cuts]
            self._firsts[low:high] = [int(starts[at]) for at in cuts]
        elif len(starts):
            self._firsts[low:high] = [int(starts[0])]
        else:
            del self._starts[low], self._ends[low]
            self._firsts[low:high] = []
        if not self._firsts:
            self._whole = Intervals()
