"""The engine of a store, with every write and deletion told to those who have summarised what it touches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from kymograph.engine.interface import Bounded, Engine, PruneReport
from kymograph.engine.rings import Rings
from kymograph.errors import InvalidInput
from kymograph.model.matcher import Matcher
from kymograph.model.schema import SAMPLES
from kymograph.model.summary import Floats, Ints
from kymograph.model.time import MAX_TIME, MIN_TIME, micros_of
from kymograph.store.rollups.levels import delete_inside
from kymograph.store.rollups.touched import Touched

_OWN = ("append", "delete", "drop_table", "rings", "notes", "failure")


class Watched:
    """Stands before an engine: everything it can do, this can do.

    The methods are the engine's own, taken over when this is made, so that whatever ability the engine has is found
    here by those who ask (`isinstance(engine, Bounded)`).

    Attributes:
        inner: the engine itself. Writing there is for those who note what they touch themselves.
        touched: what was touched.
    """

    def __init__(self, engine: Engine) -> None:
        self.inner = engine
        self._append = engine.append
        self.touched = Touched(engine)
        for name in dir(engine):
            if not name.startswith("_") and name not in _OWN and not hasattr(type(self), name):
                setattr(self, name, getattr(engine, name))
        self.rings = _WatchedRings(engine.rings, self.touched)
        if isinstance(engine, Bounded):
            self.prune = self._pruned

    def _pruned(self, *, now: int, dry_run: bool = False, force: bool = False) -> PruneReport:
        """See `Bounded.prune`. What goes is remembered as lost, for its summaries stay."""
        assert isinstance(self.inner, Bounded)
        report = self.inner.prune(now=now, dry_run=dry_run, force=force)
        if not dry_run:
            for table in {victim.table for victim in report.victims}:
                if self.touched.watched(table):
                    self.touched.lose(table, max(victim.end for victim in report.victims if victim.table == table))
        return report

    @property
    def notes(self) -> list[str]:
        return list(getattr(self.inner, "notes", []))

    @property
    def failure(self) -> str:
        return str(getattr(self.inner, "failure", ""))

    def append(self, table: str, batch: pa.RecordBatch) -> int:
        """See `Engine.append`."""
        if not batch.num_rows:
            return self._append(table, batch)
        ticket = self.touched.begin(table, lambda: micros_of(batch.column(0)))
        try:
            return self._append(table, batch)
        finally:
            self.touched.end(ticket)

    def delete(
        self, table: str, matchers: Sequence[Matcher] = (), start: int | None = None, end: int | None = None
    ) -> int:
        """See `Engine.delete`."""
        if table != SAMPLES and not self.touched.watched(table):
            return self.inner.delete(table, matchers, start, end)
        numbers = self.inner.statistics(table)
        # an open side reaches no further than the rows do
        low = numbers.oldest if numbers.oldest is not None else MAX_TIME
        high = numbers.newest + 1 if numbers.newest is not None else MIN_TIME
        since = MIN_TIME if start is None else start
        with self.touched.deleting(table, max(low, since), high if end is None else end, since):
            if table == SAMPLES:  # not while summaries are made of what is about to go
                delete_inside(self.inner, tuple(matchers), start, end)
            return self.inner.delete(table, matchers, start, end)

    def drop_table(self, name: str) -> None:
        """See `Engine.drop_table`. Refused while somebody summarises the table."""
        if self.touched.knows(name):
            raise InvalidInput(f"table {name} belongs to a rollup", hint="drop the rollup")
        watches = self.touched.watched(name)
        if watches:
            raise InvalidInput(
                f"table {name} is summarised by {watches[0].key}", hint="drop the rollup first, or delete the rows"
            )
        self.inner.drop_table(name)

    def __repr__(self) -> str:
        return f"<watched {self.inner!r}>"


class _WatchedRings:
    """Rings, whose samples are rows of `samples`."""

    def __init__(self, rings: Rings, touched: Touched) -> None:
        self._inner, self._touched = rings, touched
        for name in dir(rings):
            if not name.startswith("_") and name != "write":
                setattr(self, name, getattr(rings, name))

    def write(self, ids: Ints, times: Ints, values: Floats) -> int:
        """See `Rings.write`."""
        if not len(times):
            return self._inner.write(ids, times, values)
        ticket = self._touched.begin(SAMPLES, lambda: times)
        try:
            return self._inner.write(ids, times, values)
        finally:
            self._touched.end(ticket)


def unwatched(engine: Any) -> Engine:
    """The engine below, for writes that concern no rollup."""
    found: Engine = engine.inner if isinstance(engine, Watched) else engine
    return found
