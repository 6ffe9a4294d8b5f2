"""Tells queries what is summarised, beside the samples and in place of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kymograph.engine.interface import Engine
from kymograph.model.schema import SAMPLES
from kymograph.model.summary import Ints
from kymograph.promql.index import LabelIndex
from kymograph.promql.tiers import BEGINNING, Held, Level, Range, Tier
from kymograph.store.rollups import definition, touched
from kymograph.store.rollups.definition import Rollup
from kymograph.store.rollups.downsampling import Downsampling
from kymograph.store.rollups.levels import DOCUMENT, KEY, State
from kymograph.store.rollups.lines import Line, boundaries, table_of
from kymograph.store.rollups.rollups import Rollups
from kymograph.store.rollups.touched import Touched


class WritersKeeper:
    """Of the store that writes: from what it has in memory."""

    def __init__(self, engine: Engine, noted: Touched, rollups: Rollups, downsampling: Downsampling) -> None:
        self._engine, self._touched = engine, noted
        self._rollups, self._downsampling = rollups, downsampling

    def held(self, ids: Ints) -> Held | None:
        """See `promql.tiers.Keeper`."""
        with self._downsampling.settled():
            state = self._downsampling.state
            late = self._touched.ranges(KEY)
        known, lost = self._rollups.known(), self._touched.lost(SAMPLES)
        upto = {name: self._touched.upto(name) for name in known}
        ranges = {name: self._touched.ranges(name) for name in known}
        tiers = _tiers(self._engine, known, upto, ranges)
        return _held(self._downsampling.boundaries(ids), late, 0, tiers, lost, state.count)

    def unchanged(self, held: Held) -> bool:
        return bool(held.token == self._downsampling.state.count)


class ReadersKeeper:
    """Of a store that reads beside the writing process: from the documents that it leaves."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._index = LabelIndex()

    def held(self, ids: Ints) -> Held | None:
        """See `promql.tiers.Keeper`."""
        engine = self._engine
        told = engine.get_document(*DOCUMENT)
        state = State.of(told)
        known = {name: Rollup.from_document(one) for name, one in engine.documents(definition.DOCUMENT).items()}
        watches, notes = engine.documents(touched.WATCH), engine.documents(touched.DOCUMENT)
        known = {name: one for name, one in known.items() if name in watches}
        ranges = {name: _ranges(notes, name) for name in known}
        tiers = _tiers(engine, known, {name: watches[name]["upto"] for name in known}, ranges)
        bounds = boundaries(((line, self._ids(line)) for line in state.lines), ids)
        merging = state.version if state.pending is not None and "late" in state.pending else 0
        lost = engine.get_document(touched.LOST, SAMPLES)
        return _held(bounds, _ranges(notes, KEY), merging, tiers, BEGINNING if lost is None else lost, told)

    def unchanged(self, held: Held) -> bool:
        return bool(held.token == self._engine.get_document(*DOCUMENT))

    def _ids(self, line: Line) -> Ints | None:
        if not line.chosen:
            return None
        self._index.refresh(self._engine.series())
        return self._index.select(line.matchers)[0]


def _ranges(notes: Mapping[str, Any], key: str) -> list[Range]:
    return sorted((start, end) for start, end, _ in notes.get(key) or [])


def _tiers(
    engine: Engine, known: Mapping[str, Rollup], upto: Mapping[str, int], ranges: Mapping[str, list[Range]]
) -> list[Tier]:
    """The rollups whose rows are the summaries of single scalar series."""
    found = []
    for name, rollup in known.items():
        if not rollup.by_series or rollup.query or name not in engine.tables():
            continue
        # what a rollup is made of has to be made first
        chain = [name]
        while known[chain[-1]].source in known:
            chain.append(known[chain[-1]].source)
        noted = tuple(sorted(one for each in chain for one in ranges[each]))
        oldest = engine.statistics(name).oldest
        found.append(Tier(name, rollup.every, oldest, min(upto[each] for each in chain), noted))
    return found


def _held(
    bounds: dict[int, Ints], late: Iterable[Range], merging: int, tiers: list[Tier], lost: int, token: object
) -> Held | None:
    if not bounds and not tiers:
        return None
    levels = tuple(Level(table_of(interval), interval, bound) for interval, bound in bounds.items())
    return Held(levels, tuple(late), merging, tuple(sorted(tiers, key=lambda tier: tier.width)), lost, token)
