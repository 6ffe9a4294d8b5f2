"""When the samples of summaries were, in few numbers: stretches of even steps from the first sample to the last.

A summary that knows the times of its samples can tell one that is sent again from one that it has not seen. Even spacing
is one stretch however many samples it has. Where the spacing is so uneven that it would take more than `MOST` stretches,
only the widest holes are kept, and what lies between them is `full`: as if there were a sample at every time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.model.summary import Ints, Summaries, ceil_to

COLUMN = "times"
# stretches of one summary: more would take more room than the summary itself
MOST = 16
# a hole is so many times wider than the mean step
_HOLE = 2
Bools = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Spacing:
    """The times of the samples of N summaries.

    Attributes:
        first: of each summary the time of its first sample, µs.
        row: of each of M stretches the summary, ascending; those of one summary follow each other without a break.
        width: of each stretch, µs, > 0.
        steps: even steps that it has; 0: it is full.
    """

    first: Ints
    row: Ints
    width: Ints
    steps: Ints

    @classmethod
    def of(cls, row: Ints, times: Ints, full: Bools | None = None) -> Spacing:
        """Of samples sorted by summary and time, every summary from 0 on having one; `full`: what lies before a sample is."""
        head = np.ones(len(row), np.bool_)
        head[1:] = row[1:] != row[:-1]
        inner = np.flatnonzero(~head)
        steps = np.ones(len(inner), np.int64) if full is None else np.where(full[inner], 0, 1)
        return cls(times[head], row[inner], times[inner] - times[inner - 1], steps)._short()

    @classmethod
    def read(cls, text: pa.ChunkedArray | pa.Array | None, first: Ints, last: Ints) -> Spacing:
        """From what `text` gave; where there is none (null, or no text at all), all from first to last is full."""
        text = pa.nulls(len(first), pa.string()) if text is None else text
        known = text.is_valid().to_numpy(zero_copy_only=False)
        found = pc.split_pattern(pc.fill_null(text, ""), ",")
        found = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
        row = np.repeat(np.arange(len(first)), pc.list_value_length(found).to_numpy(zero_copy_only=False))
        words = found.flatten()
        there = pc.not_equal(words, "").to_numpy(zero_copy_only=False)
        numbers = pc.split_pattern(words.filter(pa.array(there)), "x").flatten().cast(pa.int64()).to_numpy()
        row, width, steps = row[there], numbers[::2], numbers[1::2]
        blank = np.flatnonzero(~known & (last > first))
        if len(blank):
            row, width = np.append(row, blank), np.append(width, (last - first)[blank])
            order = np.argsort(row, kind="stable")
            row, width, steps = row[order], width[order], np.append(steps, np.zeros(len(blank), np.int64))[order]
        return cls(first, row, width, steps)

    def text(self) -> pa.Array:
        """N texts: `1000000x59,7000000x1` is 59 steps that take 1 s together, then one of 7 s."""
        words = pc.binary_join_element_wise(
            *(pa.array(part).cast(pa.string()) for part in (self.width, self.steps)), "x"
        )
        counts = np.bincount(self.row, minlength=len(self.first))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        return pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), words), ",")

    def holds(self, row: Ints, times: Ints) -> Bools:
        """Which times, each of a summary, may be those of its samples; all that are, are."""
        start = self._starts()
        kind = np.repeat([0, 1], [len(self.row), len(row)])
        order = np.lexsort((kind, np.append(start, times), np.append(self.row, row)))
        # of each the stretch that begins last before it
        before = np.maximum.accumulate(np.where(kind[order] == 0, order, -1))
        asked = kind[order] == 1
        at = np.empty(len(row), np.int64)
        at[order[asked] - len(self.row)] = before[asked]
        held: Bools = times == self.first[row]
        some = np.flatnonzero((at >= 0) & ~held)
        some = some[self.row[at[some]] == row[some]]
        at = at[some]
        apart, steps = times[some] - start[at], self.steps[at]
        even = apart % np.maximum(self.width[at] // np.maximum(steps, 1), 1) == 0
        held[some] = (apart <= self.width[at]) & (even | (steps == 0))
        return held

    def with_samples(self, row: Ints, times: Ints) -> Spacing:
        """With samples more, none of which it holds."""
        count = np.maximum(self.steps, 1)
        each = np.repeat(np.arange(len(self.row)), count)
        number = np.arange(len(each)) - np.repeat(np.cumsum(count) - count, count) + 1
        stretch = self._starts()[each] + self.width[each] // count[each] * number
        rows = np.concatenate([np.arange(len(self.first)), self.row[each], row])
        moments = np.concatenate([self.first, stretch, times])
        full = np.concatenate(
            [np.zeros(len(self.first), np.bool_), self.steps[each] == 0, np.zeros(len(row), np.bool_)]
        )
        order = np.lexsort((moments, rows))
        return Spacing.of(rows[order], moments[order], full[order])

    def joined(self, parts: Summaries) -> Spacing:
        """Of what `summary.joined` makes of these summaries, whose spacing this is."""
        inner = np.zeros(len(parts), np.bool_)
        inner[1:] = (parts.series[1:] == parts.series[:-1]) & (parts.bucket[1:] == parts.bucket[:-1])
        run = np.cumsum(~inner) - 1
        later = np.flatnonzero(inner)
        between = parts["first_time"][later] - parts["last_time"][later - 1]
        row = np.concatenate([later * 2, self.row * 2 + 1])
        order = np.argsort(row, kind="stable")
        width = np.concatenate([between, self.width])[order]
        steps = np.concatenate([np.ones(len(later), np.int64), self.steps])[order]
        return Spacing(self.first[~inner], run[row[order] // 2], width, steps)._short()

    def _starts(self) -> Ints:
        ended = np.cumsum(self.width)
        head = np.searchsorted(self.row, self.row)
        begun = ended - self.width
        found: Ints = self.first[self.row] + begun - begun[head]
        return found

    def _short(self) -> Spacing:
        """Neighbours of equal steps as one stretch, and no more than `MOST` of a summary."""
        found = self._even()
        counts = np.bincount(found.row, minlength=len(self.first))
        many = counts[found.row] > MOST
        if not many.any():
            return found
        width = np.bincount(found.row, found.width, len(self.first))
        samples = np.bincount(found.row, np.maximum(found.steps, 1), len(self.first))
        step = found.width // np.maximum(found.steps, 1)
        hole = (found.steps == 1) & (step >= _HOLE * (width / np.maximum(samples, 1))[found.row])
        order = np.lexsort((-step, ~hole, found.row))
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order)) - np.searchsorted(found.row, found.row)
        # as many holes again as full stretches between them
        kept = hole & (rank < MOST // 2 - 1)
        return Spacing(self.first, found.row, found.width, np.where(many & ~kept, 0, found.steps))._even()

    def _even(self) -> Spacing:
        if not len(self.row):
            return self
        step = self.width // np.maximum(self.steps, 1)
        same = (step[1:] == step[:-1]) & (self.steps[1:] > 0) & (self.steps[:-1] > 0)
        same |= (self.steps[1:] == 0) & (self.steps[:-1] == 0)
        starts = np.flatnonzero(np.append(True, ~(same & (self.row[1:] == self.row[:-1]))))
        if len(starts) == len(self.row):
            return self
        width, steps = (np.add.reduceat(column, starts) for column in (self.width, self.steps))
        return Spacing(self.first, self.row[starts], width, steps)


def unseen(rows: Summaries, text: pa.ChunkedArray | pa.Array | None, width: int, series: Ints, times: Ints) -> Bools:
    """Which samples are in none of the summaries of their series, whose buckets are (time - width, time].

    Args:
        text: for each summary what `Spacing.text` gave.
    """
    new = np.ones(len(times), np.bool_)
    if not len(rows) or not len(times):
        return new
    # buckets are at least a second wide, so that this is one number for each
    stored = rows.series * 2**40 + rows.bucket // width
    wanted, row = np.unique(series * 2**40 + ceil_to(times, width) // width, return_inverse=True)
    some = np.flatnonzero(np.isin(stored, wanted))
    if not len(some):
        return new
    some = some[np.argsort(stored[some])]
    spacing = Spacing.read(
        None if text is None else text.take(pa.array(some)), rows["first_time"][some], rows["last_time"][some]
    )
    place = np.minimum(np.searchsorted(stored[some], wanted), len(some) - 1)
    known = np.flatnonzero((stored[some][place] == wanted)[row])
    new[known] = ~spacing.holds(place[row[known]], times[known])
    return new
