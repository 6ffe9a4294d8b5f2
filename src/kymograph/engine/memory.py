"""The oracle: an engine of plain dictionaries, naive and obviously right, that every other engine is compared to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kymograph.engine.interface import PruneReport, Scan, TableStatistics, Victim
from kymograph.engine.memory_rings import MemoryRings
from kymograph.engine.memory_streams import MemoryStreams
from kymograph.engine.memory_tables import (
    Key,
    Labels,
    MemoryTable,
    Row,
    batch_of,
    order,
    rows_of,
    selected,
    size_of,
    taken,
)
from kymograph.errors import AlreadyExists, DuplicateRows, NotFound, ReadOnly, SchemaError, StoreClosed
from kymograph.model.matcher import Matcher
from kymograph.model.schema import SAMPLES, TableSchema
from kymograph.options import StoreOptions


class MemoryEngine:
    """Everything in memory, under one lock; nothing outlives the process.

    Satisfies `engine.interface.Engine` and `Bounded`. It has no blocks: all rows count as hot, and the bytes it states
    are 8 for the time, each label and each field of a row, plus the UTF-8 length of texts.

    Args:
        options: `cap`, `age` and `read_only` apply; the rest concerns folders.
    """

    def __init__(self, options: StoreOptions | None = None) -> None:
        self._options = options or StoreOptions()
        self._lock = threading.RLock()
        self._tables: dict[str, MemoryTable] = {}
        self._ids: dict[tuple[str, frozenset[tuple[str, str]]], int] = {}
        self._series: dict[int, tuple[str, Mapping[str, str]]] = {}
        self._documents: dict[str, dict[str, str]] = {}
        self._closed = False
        self.streams = MemoryStreams(lambda write: self._check_writable() if write else self._check_open())
        self.rings = MemoryRings(
            self._lock,
            self._check_open,
            self._check_writable,
            lambda number: number in self._series,
            lambda number: any(labels == (number,) for labels, _ in self._table(SAMPLES).rows),
            self._options.cap,
        )

    def tables(self) -> Mapping[str, TableSchema]:
        with self._lock:
            self._check_open()
            return {name: table.schema for name, table in self._tables.items()}

    def create_table(self, schema: TableSchema) -> None:
        with self._lock:
            self._check_writable()
            there = self._tables.get(schema.name)
            if there is None:
                self._tables[schema.name] = MemoryTable(schema)
            elif there.schema != schema:
                raise AlreadyExists(f"table {schema.name} is there already, with another schema")

    def alter_table(self, schema: TableSchema) -> None:
        with self._lock:
            self._check_writable()
            table = self._table(schema.name)
            schema.check_follows(table.schema)
            more = (None,) * (len(schema.labels) - len(table.schema.labels))
            if more:
                table.rows = {((*labels, *more), time): row for (labels, time), row in table.rows.items()}
            table.schema = schema

    def drop_table(self, name: str) -> None:
        with self._lock:
            self._check_writable()
            self._table(name)
            if name == SAMPLES:
                self.rings.drop(list(self.rings.all()))
            del self._tables[name]

    def append(self, table: str, batch: pa.RecordBatch) -> int:
        with self._lock:
            self._check_writable()
            target = self._table(table)
            pairs = list(rows_of(target.schema, batch))
            count = len(pairs)
            if table == SAMPLES:
                pairs = self._into_rings(pairs)
            policy = target.schema.duplicates
            if policy == "reject":
                seen: set[Key] = set()
                for key, _ in pairs:
                    if key in target.rows or key in seen:
                        raise DuplicateRows(f"table {table}: series {key[0]} has a row at {key[1]} µs already")
                    seen.add(key)
            for key, row in pairs:
                if policy == "ignore" and key in target.rows:
                    continue
                target.rows[key] = row
            return count

    def _into_rings(self, pairs: list[tuple[Key, Row]]) -> list[tuple[Key, Row]]:
        """Put the samples of rings into them; returns the others."""
        rings = self.rings.all()
        ringed = [(key, row) for key, row in pairs if key[0][0] in rings]
        if any(row[0] is None for _, row in ringed):
            raise SchemaError("a ring holds no null")
        keys = np.array([(labels[0], time) for (labels, time), _ in ringed], np.int64).reshape(-1, 2)
        bits = np.array([row[0] for _, row in ringed], np.uint64)
        self.rings.write(keys[:, 0], keys[:, 1], bits.view(np.float64))
        return [(key, row) for key, row in pairs if key[0][0] not in rings]

    def scan(
        self,
        table: str,
        matchers: Sequence[Matcher] = (),
        start: int | None = None,
        end: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> Scan:
        with self._lock:
            self._check_open()
            target = self._visible(table)
            names = target.schema.columns if columns is None else tuple(columns)
            unknown = [name for name in names if name not in target.schema.columns]
            if unknown:
                raise SchemaError(f"table {table}: there is no column {unknown[0]!r}")
            keys = sorted(selected(target, matchers, start, end), key=order)
            batch = batch_of(target.schema, [(key, target.rows[key]) for key in keys]).select(names)
        parts: list[Callable[[], Iterator[pa.RecordBatch]]] = [lambda: iter([batch])] if keys else []
        return Scan(batch.schema, parts, len(keys))

    def delete(
        self, table: str, matchers: Sequence[Matcher] = (), start: int | None = None, end: int | None = None
    ) -> int:
        with self._lock:
            self._check_writable()
            target = self._table(table)
            keys = selected(target, matchers, start, end)
            for key in keys:
                del target.rows[key]
            gone = 0
            if table == SAMPLES:
                own = [n for n in self.rings.all() if all(m.matches(n) for m in matchers)]
                gone = self.rings.delete(own, start, end)
            return len(keys) + gone

    def latest(self, table: str, matchers: Sequence[Matcher] = ()) -> pa.Table:
        with self._lock:
            self._check_open()
            target = self._visible(table)
            newest: dict[Labels, int] = {}
            for labels, time in selected(target, matchers, None, None):
                newest[labels] = max(time, newest.get(labels, time))
            pairs = [(key, target.rows[key]) for key in newest.items()]
            return pa.Table.from_batches([batch_of(target.schema, pairs)])

    def statistics(self, table: str) -> TableStatistics:
        with self._lock:
            self._check_open()
            target, visible = self._table(table), self._visible(table)
            times = [time for _, time in visible.rows]
            return TableStatistics(
                rows=len(times),
                series=len({labels for labels, _ in visible.rows}),
                oldest=min(times, default=None),
                newest=max(times, default=None),
                hot_rows=len(target.rows),
                hot_bytes=sum(size_of(key, row) for key, row in target.rows.items()),
                partitions=len({target.schema.partition_of(time) for _, time in target.rows}),
                ring_rows=len(visible.rows) - len(target.rows),
            )

    def register_series(self, series: Sequence[tuple[str, Mapping[str, str]]]) -> list[int]:
        with self._lock:
            self._check_writable()
            return [self._series_id(name, dict(labels)) for name, labels in series]

    def _series_id(self, name: str, labels: dict[str, str]) -> int:
        identity = (name, frozenset(labels.items()))
        number = self._ids.get(identity)
        if number is None:
            number = self._ids[identity] = len(self._ids) + 1
            self._series[number] = (name, labels)
        return number

    def series(self) -> Mapping[int, tuple[str, Mapping[str, str]]]:
        with self._lock:
            self._check_open()
            return dict(self._series)

    def get_document(self, kind: str, key: str) -> Any:
        return self.documents(kind).get(key)

    def put_document(self, kind: str, key: str, value: Any) -> None:
        with self._lock:
            self._check_writable()
            if value is None:
                self._documents.get(kind, {}).pop(key, None)
            else:
                self._documents.setdefault(kind, {})[key] = json.dumps(value)

    def put_documents(self, kind: str, values: Mapping[str, Any]) -> None:
        with self._lock:
            for key, value in values.items():
                self.put_document(kind, key, value)

    def documents(self, kind: str) -> Mapping[str, Any]:
        with self._lock:
            self._check_open()
            return {key: json.loads(text) for key, text in self._documents.get(kind, {}).items()}

    def prune(self, *, now: int, dry_run: bool = False, force: bool = False) -> PruneReport:
        """Apply age bounds to the microsecond, then byte bounds and the cap by whole partitions, oldest first."""
        with self._lock:
            if dry_run:
                self._check_open()
            else:
                self._check_writable()
            kept = {name: dict(table.rows) for name, table in self._tables.items()}
            victims = [victim for name, rows in kept.items() for victim in self._prune_age(name, rows, now)]
            for name, rows in kept.items():
                victims += self._prune_bytes({name: rows}, self._tables[name].schema.retention.max_bytes, "bytes")
            victims += self._prune_bytes(kept, self._options.cap, "cap")
            if not dry_run:
                for name, rows in kept.items():
                    self._tables[name].rows = rows
            victims += self.streams.prune(now, self._options.age, dry_run=dry_run)
            return PruneReport(tuple(victims), dry_run)

    def _prune_age(self, name: str, rows: dict[Key, Row], now: int) -> list[Victim]:
        schema = self._tables[name].schema
        own = schema.retention.age_micros
        age = self._options.age if own is None else own
        if age is None:
            return []
        old = [key for key in rows if key[1] < now - age]
        return [
            taken(schema, rows, [key for key in old if schema.partition_of(key[1]) == partition], "age")
            for partition in sorted({schema.partition_of(time) for _, time in old})
        ]

    def _prune_bytes(self, kept: dict[str, dict[Key, Row]], bound: int | None, reason: str) -> list[Victim]:
        victims: list[Victim] = []
        while bound is not None and sum(size_of(k, r) for rows in kept.values() for k, r in rows.items()) > bound:
            schemas = {name: self._tables[name].schema for name in kept}
            partition, name = min((schemas[n].partition_of(k[1]), n) for n, rows in kept.items() for k in rows)
            keys = [key for key in kept[name] if schemas[name].partition_of(key[1]) == partition]
            victims.append(taken(schemas[name], kept[name], keys, reason))
        return victims

    def usage(self) -> int:
        """Bytes of all rows, as `statistics` states them; nothing is on disk."""
        with self._lock:
            self._check_open()
            rows = sum(size_of(key, row) for table in self._tables.values() for key, row in table.rows.items())
            return rows + self.rings.usage() + self.streams.usage()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self.streams.wake()

    def _table(self, name: str) -> MemoryTable:
        if name not in self._tables:
            raise NotFound(f"there is no table {name}")
        return self._tables[name]

    def _visible(self, name: str) -> MemoryTable:
        """A table as readers see it: `samples` holds what is in rings too."""
        table = self._table(name)
        if name != SAMPLES:
            return table
        found = self.rings.read()
        ids, times, bits = found.ids.tolist(), found.times.tolist(), found.values.view(np.uint64).tolist()
        ringed: dict[Key, Row] = {((n,), time): (b,) for n, time, b in zip(ids, times, bits, strict=True)}
        return MemoryTable(table.schema, {**table.rows, **ringed})

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosed("the store is closed", hint="connect again")

    def _check_writable(self) -> None:
        self._check_open()
        if self._options.read_only:
            raise ReadOnly("the store was opened read-only")
