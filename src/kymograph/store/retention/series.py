"""The lines of one store, and what they remove.

A line says in its document that samples may be gone before they go, and afterwards that they are: what a crash leaves is
removed by the next run. Rollups have seen the samples before, and are told up to when none is left to make them of.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np

from kymograph.engine.interface import Engine, Victim
from kymograph.errors import NotFound
from kymograph.model.matcher import Matcher, of_series
from kymograph.model.schema import SAMPLES, SAMPLES_SCHEMA
from kymograph.model.summary import Ints
from kymograph.model.time import TIME, micros_of
from kymograph.promql.ast import LabelMatcher
from kymograph.promql.tiers import BEGINNING
from kymograph.store.exemplars.book import EXEMPLARS, has_exemplars
from kymograph.store.retention.line import Line, selector_of
from kymograph.store.rollups import definition
from kymograph.store.rollups.levels import level_tables

DOCUMENT = ("retention", SAMPLES)


class SeriesRetention:
    """Ages of some scalar series. Safe for many threads; also beside a writing process, to look.

    Args:
        engine: below what is told of deletions: what goes here is no deletion, and its rollups stay.
        select: ids, ascending, of the scalar series that matchers find.
        seen: held while samples go; gives the time up to which all rollups have summarised them, µs.
    """

    def __init__(
        self,
        engine: Engine,
        select: Callable[[Sequence[LabelMatcher]], Ints],
        seen: Callable[[], AbstractContextManager[int]],
    ) -> None:
        self._engine, self._select, self._seen = engine, select, seen
        self._changing = threading.Lock()

    def lines(self) -> list[Line]:
        """Those that apply, and those that have."""
        return [Line.from_document(one) for one in self._engine.get_document(*DOCUMENT) or ()]

    def listing(self) -> list[dict[str, Any]]:
        """See `Store.series_retention`."""
        return [
            {
                "series": line.series,
                "age": line.age,
                "boundary": None if line.upto == BEGINNING else line.upto,
                "matched": len(self._chosen(line)),
            }
            for line in self.lines()
            if line.age is not None
        ]

    def set(self, series: Any, age: int | None) -> None:
        """Give the series of a selector an age, or take it away. Raises QueryError, InvalidInput, NotFound."""
        fresh = Line(selector_of(series), age)
        with self._changing:
            lines = self.lines()
            there = next((line for line in lines if line.key == fresh.key), None)
            if age is None and (there is None or there.age is None):
                known = ", ".join(line.series for line in lines if line.age is not None)
                raise NotFound(f"there is no retention of {fresh.series}", hint=f"there is that of {known or 'none'}")
            if there is None:
                self._keep([*lines, fresh])
            else:
                self._keep([replace(line, age=age) if line is there else line for line in lines])

    def bounds(self, ids: Ints) -> Ints:
        """For these series, ascending: the time up to which, itself included, samples may have gone, µs; else BEGINNING."""
        found = np.full(len(ids), BEGINNING, np.int64)
        for line in self.lines():
            if line.upto != BEGINNING:
                mine = np.isin(ids, self._chosen(line))
                found[mine] = np.maximum(found[mine], line.upto - 1)
        return found

    def prune(self, now: int, *, dry_run: bool, force: bool) -> list[Victim]:
        """Remove what is too old as of `now`, µs, or only say what is; with `force` to the microsecond."""
        victims: list[Victim] = []
        schema = self._engine.tables().get(SAMPLES, SAMPLES_SCHEMA)
        for line, ids in self._assigned():
            assert line.age is not None
            if not len(ids) or not (force or line.due(now - line.age, schema.partition)):
                continue
            if dry_run:
                victims += self._old(line, ids, now - line.age)
                continue
            with self._seen() as seen:
                upto = min(now - line.age, seen)
                if self._moved(line, upto=max(line.upto, upto)):
                    old = self._old(line, ids, upto)
                    for one in old:
                        self._engine.delete(one.table, self._matchers(ids), one.start, one.end)
                    self._moved(line, done=max(line.done, upto))
                    victims += old
        return victims

    def _assigned(self) -> Iterator[tuple[Line, Ints]]:
        """The lines that apply, each with the series that go by it: of several the shortest age counts."""
        taken: Ints = np.zeros(0, np.int64)
        for line in sorted((line for line in self.lines() if line.age is not None), key=lambda line: line.age or 0):
            ids = np.setdiff1d(self._chosen(line), taken, assume_unique=True)
            taken = np.concatenate([taken, ids])
            yield line, ids

    def _chosen(self, line: Line) -> Ints:
        """The series that a line matches; those in rings are bounded by these."""
        ids = self._select(line.matchers)
        rings = self._engine.rings.all()
        return ids[~np.isin(ids, np.fromiter(rings, np.int64))] if rings else ids

    def _old(self, line: Line, ids: Ints, upto: int) -> list[Victim]:
        """What there is of some series before a time, by table and slice of time: samples, summaries, exemplars."""
        tables = [SAMPLES] if SAMPLES in self._engine.tables() else []
        tables += level_tables(self._engine)
        tables += [EXEMPLARS] if has_exemplars(self._engine) else []
        victims, matchers = [], self._matchers(ids)
        for table in tables:
            width = self._engine.tables()[table].partition
            found: dict[int, tuple[int, int, int]] = {}
            for batch in self._engine.scan(table, matchers, None, upto, [TIME]).batches():
                times = micros_of(batch.column(0))
                slices, of, counts = np.unique(times // width, return_inverse=True, return_counts=True)
                for place, number in enumerate(slices.tolist()):
                    mine = times[of == place]
                    low, high, rows = found.get(number, (int(mine[0]), int(mine[0]), 0))
                    low, high = min(low, int(mine.min())), max(high, int(mine.max()))
                    found[number] = (low, high, rows + int(counts[place]))
            victims += [
                Victim(table, number * width, low, high + 1, rows, 0, f"age of {line.series}")
                for number, (low, high, rows) in sorted(found.items())
            ]
        return victims

    def _matchers(self, ids: Ints) -> list[Matcher]:
        return of_series(ids, len(self._engine.series()))

    def _moved(self, line: Line, **changes: Any) -> bool:
        """Change a line, durably; False when somebody has changed its age or taken it away meanwhile."""
        with self._changing:
            lines = self.lines()
            there = next((one for one in lines if one.key == line.key), None)
            if there is None or there.age != line.age:
                return False
            self._keep([replace(one, **changes) if one is there else one for one in lines])
            return True

    def _keep(self, lines: Sequence[Line]) -> None:
        # what one has removed that is taken away concerns nobody but rollups
        rollups = any(SAMPLES in told["tables"] for told in self._engine.documents(definition.DOCUMENT).values())
        kept = [line.to_document() for line in lines if line.age is not None or (rollups and line.upto != BEGINNING)]
        self._engine.put_document(*DOCUMENT, kept or None)
