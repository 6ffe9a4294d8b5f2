"""Where a query's samples come from: stored as they are, or as summaries in place of them or beside them.

Beside them are rollups: a query reads the buckets that no window of it cuts there, and all else from the samples; where
retention has removed the samples, the rollup's buckets are all there is. In place of them are downsampled series: up to
a boundary of each series there are only its summaries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from kymograph.engine.interface import Engine
from kymograph.model.matcher import Matcher
from kymograph.model.schema import SAMPLES, SERIES_ID
from kymograph.model.spacing import COLUMN, unseen
from kymograph.model.summary import STATISTICS, Summaries, blended, ceil_to, summarised, together
from kymograph.model.time import TIME, micros_of
from kymograph.promql.beside import Beside, Cuts, Range, Tier, left
from kymograph.promql.index import Ints
from kymograph.promql.labels import Bools
from kymograph.promql.limits import Meter
from kymograph.promql.piece_windows import BASIC
from kymograph.promql.pieces import Pieces, of_samples
from kymograph.promql.source import Selection, SeriesSet, Source

RAW = "raw"
# times up to which series have no samples that are looked at one by one: each reads the rollups once
_FEW_BOUNDS = 4
BEGINNING = -(2**62)


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
class Held:
    """What is summarised at one moment.

    Attributes:
        levels: coarsest first.
        late: ranges of samples below the boundaries: sent again, or not in their summaries yet.
        tiers: finest first.
        lost: samples older than this may be gone, µs; BEGINNING where none is.
        pushed: int64, for each asked series the time (µs) up to which its ring may have pushed samples out, or the
            retention of its series removed them; BEGINNING where neither has.
        token: equal when nothing has changed.
    """

    levels: tuple[Level, ...]
    late: tuple[Range, ...]
    tiers: tuple[Tier, ...]
    lost: int
    pushed: Ints
    token: object


class Keeper(Protocol):
    """Who knows what is summarised."""

    def held(self, ids: Ints) -> Held | None:
        """For these series, ascending; None where nothing is summarised."""

    def unchanged(self, held: Held) -> bool: ...

    def beside(self, table: str) -> tuple[Sequence[Tier], int]:
        """The rollups of a table by all of its labels, finest first; and up to when its rows may be gone, µs."""


_NOTHING = Held((), (), (), BEGINNING, np.zeros(0, np.int64), None)


class Tiers:
    """Reads pieces for the evaluator.

    Attributes:
        keeper: who knows what is summarised.
    """

    def __init__(self, engine: Engine, keeper: Keeper) -> None:
        self._engine, self.keeper = engine, keeper

    def read(
        self,
        source: Source,
        selection: Selection,
        start: int,
        end: int,
        cuts: Cuts | None,
        meter: Meter,
        load: Callable[[], SeriesSet],
    ) -> Pieces | SeriesSet:
        """Samples and summaries that meet (start, end]; what `load` gives when all of it is there as samples.

        Staleness markers are among the samples. Samples may be replaced by summaries while they are read, the first ones
        too: then all is read once more.

        Args:
            cuts: where windows begin and end, when summaries can give the exact answer between; None: only samples can.
        """
        while True:
            held = self.keeper.held(selection.ids) if len(selection.ids) else None
            beside = [self._beside(wide) for wide in selection.wide]
            found: Pieces | SeriesSet | None = None
            if held is not None or any(tiers for tiers, _ in beside):
                meter.series(len(selection.labels))
                reading = _Reading(
                    self._engine, source, selection, held or _NOTHING, meter, BASIC if cuts is None else cuts.names
                )
                found = reading.pieces(start, end, cuts, beside)
            if found is None:
                found = load()
            if self._unchanged(selection, held):
                return found

    def _unchanged(self, selection: Selection, held: Held | None) -> bool:
        if held is not None:
            return self.keeper.unchanged(held)
        return not len(selection.ids) or self.keeper.held(selection.ids) is None

    def _beside(self, wide: Any) -> tuple[list[Tier], int]:
        tiers, lost = self.keeper.beside(wide.schema.name)
        return [tier for tier in tiers if tier.fields.issuperset(wide.fields)], lost


class _Reading:
    """One attempt at reading one selection."""

    def __init__(
        self, engine: Engine, source: Source, selection: Selection, held: Held, meter: Meter, names: tuple[str, ...]
    ) -> None:
        self._engine, self._source, self._meter, self._held = engine, source, meter, held
        self._selection, self._names = selection, names
        self._scalars = Selection(selection.labels[: len(selection.ids)], selection.ids)
        blank = np.full(len(selection.ids), BEGINNING, np.int64)
        # up to here, itself included, a series has no samples but late ones
        self._boundary = np.maximum.reduce([blank, *(level.boundary for level in held.levels)])

    def pieces(
        self, start: int, end: int, cuts: Cuts | None, beside: Sequence[tuple[Sequence[Tier], int]]
    ) -> Pieces | None:
        tiers: dict[str, None] = {}
        parts = self._of_scalars(start, end, cuts, tiers) if len(self._selection.ids) else []
        first = len(self._selection.ids)
        for wide, (there, lost) in zip(self._selection.wide, beside, strict=True):
            parts += self._of_table(
                wide, first, Beside(there, lost, *self._table(wide, first)), (start, end), cuts, tiers
            )
            first += len(wide.rows) * len(wide.fields)
        if not set(tiers) - {RAW}:
            return None
        return Pieces.of(self._selection.labels, together(parts, self._names), tuple(tiers))

    def _of_scalars(self, start: int, end: int, cuts: Cuts | None, tiers: dict[str, None]) -> list[Summaries]:
        parts: list[Summaries] = []
        pushed = self._held.pushed
        out = pushed > max(start, self._held.lost - 1)
        bounds = np.unique(pushed[out])
        below = BEGINNING
        for bound in (bounds if len(bounds) <= _FEW_BOUNDS else bounds[-1:]).tolist():
            mine = out & (pushed > below) & (pushed <= bound)
            parts += self._alone(mine, bound + 1, (start, end), cuts, tiers)
            below = bound
        if not out.all():
            parts += self._alone(~out, self._held.lost, (start, end), cuts, tiers)
        if (self._boundary > start).any():
            parts += self._downsampled(start, end, tiers)
        return parts

    def _alone(self, mine: Bools, lost: int, span: Range, cuts: Cuts | None, tiers: dict[str, None]) -> list[Summaries]:
        """Of some series what is there as samples, and in rollups beside them; `lost`: samples older may be gone, µs."""
        start, end = span

        def rows_of(tier: Tier, low: int, high: int) -> Summaries:
            rows = self._rows(tier.table, low, high)[0]
            return rows if mine.all() else rows.taken(mine[rows.series])

        lowest = max(start, int(self._boundary[mine].max()))
        parts: list[Summaries] = []
        taken: list[Range] = []
        for table, rows, spans in Beside(self._held.tiers, lost, rows_of, self._counts).read(
            lowest, end, cuts, whole=lowest > start
        ):
            tiers.setdefault(table)
            parts.append(rows)
            taken += spans
        after = np.where(mine, self._boundary, end)
        for low, high in left(start, end, taken):
            raw = self._samples(low, high, after=after)
            if len(raw):
                tiers.setdefault(RAW)
                parts.append(raw)
        return parts

    def _counts(self, tier: Tier, start: int, end: int) -> tuple[int, int]:
        rows = self._engine.scan(tier.table, (), start, end, [TIME]).rows
        there = SAMPLES in self._engine.tables()
        return rows, self._engine.scan(SAMPLES, (), start, end, [TIME]).rows if there else 0

    # fields of tables

    def _of_table(
        self, wide: Any, first: int, beside: Beside, span: Range, cuts: Cuts | None, tiers: dict[str, None]
    ) -> list[Summaries]:
        parts: list[Summaries] = []
        taken: list[Range] = []
        for table, rows, spans in beside.read(*span, cuts, whole=False):
            tiers.setdefault(table)
            parts.append(rows)
            taken += spans
        for low, high in left(*span, taken):
            rows = of_samples(self._fields(wide, low, high))
            if len(rows):
                tiers.setdefault(RAW)
                parts.append(Summaries(rows.series + first, rows.bucket, rows.columns))
        return parts

    def _fields(self, wide: Any, start: int, end: int) -> SeriesSet:
        """Fields of a table as series of their own, in (start, end]."""
        count = len(wide.rows) * len(wide.fields)
        return self._source.load(Selection([()] * count, np.zeros(0, np.int64), [wide]), start, end, self._meter)

    def _table(
        self, wide: Any, first: int
    ) -> tuple[Callable[[Tier, int, int], Summaries], Callable[[Tier, int, int], tuple[int, int]]]:
        """How the rollups of a table are read, and how much there is to read."""

        def rows(tier: Tier, start: int, end: int) -> Summaries:
            schema = self._engine.tables()[tier.table]
            known = wide.schema.labels
            order = [known.index(label) for label in schema.labels if label in known]
            # a label that has come since the last buckets were made is null in all of them
            others = [place for place in range(len(known)) if place not in order]
            some = [number for number, row in enumerate(wide.rows) if not any(row[place] for place in others)]
            if not some:
                return together([], self._names)
            labels = [tuple(wide.rows[number][place] for place in order) for number in some]
            schema = replace(schema, labels=tuple(known[place] for place in order), later=0)
            columns = [f"{field}_{name}" for field in wide.fields for name in self._names]
            found = self._fields(replace(wide, schema=schema, rows=labels, fields=columns), start - 1, end - 1)
            return _unfolded(found, np.array(some) + first, len(wide.rows), len(wide.fields), self._names)

        def counts(tier: Tier, start: int, end: int) -> tuple[int, int]:
            several = (
                self._engine.scan(table, (), start, end, [TIME]).rows for table in (tier.table, wide.schema.name)
            )
            return next(several), next(several)

        return rows, counts

    # samples and rows of scalar series

    def _samples(self, start: int, end: int, *, after: Ints | None = None, upto: Ints | None = None) -> Summaries:
        """Stored samples in (start, end] as pieces, staleness markers included."""
        rows = of_samples(self._source.load(self._scalars, start, end, self._meter))
        if after is not None and int(after.max()) > start:
            rows = rows.taken(rows["first_time"] > after[rows.series])
        if upto is not None:
            rows = rows.taken(rows["first_time"] <= upto[rows.series])
        return rows

    def _rows(
        self, table: str, start: int, end: int, names: Sequence[str] | None = None, more: Sequence[str] = ()
    ) -> tuple[Summaries, pa.Table | None]:
        """Stored summaries with a time in [start, end), by place, and what they were read from, with more columns."""
        ids, names = self._selection.ids, self._names if names is None else names
        schema = self._engine.tables().get(table)
        if schema is None:
            return together([]), None
        columns = [SERIES_ID, TIME, *names, *(name for name in more if name in schema.columns)]
        everything = len(ids) == len(self._engine.series())
        matchers = () if everything else (Matcher(SERIES_ID, "in", frozenset(ids.tolist())),)
        found = self._engine.scan(table, matchers, start, end, columns).table()
        self._meter.spend(found.num_rows)
        if found[names[0]].null_count:  # buckets of nothing but staleness markers
            found = found.filter(found[names[0]].is_valid())
        place = np.searchsorted(ids, found[SERIES_ID].to_numpy())
        statistics = {name: found[name].to_numpy() for name in names}
        return Summaries(place, micros_of(found[TIME].combine_chunks()), statistics), found

    # summaries in place of the samples

    def _downsampled(self, start: int, end: int, tiers: dict[str, None]) -> Iterator[Summaries]:
        below = np.full(len(self._boundary), BEGINNING, np.int64)
        for level in self._held.levels:
            # before the summaries, which have them already when both are read while they are merged
            late = self._late(level, below, start, end)
            names = tuple(STATISTICS) if len(late) else None
            rows, found = self._rows(level.table, start + 1, end + level.width, names, (COLUMN,) if len(late) else ())
            if found is not None and len(late):
                times = found[COLUMN] if COLUMN in found.column_names else None
                late = late.taken(unseen(rows, times, level.width, late.series, late.bucket))
            inside = (rows.bucket > below[rows.series]) & (rows.bucket <= level.boundary[rows.series])
            if not inside.all():
                rows = rows.taken(inside)
            if len(late):
                bucket = ceil_to(late.bucket, level.width)
                late = summarised(late.series, bucket, late["first_time"], late["first"])
                rows = blended(together([rows, late]))
            if len(rows):
                tiers.setdefault(level.table)
                yield rows
            below = np.maximum(below, level.boundary)

    def _late(self, level: Level, below: Ints, start: int, end: int) -> Summaries:
        """Samples that came after their buckets had been summarised, those that were sent again among them."""
        parts = []
        for low, high in self._held.late:
            first, last = max(low - 1, start - level.width), min(high - 1, end + level.width)
            if first < last:
                rows = self._samples(first, last, after=below, upto=level.boundary)
                parts.append(rows.taken(~_stale(rows)))
        return together(parts)


def _unfolded(found: SeriesSet, series: Ints, rows: int, fields: int, names: Sequence[str]) -> Summaries:
    """Summaries of `series` of one field, and of those `rows` further on of each other one, from the columns of each,
    which came as series of their own."""
    parts = []
    for field in range(fields):
        columns = {}
        for place, name in enumerate(names):
            block = (field * len(names) + place) * len(series)
            low, high = found.offsets[block], found.offsets[block + len(series)]
            values = found.values[low:high]
            columns[name] = values.astype(np.int64) if STATISTICS[name] == "int64" else values
        counts = np.diff(found.offsets[block : block + len(series) + 1])
        parts.append(Summaries(np.repeat(series + field * rows, counts), found.times[low:high], columns))
    return together(parts, names)


def _stale(rows: Summaries) -> Bools:
    found: Bools = SeriesSet([], rows.bucket, np.ascontiguousarray(rows["first"]), rows.bucket).stale
    return found
