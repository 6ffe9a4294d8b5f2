"""Tells queries what is summarised, beside the samples and in place of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kymograph.engine.interface import Engine
from kymograph.model.schema import SAMPLES, SERIES_ID
from kymograph.model.summary import Ints
from kymograph.promql.beside import Range, Tier
from kymograph.promql.index import LabelIndex
from kymograph.promql.tiers import BEGINNING, Held, Level
from kymograph.sql.partial.tier import Replaced
from kymograph.sql.partial.tier import Tier as SqlTier
from kymograph.store.jobs import now_micros
from kymograph.store.rollups import definition, touched
from kymograph.store.rollups.definition import ROWS, Rollup
from kymograph.store.rollups.downsampling import Downsampling
from kymograph.store.rollups.gone import Gone
from kymograph.store.rollups.levels import DOCUMENT, KEY, State
from kymograph.store.rollups.lines import Line, boundaries, table_of
from kymograph.store.rollups.replaced import replaced
from kymograph.store.rollups.rollups import Rollups
from kymograph.store.rollups.touched import Touched

_VALUE = "value"


class WritersKeeper:
    """Of the store that writes: from what it has in memory."""

    def __init__(
        self, engine: Engine, noted: Touched, rollups: Rollups, downsampling: Downsampling, gone: Gone
    ) -> None:
        self._engine, self._touched, self._gone = engine, noted, gone
        self._rollups, self._downsampling = rollups, downsampling

    def held(self, ids: Ints) -> Held | None:
        """See `promql.tiers.Keeper`."""
        with self._downsampling.settled():
            state = self._downsampling.state
            late = self._touched.ranges(KEY)
        bounds, tiers = self._downsampling.boundaries(ids), _tiers(self._engine, self._now())
        return _held(self._gone, ids, bounds, late, tiers, self._touched.lost(SAMPLES), state.count)

    def beside(self, table: str) -> tuple[list[Tier], int]:
        """See `promql.tiers.Keeper`."""
        return _table_tiers(self._engine, self._now(), table), self._touched.lost(table)

    def tiers_of(self, table: str, series: Callable[[], Ints]) -> list[SqlTier]:
        """See `sql.partial.tier.TierKeeper`."""
        return _sql_tiers(self._engine, self._now(), table, self._touched.lost(table), self._gone, series)

    def replaced(self, ids: Ints, start: int | None, end: int | None) -> Replaced | None:
        """See `sql.partial.tier.TierKeeper`."""
        with self._downsampling.settled():
            late = self._touched.ranges(KEY)
        return replaced(self._engine, self._downsampling.boundaries(ids), late, ids, (start, end))

    def changes(self) -> object:
        """See `sql.partial.tier.TierKeeper`."""
        return self._downsampling.state.count

    def replaced_upto(self) -> int | None:
        """See `sql.partial.tier.TierKeeper`."""
        return _replaced(self._downsampling.state)

    def summarises(self) -> bool:
        """See `sql.partial.tier.TierKeeper`."""
        return bool(self._rollups.known()) or self.replaced_upto() is not None

    def _now(self) -> _Now:
        known = self._rollups.known()
        upto = {name: self._touched.upto(name) for name in known}
        return _Now(known, upto, {name: self._touched.ranges(name) for name in known}, self._touched.lost)

    def unchanged(self, held: Held) -> bool:
        return bool(held.token == self._downsampling.state.count)


class ReadersKeeper:
    """Of a store that reads beside the writing process: from the documents that it leaves."""

    def __init__(self, engine: Engine, gone: Gone) -> None:
        self._engine, self._gone = engine, gone
        self._index = LabelIndex()

    def held(self, ids: Ints) -> Held | None:
        """See `promql.tiers.Keeper`."""
        engine = self._engine
        told = engine.get_document(*DOCUMENT)
        state = State.of(told)
        bounds = boundaries(((line, self._ids(line)) for line in state.lines), ids)
        late = _ranges(engine.documents(touched.DOCUMENT), KEY)
        return _held(self._gone, ids, bounds, late, _tiers(engine, self._now()), self._lost(SAMPLES), told)

    def beside(self, table: str) -> tuple[list[Tier], int]:
        """See `promql.tiers.Keeper`."""
        return _table_tiers(self._engine, self._now(), table), self._lost(table)

    def tiers_of(self, table: str, series: Callable[[], Ints]) -> list[SqlTier]:
        """See `sql.partial.tier.TierKeeper`."""
        return _sql_tiers(self._engine, self._now(), table, self._lost(table), self._gone, series)

    def replaced(self, ids: Ints, start: int | None, end: int | None) -> Replaced | None:
        """See `sql.partial.tier.TierKeeper`."""
        state = State.of(self.changes())
        bounds = boundaries(((line, self._ids(line)) for line in state.lines), ids)
        late = _ranges(self._engine.documents(touched.DOCUMENT), KEY)
        return replaced(self._engine, bounds, late, ids, (start, end))

    def changes(self) -> object:
        """See `sql.partial.tier.TierKeeper`."""
        return self._engine.get_document(*DOCUMENT)

    def replaced_upto(self) -> int | None:
        """See `sql.partial.tier.TierKeeper`."""
        return _replaced(State.of(self._engine.get_document(*DOCUMENT)))

    def summarises(self) -> bool:
        """See `sql.partial.tier.TierKeeper`."""
        return bool(self._engine.documents(definition.DOCUMENT)) or self.replaced_upto() is not None

    def _now(self) -> _Now:
        engine = self._engine
        watches, notes = engine.documents(touched.WATCH), engine.documents(touched.DOCUMENT)
        told = {name: one for name, one in engine.documents(definition.DOCUMENT).items() if name in watches}
        upto = {name: watches[name]["upto"] for name in told}
        known = {name: Rollup.from_document(one) for name, one in told.items()}
        return _Now(known, upto, {name: _ranges(notes, name) for name in known}, self._lost)

    def _lost(self, table: str) -> int:
        found = self._engine.get_document(touched.LOST, table)
        return BEGINNING if found is None else int(found)

    def unchanged(self, held: Held) -> bool:
        return bool(held.token == self._engine.get_document(*DOCUMENT))

    def _ids(self, line: Line) -> Ints | None:
        if not line.chosen:
            return None
        self._index.refresh(self._engine.series())
        return self._index.select(line.matchers)[0]


def _ranges(notes: Mapping[str, Any], key: str) -> list[Range]:
    return sorted((start, end) for start, end, _ in notes.get(key) or [])


@dataclass(frozen=True)
class _Now:
    """The rollups of one moment, up to when each is made, what was touched of each, and up to when rows of a table are gone."""

    known: Mapping[str, Rollup]
    upto: Mapping[str, int]
    touched: Mapping[str, list[Range]]
    lost: Callable[[str], int]

    def chain(self, name: str) -> list[str]:
        """A rollup and those below it, down to the one that is made of rows."""
        chain = [name]
        while self.known[chain[-1]].source in self.known:
            chain.append(self.known[chain[-1]].source)
        return chain

    def reach(self, name: str) -> tuple[int, tuple[Range, ...]]:
        """Up to when a rollup is made, and what of it may not be believed: what it is made of has to be made first."""
        chain = self.chain(name)
        noted = [one for each in chain for one in self.touched[each]]
        # late data further back is not looked at, so there only the rows themselves know
        offsets = [self.known[each].start_offset for each in chain]
        # and where these are gone, the summaries do
        lost = -(-self.lost(self.known[chain[-1]].source) // self.known[name].every) * self.known[name].every
        ends = [now_micros() - offset for offset in offsets if offset is not None]
        noted += [(lost, end) for end in ends if lost < end]
        return min(self.upto[each] for each in chain), tuple(sorted(noted))


def _tiers(engine: Engine, now: _Now) -> list[Tier]:
    """The rollups whose rows are the summaries of single scalar series."""
    found = []
    for name, rollup in now.known.items():
        if rollup.by_series and not rollup.query and name in engine.tables():
            upto, noted = now.reach(name)
            found.append(Tier(name, rollup.every, engine.statistics(name).oldest, upto, noted))
    return found


def _table_tiers(engine: Engine, now: _Now, table: str) -> list[Tier]:
    """The rollups of a table whose rows are the summaries of single series."""
    found = []
    for name, rollup in now.known.items():
        if rollup.grouped or rollup.query or rollup.by_series or now.known[now.chain(name)[-1]].source != table:
            continue
        if name in engine.tables():
            upto, noted = now.reach(name)
            oldest, fields = engine.statistics(name).oldest, frozenset(rollup.fields)
            found.append(Tier(name, rollup.every, oldest, upto, noted, fields))
    return sorted(found, key=lambda tier: tier.width)


def _sql_tiers(
    engine: Engine, now: _Now, table: str, lost: int, gone: Gone, series: Callable[[], Ints]
) -> list[SqlTier]:
    """The rollups of a table or of samples, coarsest first, and of equal ones those by labels, which have fewer rows."""
    found = []
    if table == SAMPLES and now.known and gone.any():
        lost = max(lost, int(gone(series()).max(initial=BEGINNING)) + 1)
    for name, rollup in now.known.items():
        if rollup.query or now.known[now.chain(name)[-1]].source != table:
            continue
        schema = engine.tables().get(name)
        oldest = engine.statistics(name).oldest if schema is not None else None
        # samples were not counted by earlier versions
        if schema is not None and oldest is not None and ROWS in schema.columns:
            upto, noted = now.reach(name)
            fields = {_VALUE: ""} if rollup.of_samples else {field: f"{field}_" for field in rollup.fields}
            labels = frozenset(rollup.labels)
            scalar = rollup.of_samples
            found.append(SqlTier(name, labels, fields, ROWS, rollup.every, oldest, upto, noted, lost, scalar))
    return sorted(found, key=lambda tier: (-tier.width, SERIES_ID in tier.labels))


def _replaced(state: State) -> int | None:
    found = max((line.boundary for line in state.lines), default=BEGINNING)
    return None if found == BEGINNING else found


def _held(
    gone: Gone,
    ids: Ints,
    bounds: dict[int, Ints],
    late: Iterable[Range],
    tiers: list[Tier],
    lost: int,
    token: object,
) -> Held | None:
    if not bounds and not tiers:
        return None
    levels = tuple(Level(table_of(interval), interval, bound) for interval, bound in bounds.items())
    # without a rollup nobody knows what has gone
    pushed = gone(ids) if tiers else np.full(len(ids), BEGINNING, np.int64)
    return Held(levels, tuple(late), tuple(sorted(tiers, key=lambda tier: tier.width)), lost, pushed, token)
