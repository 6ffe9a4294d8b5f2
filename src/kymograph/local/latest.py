"""The newest row of every series of one table, kept up to date as runs appear and saved when they are sealed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kymograph.local.rows import MemoryRows, Selection, SortedRows, gather, select
from kymograph.local.sorting import sort_batches
from kymograph.model.matcher import Matcher
from kymograph.model.schema import TableSchema

_FOLD_AFTER = 16


class LatestRows:
    """Not thread-safe; the table's lock guards it."""

    def __init__(self, schema: TableSchema, saved: bytes | None = None) -> None:
        self.schema = schema
        self._rows: MemoryRows | None = None
        self._waiting: list[pa.RecordBatch] = []
        if saved is not None:
            with pa.ipc.open_stream(saved) as reader:
                self._waiting = list(reader)

    def add(self, rows: SortedRows, among: Selection | None = None) -> None:
        """Rows that have just become visible (only `among` them where given)."""
        found = among or select(rows)
        if found is None:
            return
        last = found.positions()[np.cumsum(found.counts) - 1]
        newest = Selection(found.series, np.ones(len(found.series), np.int64), last)
        self._waiting.append(gather(rows, newest, self.schema, self.schema.columns))
        if len(self._waiting) >= _FOLD_AFTER:
            self._fold()

    def _fold(self) -> MemoryRows | None:
        if self._waiting:
            batches, self._waiting = self._waiting, []
            if self._rows is not None:
                batches = [self._batch(self._rows), *batches]
            rows = sort_batches(self.schema, batches)
            everything = select(rows)
            if everything is not None:
                last = Selection(
                    everything.series, np.ones(len(everything.series), np.int64), np.cumsum(everything.counts) - 1
                )
                rows = sort_batches(self.schema, [gather(rows, last, self.schema, self.schema.columns)])
            self._rows = rows
        return self._rows

    def _batch(self, rows: MemoryRows) -> pa.RecordBatch:
        found = select(rows)
        assert found is not None
        return gather(rows, found, self.schema, self.schema.columns)

    def table(self, matchers: Sequence[Matcher] = ()) -> pa.Table:
        """Newest rows of the series that match, all columns."""
        rows = self._fold()
        found = None if rows is None else select(rows, matchers)
        if rows is None or found is None:
            return self.schema.arrow.empty_table()
        return pa.Table.from_batches([gather(rows, found, self.schema, self.schema.columns)])

    def series(self) -> int:
        """How many series there are."""
        rows = self._fold()
        return 0 if rows is None else len(rows.index)

    def keys(self, matchers: Sequence[Matcher], start: int | None, end: int | None) -> set[tuple[Any, ...]]:
        """Label tuples of matching series whose newest row lies in [start, end)."""
        rows = self._fold()
        found = None if rows is None else select(rows, matchers, start, end)
        if rows is None or found is None:
            return set()
        names = rows.index.label_tuples()
        return {names[s] for s in found.series.tolist()}

    def replace(self, gone: set[tuple[Any, ...]], candidates: Iterable[SortedRows]) -> None:
        """Forget series and look for their newest rows among the sorted rows that are left."""
        rows = self._fold()
        if rows is None:
            return
        stay = np.array([key not in gone for key in rows.index.label_tuples()], np.bool_)
        left = np.flatnonzero(stay)
        kept = Selection(left, np.ones(len(left), np.int64), left)
        self._rows = (
            sort_batches(self.schema, [gather(rows, kept, self.schema, self.schema.columns)]) if len(left) else None
        )
        for source in candidates:
            ordinals = np.array([o for key, o in source.index.keys.items() if key in gone], np.int64)
            if len(ordinals):
                last = source.index.offsets[1:][ordinals] - 1
                self.add(source, Selection(ordinals, np.ones(len(ordinals), np.int64), last))

    def extend(self, schema: TableSchema) -> None:
        """The table has more labels or fields now; older rows have null there."""
        self._fold()
        if self._rows is not None:
            batch = self._batch(self._rows)
            self.schema = schema
            self._rows = sort_batches(schema, [batch])
        self.schema = schema

    def dump(self) -> bytes:
        """What the constructor takes as `saved`."""
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.ipc.new_stream(sink, self.schema.arrow, options=options) as writer:
            writer.write_table(self.table().unify_dictionaries())
        return bytes(sink.getvalue().to_pybytes())
