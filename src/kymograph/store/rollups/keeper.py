"""Tells queries what is summarised, beside the samples and in place of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kymograph.engine.interface import Engine
from kymograph.model.schema import SAMPLES
from kymograph.model.summary import Ints
from kymograph.promql.index import LabelIndex
from kymograph.promql.tiers import Held, Level, Range, Tier
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
        tiers = [
            _tier(self._engine, one, self._touched.upto(one.name), self._touched.ranges(one.name))
            for one in self._rollups.known().values()
            if _stands_for_samples(one)
        ]
        return _held(self._engine, self._downsampling.boundaries(ids), late, 0, tiers, state.count)

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
        tiers = [
            _tier(engine, one, watches[one.name]["upto"], _ranges(notes, one.name))
            for one in known.values()
            if one.name in watches and _stands_for_samples(one)
        ]
        bounds = boundaries(((line, self._ids(line)) for line in state.lines), ids)
        merging = state.version if state.pending is not None and "late" in state.pending else 0
        return _held(engine, bounds, _ranges(notes, KEY), merging, tiers, told)

    def unchanged(self, held: Held) -> bool:
        return bool(held.token == self._engine.get_document(*DOCUMENT))

    def _ids(self, line: Line) -> Ints | None:
        if not line.chosen:
            return None
        self._index.refresh(self._engine.series())
        return self._index.select(line.matchers)[0]


def _ranges(notes: Mapping[str, Any], key: str) -> list[Range]:
    return sorted((start, end) for start, end, _ in notes.get(key) or [])


def _stands_for_samples(rollup: Rollup) -> bool:
    """Whether its rows are the summaries of single scalar series."""
    return rollup.by_series and not rollup.query


def _tier(engine: Engine, rollup: Rollup, upto: int, ranges: Iterable[Range]) -> Tier:
    oldest = engine.statistics(rollup.name).oldest if rollup.name in engine.tables() else None
    return Tier(rollup.name, rollup.every, oldest, upto, tuple(ranges))


def _held(
    engine: Engine, bounds: dict[int, Ints], late: Iterable[Range], merging: int, tiers: list[Tier], token: object
) -> Held | None:
    if not bounds and not tiers:
        return None
    levels = tuple(Level(table_of(interval), interval, bound) for interval, bound in bounds.items())
    raw_from = engine.statistics(SAMPLES).oldest if SAMPLES in engine.tables() else None
    ordered = tuple(sorted(tiers, key=lambda tier: tier.width))
    return Held(levels, tuple(late), merging, ordered, raw_from, token)
