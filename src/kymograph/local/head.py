"""The head: committed rows of one table that are not in blocks yet, in memory.

Batches arrive as they were written; the first reader, or sealing, turns them into sorted runs. No (series, time) is
visible twice: where runs collide, the loser's positions are marked as excluded. Not thread-safe; the table's lock guards it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from kymograph.local.rows import Ints, MemoryRows, common_positions, gather, select
from kymograph.local.sorting import sort_batches
from kymograph.model.schema import TableSchema

_NOTHING: Ints = np.empty(0, np.int64)
_RUN_IDS = itertools.count()


@dataclass(frozen=True)
class Run:
    """Sorted rows of the head; immutable, so that scans keep the one they started with.

    Attributes:
        excluded: positions that another row of the same key has replaced.
        collisions: cache of what this run has in common with blocks, by (block id, row group):
            positions in the row group, positions in the run.
    """

    rows: MemoryRows
    excluded: Ints = field(default_factory=lambda: _NOTHING)
    id: int = field(default_factory=lambda: next(_RUN_IDS))
    collisions: dict[tuple[int, int], tuple[Ints, Ints]] = field(default_factory=dict)
    min_time: int = 0
    max_time: int = 0

    @classmethod
    def of(cls, rows: MemoryRows) -> Run:
        return cls(rows, min_time=int(rows.times.min()), max_time=int(rows.times.max()))

    @property
    def visible(self) -> int:
        return len(self.rows.times) - len(self.excluded)

    def with_labels(self, labels: Sequence[str]) -> Run:
        """The same rows with these labels, null in those that they lack; what collides still does."""
        return replace(self, rows=replace(self.rows, index=self.rows.index.with_labels(labels)))

    def without(self, positions: Ints) -> Run:
        return replace(self, excluded=np.union1d(self.excluded, positions)) if len(positions) else self


class Head:
    """Pending batches, active runs, and the runs being sealed (oldest)."""

    def __init__(self, schema: TableSchema, on_run: Callable[[MemoryRows], None]) -> None:
        self.schema = schema
        self.on_run = on_run
        self.pending: list[pa.RecordBatch] = []
        self.active: list[Run] = []
        self.sealing: list[Run] = []
        self._hot_ids: list[int] = []
        self._sealing_ids: list[int] = []
        self.bytes = 0
        self._sealing_bytes = 0
        self._since = 0.0

    def add(self, hot_id: int, batch: pa.RecordBatch) -> None:
        """A batch that has just been committed as `hot_id`."""
        if self.empty:
            self._since = time.monotonic()
        self.pending.append(batch)
        self._hot_ids.append(hot_id)
        self.bytes += batch.nbytes

    def extend(self, schema: TableSchema) -> None:
        """The table has more columns now, or other policies."""
        self.runs()
        if schema.labels != self.schema.labels:
            self.active = [run.with_labels(schema.labels) for run in self.active]
            self.sealing = [run.with_labels(schema.labels) for run in self.sealing]
        self.schema = schema

    def runs(self) -> list[Run]:
        """Everything as runs, oldest first, no key visible twice among them."""
        if self.pending:
            batches, self.pending = self.pending, []
            self._take(sort_batches(self.schema, batches))
        return [*self.sealing, *self.active]

    def _take(self, rows: MemoryRows) -> None:
        self.on_run(rows)
        self._insert(Run.of(rows))
        self._merge()

    def _insert(self, new: Run) -> None:
        first_wins = self.schema.duplicates == "ignore"
        for group in (self.sealing, self.active):
            for place, old in enumerate(group):
                within = select(new.rows, (), old.min_time, old.max_time + 1)
                if within is None:
                    continue
                theirs, ours = common_positions(old.rows, new.rows, within)
                if first_wins:
                    new = new.without(ours)
                else:
                    group[place] = old.without(theirs)
        self.active.append(new)

    def _merge(self) -> None:
        # geometric sizes: every row is merged a logarithmic number of times
        while len(self.active) > 1 and len(self.active[-2].rows.times) < 2 * len(self.active[-1].rows.times):
            pair = self.active[-2:]
            batches = [b for b in (visible_batch(self.schema, run) for run in pair) if b is not None]
            self.active[-2:] = [Run.of(sort_batches(self.schema, batches))] if batches else []

    def presort(self, lock: AbstractContextManager[object]) -> None:
        """Sort what is pending without holding the table's lock meanwhile, so that writers go on."""
        with lock:
            batches, schema = list(self.pending), self.schema
        if not batches:
            return
        rows = sort_batches(schema, batches)
        with lock:
            same = len(self.pending) >= len(batches) and all(
                mine is theirs for mine, theirs in zip(self.pending, batches, strict=False)
            )
            if same and self.schema is schema:  # else a reader was faster
                del self.pending[: len(batches)]
                self._take(rows)

    def freeze(self) -> tuple[list[Run], list[int]]:
        """Set all runs aside for sealing; still visible. Returns them and the hot rows they come from.

        Batches that are still pending stay active.
        """
        self.sealing, self.active = [*self.sealing, *self.active], []
        kept = len(self._hot_ids) - len(self.pending)
        self._sealing_ids, self._hot_ids = [*self._sealing_ids, *self._hot_ids[:kept]], self._hot_ids[kept:]
        # what stays has come while the rest was sorted, so its age counts from now
        self._since = time.monotonic()
        waiting = sum(batch.nbytes for batch in self.pending)
        self._sealing_bytes, self.bytes = self._sealing_bytes + self.bytes - waiting, waiting
        return list(self.sealing), list(self._sealing_ids)

    def sealed(self) -> None:
        """What was frozen is in blocks now."""
        self.sealing, self._sealing_ids, self._sealing_bytes = [], [], 0

    def thaw(self) -> None:
        """Sealing failed: what was frozen is ordinary again."""
        self.active = [*self.sealing, *self.active]
        self._hot_ids = [*self._sealing_ids, *self._hot_ids]
        self.bytes += self._sealing_bytes
        self.sealed()

    def age(self, now: float) -> float:
        """Seconds since the oldest row arrived, at `now` of the monotonic clock; 0 when there is none."""
        return 0.0 if self.empty else now - self._since

    @property
    def total_bytes(self) -> int:
        return self.bytes + self._sealing_bytes

    @property
    def hot_ids(self) -> Sequence[int]:
        return [*self._sealing_ids, *self._hot_ids]

    @property
    def empty(self) -> bool:
        return not (self.pending or self.active or self.sealing)


def visible_batch(
    schema: TableSchema, run: Run, start: int | None = None, end: int | None = None
) -> pa.RecordBatch | None:
    """A run's visible rows of [start, end) in canonical columns."""
    found = select(run.rows, (), start, end, run.excluded)
    return None if found is None else gather(run.rows, found, schema, schema.columns)
