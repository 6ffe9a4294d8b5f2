"""Which buckets of rollups a query reads, and which stretches of the samples beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kymograph.model.summary import Summaries
from kymograph.promql.frame import Grid
from kymograph.promql.index import Ints
from kymograph.promql.labels import Bools
from kymograph.promql.piece_windows import SUMS, needed

_LEAST_BUCKETS = 8
# a row of a tier takes as long to read as so many samples
_COLUMNS_PER_SAMPLE = 3
# and so long to begin reading samples once more (measured: 3 ms)
_SAMPLES_PER_STRETCH = 25_000
_FEW_STRETCHES = 16
Range = tuple[int, int]


@dataclass(frozen=True)
class Tier:
    """Summaries beside the samples of all series, of buckets [time, time + width).

    Attributes:
        table: by series, with the statistics as columns.
        width: µs.
        oldest: of its rows, µs; None where it has none.
        upto: buckets that end later are not made yet, µs.
        touched: ranges of buckets that may not be believed at present.
        fields: of a table; none for scalar samples.
    """

    table: str
    width: int
    oldest: int | None
    upto: int
    touched: tuple[Range, ...]
    fields: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Cuts:
    """What a function over windows needs.

    Attributes:
        times: int64 µs ascending; a window begins or ends right after such a time.
        names: the statistics.
        firsts: whether a summary may lose its first sample to a window's start and still give the exact answer.
    """

    times: Ints
    names: tuple[str, ...]
    firsts: bool

    @classmethod
    def of(cls, function: str, grid: Grid, width: int) -> Cuts:
        return cls(np.unique([grid.times - width, grid.times]), needed(function), function in SUMS)

    def inside(self, width: int) -> Ints:
        """Numbers of the buckets [n × width, (n + 1) × width) that are cut behind their beginning, ascending."""
        place = self.times % width
        found: Ints = np.unique(self.times[(place > 0) & (place < width - 1)] // width)
        return found

    def cut(self, rows: Summaries) -> Bools:
        """Which summaries a window does cut."""
        at = np.searchsorted(self.times, rows["first_time"], side="right" if self.firsts else "left")
        edge = self.times[np.minimum(at, len(self.times) - 1)]
        found: Bools = (at < len(self.times)) & (edge < rows["last_time"])
        return found


class Beside:
    """One choice among the tiers of some series.

    Args:
        tiers: finest first.
        lost: samples older than this may be gone, µs.
        rows: a tier's rows with a time in [start, end).
        counts: about how many rows a tier has there, and how many samples there are.
    """

    def __init__(
        self,
        tiers: Sequence[Tier],
        lost: int,
        rows: Callable[[Tier, int, int], Summaries],
        counts: Callable[[Tier, int, int], tuple[int, int]],
    ) -> None:
        self._tiers, self._lost, self._rows, self._counts = tiers, lost, rows, counts

    def read(
        self, start: int, end: int, cuts: Cuts | None, *, whole: bool
    ) -> Iterator[tuple[str, Summaries, list[Range]]]:
        """Table, rows and stretches [low, high) of what is read of (start, end] in place of samples.

        Args:
            cuts: None: only what is not there as samples.
            whole: no bucket may begin at or before `start`.
        """
        present = start
        for tier, low, high in self._outlived(start, end, whole=whole):
            present = max(present, high - 1)
            yield tier.table, self._rows(tier, low, high), [(low, high)]
        for tier in reversed(self._tiers if cuts is not None else ()):
            assert cuts is not None
            routed = self._routed(tier, present, end, cuts)
            if routed is not None:
                yield tier.table, *routed
                return

    def _outlived(self, start: int, end: int, *, whole: bool) -> Iterator[tuple[Tier, int, int]]:
        """Stretches [low, high) whose samples may be gone; with `whole` only of buckets that begin after `start`."""
        gone, nothing = self._lost, True
        for tier in self._tiers:  # finest first: what the finer ones have lost, too, the coarser may have
            if tier.oldest is None or gone <= start:
                continue
            low = -(-(start + 1) // tier.width) * tier.width if whole else _floor(start + 1, tier.width)
            low = max(low, _floor(tier.oldest, tier.width))
            # the bucket in which samples begin to be there is whole only in the rollup
            high = min(-(-gone // tier.width) * tier.width if nothing else _floor(gone, tier.width), tier.upto, end + 1)
            if low < high:
                for first, last in _left_of(low, -(-high // tier.width) * tier.width, tier.touched):
                    yield tier, first, last
                gone, nothing = low, False

    def _routed(self, tier: Tier, start: int, end: int, cuts: Cuts) -> tuple[Summaries, list[Range]] | None:
        """Rows of the buckets after `start` that a tier gives exactly, and where; None where it would save little."""
        low, high = -(-(start + 1) // tier.width), min(end + 1, tier.upto) // tier.width
        if high - low < _LEAST_BUCKETS or tier.oldest is None:
            return None
        good = np.ones(high - low, np.bool_)
        _spoil(good, cuts.inside(tier.width) - low)
        for first, last in tier.touched:
            good[max(0, first // tier.width - low) : max(0, -(-last // tier.width) - low)] = False
        if not _pays(good):
            return None
        saved = self._saved(tier, low * tier.width, high * tier.width)
        if saved <= _price(good):
            return None
        rows = self._rows(tier, low * tier.width, high * tier.width)
        number = rows.bucket // tier.width - low
        _spoil(good, number[cuts.cut(rows)])
        if not _pays(good) or saved <= _price(good):
            return None
        flips = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]])))
        spans = ((flips + low) * tier.width).reshape(-1, 2).tolist()
        return rows.taken(good[number]), [(first, last) for first, last in spans]

    def _saved(self, tier: Tier, start: int, end: int) -> int:
        """How many samples could be read in the time that the tier's fewer rows, but more columns save."""
        rows, samples = self._counts(tier, start, end)
        return samples - rows * _COLUMNS_PER_SAMPLE


def _spoil(good: Bools, numbers: Ints) -> None:
    good[numbers[(numbers >= 0) & (numbers < len(good))]] = False


def _pays(good: Bools) -> bool:
    """Whether enough buckets are left."""
    return bool(good.any() and good.sum() * 2 >= len(good))


def _price(good: Bools) -> int:
    """What it costs to read the stretches of samples between the buckets that are left, in samples."""
    stretches = int((np.diff(good.astype(np.int8)) == 1).sum())
    return 0 if stretches <= _FEW_STRETCHES else stretches * _SAMPLES_PER_STRETCH


def left(start: int, end: int, taken: Sequence[Range]) -> Iterator[Range]:
    """What of (start, end] lies in none of the ranges [low, high), each as (start, end]."""
    at = start
    for low, high in sorted(taken):
        if low - 1 > at:
            yield at, min(low - 1, end)
        at = max(at, high - 1)
    if at < end:
        yield at, end


def _left_of(low: int, high: int, taken: Sequence[Range]) -> Iterator[Range]:
    """What of [low, high) lies in none of the ranges [start, end)."""
    for start, end in left(low - 1, high - 1, taken):
        yield start + 1, end + 1


def _floor(time: int, width: int) -> int:
    return time // width * width
