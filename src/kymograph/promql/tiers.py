"""Where a query's samples come from: stored as they are, or as summaries in place of them or beside them.

Beside them are rollups: a query reads the buckets that no window of it cuts there, and all else from the samples; where
retention has removed the samples, the rollup's buckets are all there is. In place of them are downsampled series: up to
a boundary of each series there are only its summaries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kymograph.engine.interface import Engine
from kymograph.model.matcher import Matcher
from kymograph.model.schema import SAMPLES, SERIES_ID
from kymograph.model.summary import STATISTICS, Summaries, blended, ceil_to, summarised, together
from kymograph.model.time import TIME, micros_of
from kymograph.promql.frame import Grid
from kymograph.promql.index import Ints
from kymograph.promql.labels import Bools
from kymograph.promql.limits import Meter
from kymograph.promql.piece_windows import BASIC, SUMS, needed
from kymograph.promql.pieces import Pieces, of_samples
from kymograph.promql.source import Selection, SeriesSet, Source

RAW = "raw"
VERSION = "version"
BEGINNING = -(2**62)
_LEAST_BUCKETS = 8
# a row of a tier takes as long to read as so many samples
_COLUMNS_PER_SAMPLE = 3
# and so long to begin reading samples once more (measured: 3 ms)
_SAMPLES_PER_STRETCH = 25_000
_FEW_STRETCHES = 8
Range = tuple[int, int]


@dataclass(frozen=True)
class Level:
    """Summaries in place of samples, of buckets (time - width, time].

    Attributes:
        table: by series, with the statistics as columns.
        width: µs.
        boundary: int64, for each asked series the time (µs) up to which, itself included, this level or a coarser one
            holds it; BEGINNING where none does.
    """

    table: str
    width: int
    boundary: Ints


@dataclass(frozen=True)
class Tier:
    """Summaries beside the samples of all series, of buckets [time, time + width).

    Attributes:
        table: by series, with the statistics as columns.
        width: µs.
        oldest: of its rows, µs; None where it has none.
        upto: buckets that end later are not made yet, µs.
        touched: ranges of buckets that may not be believed at present.
    """

    table: str
    width: int
    oldest: int | None
    upto: int
    touched: tuple[Range, ...]


@dataclass(frozen=True)
class Held:
    """What is summarised at one moment.

    Attributes:
        levels: coarsest first.
        late: ranges of samples below the boundaries that are not in their summaries yet, unless
        merging: summaries of this version already have them; 0: none has.
        tiers: finest first.
        lost: samples older than this may be gone, µs; BEGINNING where none is.
        token: equal when nothing has changed.
    """

    levels: tuple[Level, ...]
    late: tuple[Range, ...]
    merging: int
    tiers: tuple[Tier, ...]
    lost: int
    token: object


class Keeper(Protocol):
    """Who knows what is summarised."""

    def held(self, ids: Ints) -> Held | None:
        """For these series, ascending; None where nothing is summarised."""

    def unchanged(self, held: Held) -> bool: ...


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


class Tiers:
    """Reads pieces for the evaluator."""

    def __init__(self, engine: Engine, keeper: Keeper) -> None:
        self._engine, self._keeper = engine, keeper

    def pieces(
        self, source: Source, selection: Selection, start: int, end: int, cuts: Cuts | None, meter: Meter
    ) -> Pieces | None:
        """Samples and summaries that meet (start, end], or None when all of it is there as samples.

        Staleness markers are among the samples.

        Args:
            cuts: where windows begin and end, when summaries can give the exact answer between; None: only samples can.
        """
        if not len(selection.ids):
            return None
        while True:
            held = self._keeper.held(selection.ids)
            if held is None:
                return None
            meter.series(len(selection.labels))
            found = _Reading(self._engine, source, selection, held, meter).pieces(start, end, cuts)
            if self._keeper.unchanged(held):
                return found


class _Reading:
    """One attempt at reading one selection."""

    def __init__(self, engine: Engine, source: Source, selection: Selection, held: Held, meter: Meter) -> None:
        self._engine, self._source, self._meter, self._held = engine, source, meter, held
        self._selection = selection
        self._scalars = Selection(selection.labels[: len(selection.ids)], selection.ids)
        self._names: tuple[str, ...] = BASIC
        blank = np.full(len(selection.ids), BEGINNING, np.int64)
        # up to here, itself included, a series has no samples but late ones
        self._boundary = np.maximum.reduce([blank, *(level.boundary for level in held.levels)])

    def pieces(self, start: int, end: int, cuts: Cuts | None) -> Pieces | None:
        lowest = max(start, int(self._boundary.max()))
        self._names = BASIC if cuts is None else cuts.names
        tiers: dict[str, None] = {}
        parts: list[Summaries] = []
        taken: list[Range] = []
        for tier, low, high in self._outlived(lowest, end, whole=lowest > start):
            tiers.setdefault(tier.table)
            parts.append(self._rows(tier.table, low, high)[0])
            taken.append((low, high))
        if cuts is not None:
            present = max(lowest, max((high for _, high in taken), default=lowest + 1) - 1)
            for tier in reversed(self._held.tiers):
                routed = self._routed(tier, present, end, cuts)
                if routed is not None:
                    tiers.setdefault(tier.table)
                    parts.append(routed[0])
                    taken += routed[1]
                    break
        replaced = bool((self._boundary > start).any())
        if not taken and not replaced:
            return None
        for low, high in _left(start, end, taken):
            raw = self._samples(low, high, after=self._boundary)
            if len(raw):
                tiers.setdefault(RAW)
                parts.append(raw)
        if replaced:
            parts += self._downsampled(start, end, tiers)
        parts += self._others(start, end)
        return Pieces.of(self._selection.labels, together(parts, self._names), tuple(tiers))

    def _samples(self, start: int, end: int, *, after: Ints | None = None, upto: Ints | None = None) -> Summaries:
        """Stored samples in (start, end] as pieces, staleness markers included."""
        rows = of_samples(self._source.load(self._scalars, start, end, self._meter))
        if after is not None and int(after.max()) > start:
            rows = rows.taken(rows["first_time"] > after[rows.series])
        if upto is not None:
            rows = rows.taken(rows["first_time"] <= upto[rows.series])
        return rows

    def _others(self, start: int, end: int) -> list[Summaries]:
        """Fields of tables, which have no summaries."""
        if not self._selection.wide:
            return []
        first = len(self._selection.ids)
        none = np.zeros(0, np.int64)
        rest = Selection(self._selection.labels[first:], none, self._selection.wide)
        rows = of_samples(self._source.load(rest, start, end, self._meter))
        return [Summaries(rows.series + first, rows.bucket, rows.columns)]

    # summaries beside the samples

    def _outlived(self, start: int, end: int, *, whole: bool) -> Iterator[tuple[Tier, int, int]]:
        """Stretches [low, high) whose samples may be gone; with `whole` only of buckets that begin after `start`."""
        gone, nothing = self._held.lost, True
        for tier in self._held.tiers:  # finest first: what the finer ones have lost, too, the coarser may have
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
        rows, _ = self._rows(tier.table, low * tier.width, high * tier.width)
        number = rows.bucket // tier.width - low
        _spoil(good, number[cuts.cut(rows)])
        if not _pays(good) or saved <= _price(good):
            return None
        flips = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]])))
        spans = ((flips + low) * tier.width).reshape(-1, 2).tolist()
        return rows.taken(good[number]), [(first, last) for first, last in spans]

    def _saved(self, tier: Tier, start: int, end: int) -> int:
        """How many samples could be read in the time that the tier's fewer rows, but more columns save."""
        if SAMPLES not in self._engine.tables():
            return 2**62
        rows, samples = (self._engine.scan(table, (), start, end, [TIME]).rows for table in (tier.table, SAMPLES))
        return samples - rows * _COLUMNS_PER_SAMPLE

    def _rows(self, table: str, start: int, end: int, names: Sequence[str] | None = None) -> tuple[Summaries, Ints]:
        """Stored summaries with a time in [start, end), by place, and their versions."""
        ids, names = self._selection.ids, self._names if names is None else names
        schema = self._engine.tables().get(table)
        if schema is None:
            return together([]), np.zeros(0, np.int64)
        versioned = VERSION in schema.columns
        columns = [SERIES_ID, TIME, *names, *([VERSION] if versioned else [])]
        everything = len(ids) == len(self._engine.series())
        matchers = () if everything else (Matcher(SERIES_ID, "in", frozenset(ids.tolist())),)
        found = self._engine.scan(table, matchers, start, end, columns).table()
        self._meter.spend(found.num_rows)
        place = np.searchsorted(ids, found[SERIES_ID].to_numpy())
        statistics = {name: found[name].to_numpy() for name in names}
        rows = Summaries(place, micros_of(found[TIME].combine_chunks()), statistics)
        version = found[VERSION].to_numpy() if versioned else np.zeros(found.num_rows, np.int64)
        return rows, version

    # summaries in place of the samples

    def _downsampled(self, start: int, end: int, tiers: dict[str, None]) -> Iterator[Summaries]:
        below = np.full(len(self._boundary), BEGINNING, np.int64)
        for level in self._held.levels:
            late = self._late(level, below, start, end)
            names = tuple(STATISTICS) if len(late) else None
            rows, version = self._rows(level.table, start + 1, end + level.width, names)
            inside = (rows.bucket > below[rows.series]) & (rows.bucket <= level.boundary[rows.series])
            if not inside.all():
                rows, version = rows.taken(inside), version[inside]
            if len(late):
                done = rows.taken(version == self._held.merging) if self._held.merging else rows.taken(slice(0))
                late = late.taken(~np.isin(_keys(late, level.width), _keys(done, level.width)))
                rows = blended(together([rows, late]))
            if len(rows):
                tiers.setdefault(level.table)
                yield rows
            below = np.maximum(below, level.boundary)

    def _late(self, level: Level, below: Ints, start: int, end: int) -> Summaries:
        """Samples that came after their buckets had been summarised, summarised the same way."""
        parts = []
        for low, high in self._held.late:
            first, last = max(low - 1, start - level.width), min(high - 1, end + level.width)
            if first < last:
                rows = self._samples(first, last, after=below, upto=level.boundary)
                parts.append(rows.taken(~_stale(rows)))
        rows = together(parts)
        bucket = ceil_to(rows["first_time"], level.width)
        return summarised(rows.series, bucket, rows["first_time"], rows["first"])


def _keys(rows: Summaries, width: int) -> Ints:
    """One number per series and bucket; buckets are at least a second wide."""
    found: Ints = rows.series * 2**40 + rows.bucket // width
    return found


def _stale(rows: Summaries) -> Bools:
    found: Bools = SeriesSet([], rows.bucket, np.ascontiguousarray(rows["first"]), rows.bucket).stale
    return found


def _spoil(good: Bools, numbers: Ints) -> None:
    good[numbers[(numbers >= 0) & (numbers < len(good))]] = False


def _pays(good: Bools) -> bool:
    """Whether enough buckets are left."""
    return bool(good.any() and good.sum() * 2 >= len(good))


def _price(good: Bools) -> int:
    """What it costs to read the stretches of samples between the buckets that are left, in samples."""
    stretches = int((np.diff(good.astype(np.int8)) == 1).sum())
    return 0 if stretches <= _FEW_STRETCHES else stretches * _SAMPLES_PER_STRETCH


def _left(start: int, end: int, taken: Sequence[Range]) -> Iterator[Range]:
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
    for start, end in _left(low - 1, high - 1, taken):
        yield start + 1, end + 1


def _floor(time: int, width: int) -> int:
    return time // width * width
