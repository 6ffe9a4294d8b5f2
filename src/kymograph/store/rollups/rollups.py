"""The rollups of one store: made, kept fresh by the background job, refreshed on demand, dropped."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from kymograph.engine.interface import Engine, Maintained
from kymograph.errors import AlreadyExists, InvalidInput, KymographError, NotFound, StoreClosed
from kymograph.model.schema import SAMPLES, SAMPLES_SCHEMA, TableSchema
from kymograph.options import Retention
from kymograph.store.jobs import now_micros
from kymograph.store.rollups.compute import compute
from kymograph.store.rollups.definition import DOCUMENT, ROWS, Rollup, defined, schema_of
from kymograph.store.rollups.gone import Bounds, gone_of
from kymograph.store.rollups.refresh import replace
from kymograph.store.rollups.sources import slices
from kymograph.store.rollups.touched import Range, Touched, Watch

if TYPE_CHECKING:
    from kymograph.store.rollups.queries import Ask


class Rollups:
    """Definitions, what each has summarised so far, and the work. One per writing store; safe for many threads."""

    def __init__(self, engine: Engine, touched: Touched, ask: Ask, check: Callable[[], None], bounds: Bounds) -> None:
        """`ask` runs SQL with parameters, for SQL rollups; `check` raises when the store is closed.

        `bounds`: samples that are gone; who replaces them in place knows more, and puts it here.
        """
        self._engine, self._touched, self._ask, self.check = engine, touched, ask, check
        self._working = threading.RLock()
        # time of the oldest row of each source, and deletions there
        self._seen: dict[str, tuple[int, int]] = {}
        self._known = {name: Rollup.from_document(told) for name, told in engine.documents(DOCUMENT).items()}
        self.bounds = bounds

    def known(self) -> dict[str, Rollup]:
        """All definitions by name."""
        return dict(self._known)

    def get(self, name: str) -> Rollup:
        found = self._known.get(name)
        if found is None:
            raise NotFound(f"there is no rollup {name}", hint=f"there are {', '.join(sorted(self._known)) or 'none'}")
        return found

    def create(
        self,
        name: str,
        source: str,
        every: Any,
        by: Iterable[str] | None,
        fields: Iterable[str] | None,
        keep: Retention | None,
        offsets: tuple[Any, Any],
    ) -> Rollup:
        """Define a rollup and make its table. An equal one may be there."""
        with self._working:
            rollup = defined(name, source, every, by, fields, offsets, self._engine.tables(), self._known)
            if source == SAMPLES and SAMPLES not in self._engine.tables():
                self._engine.create_table(SAMPLES_SCHEMA)
            return self._add(rollup, schema_of(rollup, keep))

    def create_query(self, name: str, query: str, keep: Retention | None, offsets: tuple[Any, Any]) -> Rollup:
        """Define an SQL rollup and make its table. An equal one may be there."""
        from kymograph.store.rollups.queries import defined_by  # brings all of SQL along

        with self._working:
            rollup, schema = defined_by(name, query, offsets, keep, self._engine.tables(), self._ask)
            return self._add(rollup, schema)

    def _add(self, rollup: Rollup, wanted: TableSchema) -> Rollup:
        """Keep a definition, with the table it fills."""
        with self._working:
            there = self._known.get(rollup.name)
            if there is not None:
                there = self._followed(there)
                if there == rollup or self._grew_to(there, rollup):
                    self._keep(rollup.name, wanted.retention)
                    return there
            wanted = dataclasses.replace(wanted, definition=_text(rollup))
            present = self._engine.tables().get(rollup.name)
            # an empty one of the same kind is what a crash in here leaves
            mine = present == wanted and not self._engine.statistics(rollup.name).rows
            if there is not None or (present is not None and not mine):
                raise AlreadyExists(f"there is a table {rollup.name} already", hint="drop it, or choose another name")
            self._engine.create_table(wanted)
            # nothing that is written from here on goes unnoticed; then what is there already is the first to be made
            for upto in (self._latest, self._beginning):
                self._touched.watch(Watch(rollup.name, rollup.tables, rollup.every, upto(rollup, now_micros())))
            self._engine.put_document(DOCUMENT, rollup.name, rollup.to_document())
            self._known = {**self._known, rollup.name: rollup}
            return rollup

    def _keep(self, name: str, retention: Retention) -> None:
        """Give the table of a rollup that is there already another bound, where one was asked for."""
        present = self._engine.tables().get(name)
        if present is not None and retention not in (Retention(), present.retention):
            self._engine.alter_table(dataclasses.replace(present, retention=retention))

    def drop(self, name: str) -> None:
        """Forget a rollup, its table and its rows."""
        with self._working:
            rollup = self.get(name)
            above = [one.name for one in self._known.values() if name in one.tables]
            if above:
                raise InvalidInput(f"rollup {name} is the source of {above[0]}", hint=f"drop {above[0]} first")
            self._engine.put_document(DOCUMENT, name, None)
            self._known = {key: one for key, one in self._known.items() if key != name}
            self._touched.unwatch(name)
            if rollup.name in self._engine.tables():
                self._engine.drop_table(name)

    def listing(self) -> list[dict[str, Any]]:
        """Definitions and states as plain values; see `Store.rollups`."""
        return [self._told(self._known[name]) for name in sorted(self._known)]

    def _told(self, rollup: Rollup) -> dict[str, Any]:
        schema = self._engine.tables().get(rollup.name)
        numbers = self._engine.statistics(rollup.name) if schema is not None else None
        return {
            "name": rollup.name,
            "source": rollup.source,
            "query": rollup.query,
            "every": rollup.every,
            "by": list(rollup.labels),
            "fields": list(rollup.fields),
            "keep": None if schema is None else schema.retention.age_micros,
            "start_offset": rollup.start_offset,
            "end_offset": rollup.end_offset,
            "fresh_until": self._touched.upto(rollup.name),
            "waiting": len(self._touched.ranges(rollup.name)),
            "rows": 0 if numbers is None else numbers.rows,
            "oldest": None if numbers is None else numbers.oldest,
            "newest": None if numbers is None else numbers.newest,
        }

    def run(self) -> str:
        """Bring every rollup up to date: what is new, and what late data and deletions touched."""
        self._look_for_losses()
        rows = buckets = 0
        problem: KymographError | None = None
        for name in self._in_order(self._known):
            try:
                done = self.advance(name, now_micros())
            except StoreClosed:
                raise
            except KymographError as failure:  # the others go on
                problem = problem or failure
                continue
            rows, buckets = rows + done[0], buckets + done[1]
        if problem is not None:
            raise problem
        return f"{rows} rows of {len(self._known)} rollups written, {buckets} stretches"

    def advance(self, name: str, now: int) -> tuple[int, int]:
        """Bring one rollup up to date. Returns rows written and stretches of time made anew."""
        with self._working:
            rollup = self.get(name)
            before = self._touched.upto(name)
            target = self._latest(rollup, now)
            rows = stretches = 0
            if target > before:
                # piece by piece, so that what is made stays made when the store is closed or the disk fails meanwhile
                for low, high in slices(self._engine, rollup.tables, before, target, rollup.every):
                    self.check()
                    self._touched.raise_to(name, high)
                    rows += self._make(rollup, low, high, ())
                    self._touched.settle(name)
                stretches = 1
            late = self._late(rollup, now)
            return rows + late[0], stretches + late[1]

    @contextmanager
    def seen(self, table: str) -> Iterator[int]:
        """Every rollup of a table is up to date, in blocks, and left alone in here; gives up to when all have it, µs."""
        with self._working:
            now = now_micros()
            names = [name for name, rollup in self._known.items() if table in rollup.tables]
            for name in names:
                self.advance(name, now)
                if isinstance(self._engine, Maintained):  # the log goes with the catalog, should that be lost
                    self._engine.seal(name)
            yield min([now, *(self._touched.upto(name) for name in names)])

    def _late(self, rollup: Rollup, now: int) -> tuple[int, int]:
        """Make anew what was touched after it had been summarised."""
        ranges, deleted = self._touched.take(rollup.name)
        if not ranges:
            return 0, 0
        floor = None if rollup.start_offset is None else (now - rollup.start_offset) // rollup.every * rollup.every
        upto, rows, done = self._touched.upto(rollup.name), 0, False
        try:
            for start, end in ranges:
                # a grouped row reaches back into the bucket before it
                end = min(end + rollup.every if rollup.grouped else end, upto)
                start = start if floor is None else max(start, floor)
                rows += self._make(rollup, start, end, deleted)
            done = True
        finally:
            self._touched.clear(rollup.name, done=done)
        return rows, len(ranges)

    def refresh(self, name: str, start: int | None, end: int | None) -> int:
        """Make the buckets that meet [start, end) anew, those of the rollups below it first. Returns rows written."""
        with self._working:
            rollup = self.get(name)
            for table in rollup.tables:
                if table in self._known:
                    self.refresh(table, start, end)
            rows = self.advance(name, now_micros())[0]
            if start is None and end is None:
                return rows
            spans = [self._span(table) for table in rollup.tables]
            low = min((span[0] for span in spans), default=0) if start is None else start
            high = max((span[1] for span in spans), default=0) if end is None else end
            width = rollup.every
            # nobody watches what is not due yet
            high = min(-(-high // width) * width, self._touched.upto(name))
            return rows + self._make(rollup, low // width * width, high, ())

    def _make(self, rollup: Rollup, start: int, end: int, deleted: Iterable[Range]) -> int:
        """Reckon and write the rows of [start, end), whole buckets. Returns rows written."""
        gone, rows = list(deleted), 0
        if rollup.grouped:
            gone = [(low, high + rollup.every) for low, high in gone]
        if start >= end:
            return 0
        below = self._known.get(rollup.source)
        self._complete(rollup)
        lost = max(self._touched.lost(table) for table in rollup.tables)
        absent = gone_of(self._engine, rollup, self.bounds)
        for low, high in slices(self._engine, rollup.tables, start, end, rollup.every, before=rollup.every):
            if rollup.query:
                from kymograph.store.rollups.queries import asked, span

                fresh = asked(rollup, low, high, self._engine.tables(), self._ask)
                low, high = span(rollup, low, high)
            else:
                while (made := compute(self._engine, rollup, below, low, high)) is None:
                    rollup = self._followed(rollup)
                fresh = made
            rows += replace(self._engine, rollup, fresh, (low, high), gone, lost, absent)
        return rows

    def _followed(self, rollup: Rollup) -> Rollup:
        """The rollup with the labels that its source has been given since, where it has a row for every series."""
        schema = self._engine.tables().get(rollup.source)
        if schema is None or rollup.grouped or rollup.query or set(schema.labels) <= set(rollup.labels):
            return rollup
        mine = self._engine.tables()[rollup.name]
        fresh = [label for label in schema.labels if label not in rollup.labels]
        # rows from before have null there, as those have that they summarise
        wanted = mine.extended(labels=[label for label in fresh if label not in mine.labels])
        if wanted != mine:
            self._engine.alter_table(wanted)
        rollup = dataclasses.replace(rollup, labels=(*rollup.labels, *fresh))
        self._engine.put_document(DOCUMENT, rollup.name, rollup.to_document())
        self._known = {**self._known, rollup.name: rollup}
        return rollup

    def _grew_to(self, there: Rollup, asked: Rollup) -> bool:
        """Whether a rollup by all labels of its source, asked for by their names, has only got more of them since."""
        schema = self._engine.tables().get(there.source)
        if schema is None or there.grouped or not set(schema.required) <= set(asked.labels) <= set(there.labels):
            return False
        return dataclasses.replace(asked, labels=there.labels, grouped=False) == there

    def _complete(self, rollup: Rollup) -> None:
        """Tables of earlier versions do not say what fills them, nor count the rows of scalar series."""
        for one in (rollup, self._known.get(rollup.source)):
            schema = self._engine.tables().get(one.name) if one is not None else None
            if one is None or schema is None:
                continue
            wanted = dataclasses.replace(schema, definition=_text(one))
            if one.of_samples and ROWS not in schema.columns:
                wanted = wanted.extended([(ROWS, pa.int64())])
            if wanted != schema:
                self._engine.alter_table(wanted)

    def restore(self) -> None:
        """Take up rollups of which nobody knows what they have summarised: the catalog was lost, and made anew."""
        with self._working:
            found = {name: one for name, one in self._known.items() if not self._touched.knows(name)}
            for name, schema in self._engine.tables().items():
                if schema.definition and name not in self._known:
                    found[name] = Rollup.from_document(json.loads(schema.definition))
            self._known = {**self._known, **found}
            for name in self._in_order(found):
                rollup = self._known[name]
                since = self._beginning(rollup, now_micros())
                # what is older than all that the source has was made of rows that have gone
                if name in found and (self._span(name)[0] or since) < since:
                    for table in rollup.tables:
                        self._touched.lose(table, since)
                self._touched.watch(Watch(name, rollup.tables, rollup.every, since))
                self._engine.put_document(DOCUMENT, name, rollup.to_document())

    def _beginning(self, rollup: Rollup, now: int) -> int:
        """The bucket of the oldest row that is there; with none, up to when nothing is missing."""
        oldest = [span[0] for span in map(self._span, rollup.tables) if span[0] < span[1]]
        return min([self._latest(rollup, now), *(time // rollup.every * rollup.every for time in oldest)])

    def _latest(self, rollup: Rollup, now: int) -> int:
        """End of the last bucket that can be made."""
        return (now - rollup.end_offset) // rollup.every * rollup.every

    def _look_for_losses(self) -> None:
        """A cap takes the oldest rows while others are written: seen by the oldest that is left, unless it was deleted."""
        for table in {table for rollup in self._known.values() for table in rollup.tables}:
            now = (self._span(table)[0], self._touched.deletions(table))
            before = self._seen.get(table, now)
            if now[0] > before[0] and now[1] == before[1]:
                self._touched.lose(table, now[0])
            self._seen[table] = now

    def _span(self, table: str) -> tuple[int, int]:
        """[oldest, newest] of a table as a half-open range of µs; empty where it has no rows."""
        numbers = self._engine.statistics(table) if table in self._engine.tables() else None
        if numbers is None or numbers.oldest is None or numbers.newest is None:
            return (0, 0)
        return numbers.oldest, numbers.newest + 1

    def _in_order(self, names: Iterable[str]) -> list[str]:
        """Sources before what is made of them."""
        found: dict[str, None] = {}

        def put(name: str) -> None:
            for table in self._known[name].tables:
                if table in self._known:
                    put(table)
            found[name] = None

        for name in sorted(names):
            put(name)
        return list(found)


def _text(rollup: Rollup) -> str:
    return json.dumps(rollup.to_document())
