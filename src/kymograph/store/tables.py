"""The write path of tables: create on first write, extend when a column is new, conform exactly, append."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from kymograph.engine.interface import Engine
from kymograph.errors import AlreadyExists, InvalidInput, LimitExceeded, NotFound, SchemaError
from kymograph.model.batch import conform, conform_plain, infer_schema, new_fields, to_table
from kymograph.model.schema import LABEL_TYPE, SAMPLES, SERIES_ID, TableSchema, type_name
from kymograph.options import Retention, StoreOptions
from kymograph.store.exemplars.book import EXEMPLARS, has_exemplars

# names that SQL gives to the scalar series and what belongs to them
RESERVED = (SAMPLES, "metrics", EXEMPLARS)
_HINT = "scalar series are written with gauge, counter and record, their exemplars with record_exemplars"
STEP_BYTES = 64 * 10**6
# of one table, when labels are added: a sender that puts values into the names of its tags must not widen it for ever
MOST_LABELS = 100
_ATTEMPTS = 8


class Tables:
    """Creates, extends and fills the tables of one engine; one lock per store orders schema changes."""

    def __init__(self, engine: Engine, options: StoreOptions) -> None:
        self._engine = engine
        cap, self._most_fields = options.cap, options.max_fields
        # what is committed at once has to fit under the cap beside everything else
        self._step_bytes = STEP_BYTES if cap is None else min(STEP_BYTES, cap // 16)
        self._schema_lock = threading.Lock()

    def create(self, schema: TableSchema) -> TableSchema:
        """See `Store.create_table`."""
        if self._is_taken(schema.name):
            raise SchemaError(f"the name {schema.name} is taken", hint=_HINT)
        with self._schema_lock:
            there = self._engine.tables().get(schema.name)
            if there is not None and there.grew_from(schema):
                return there
            self._check_fields(schema)
            self._engine.create_table(schema)
        return schema

    def add_columns(
        self, name: str, labels: Sequence[str], fields: Sequence[tuple[str, pa.DataType]] = ()
    ) -> TableSchema:
        """See `Store.add_columns`."""
        if self._is_taken(name):
            raise SchemaError(f"the columns of {name} are fixed")
        with self._schema_lock:
            there = self._schema(name)
            known = dict(there.fields)
            for column, kind in [*((label, LABEL_TYPE) for label in labels), *fields]:
                found = LABEL_TYPE if column in there.labels else known.get(column, kind)
                if found != kind:
                    raise AlreadyExists(f"table {name}: column {column!r} is there already, as {_called(found)}")
            more = dict.fromkeys(label for label in labels if label not in there.labels)
            wanted = there.extended([each for each in fields if each[0] not in known], more)
            if more and len(wanted.labels) > MOST_LABELS:
                raise LimitExceeded(
                    f"table {name} would have {len(wanted.labels)} labels, the limit is {MOST_LABELS}",
                    hint="what differs from row to row is better a field",
                )
            if wanted.columns != there.columns:
                self._check_fields(wanted, there)
                self._engine.alter_table(wanted)
            return wanted

    def set_retention(self, name: str, retention: Retention | None) -> None:
        """See `Store.set_retention`."""
        if retention is not None and not isinstance(retention, Retention):
            raise InvalidInput(f"retention must be kymograph.Retention, not {retention!r}")
        with self._schema_lock:
            schema = self._schema(name)
            self._engine.alter_table(replace(schema, retention=retention or Retention()))

    def write(self, name: str, data: Any) -> int:
        """See `Store.write`."""
        if isinstance(data, pa.RecordBatchReader):
            return sum(self._write(name, pa.Table.from_batches([batch])) for batch in data)
        plain = self._plain(name, data) if type(data) is dict else None
        return self._write(name, to_table(data)) if plain is None else plain

    def _plain(self, name: str, data: dict[Any, Any]) -> int | None:
        """Rows of plain values written to a table that has their columns; None where it takes more than that."""
        there = self._engine.tables().get(name)
        batch = conform_plain(data, there) if there is not None else None
        if there is None or batch is None:
            return None
        try:
            return sum(self._engine.append(name, step) for step in _steps(batch, there, self._step_bytes))
        except NotFound:  # dropped by someone else: the long way makes it again
            return None

    def _write(self, name: str, table: pa.Table) -> int:
        if self._is_taken(name):
            _check_samples(self._engine, name, table)
        for _ in range(_ATTEMPTS):
            try:
                return self._append(name, table)
            except NotFound:  # dropped by someone else between our look and our append
                continue
        raise NotFound(f"table {name} is dropped again and again while it is written to")

    def _is_taken(self, name: str) -> bool:
        """Whether the name is the scalar series'; a table called `exemplars` may be older than that name's use."""
        older = name == EXEMPLARS and name in self._engine.tables() and not has_exemplars(self._engine)
        return name in RESERVED and not older

    def _append(self, name: str, table: pa.Table) -> int:
        there = self._engine.tables().get(name)
        wanted = _wanted(there, name, table)
        # conform first, so that rows that do not fit leave no table and no column behind
        batch = conform(table, wanted)
        if wanted is not there:
            committed = self._publish(name, table)
            if committed != wanted:
                batch = conform(table, committed)
            wanted = committed
        if batch.num_rows == 0:
            return 0
        return sum(self._engine.append(name, step) for step in _steps(batch, wanted, self._step_bytes))

    def _publish(self, name: str, table: pa.Table) -> TableSchema:
        with self._schema_lock:
            there = self._engine.tables().get(name)
            wanted = _wanted(there, name, table)
            if wanted is not there:
                self._check_fields(wanted, there)
            if there is None:
                self._engine.create_table(wanted)
            elif wanted is not there:
                self._engine.alter_table(wanted)
            return wanted

    def _check_fields(self, wanted: TableSchema, there: TableSchema | None = None) -> None:
        """Raise LimitExceeded when a table would get more fields than it may have."""
        count, most = len(wanted.fields), self._most_fields
        if most is not None and count > most and (there is None or count > len(there.fields)):
            raise LimitExceeded(
                f"table {wanted.name} would have {count:,} fields, the limit is {most:,}",
                hint="what the names tell apart is better a label; or raise max_fields",
            )

    def _schema(self, name: str) -> TableSchema:
        schema = self._engine.tables().get(name)
        if schema is None:
            raise NotFound(f"there is no table {name}")
        return schema


def _called(kind: pa.DataType) -> str:
    return "a label" if kind == LABEL_TYPE else f"a field of {type_name(kind)}"


def _wanted(there: TableSchema | None, name: str, table: pa.Table) -> TableSchema:
    """The schema that takes `table`: the very object `there` when nothing has to change."""
    if there is None:
        untyped = [column.name for column in table.schema if pa.types.is_null(column.type) and column.name != "time"]
        return infer_schema(name, table.drop_columns(untyped) if untyped else table)
    fresh = new_fields(there, table)
    return there.extended(fresh) if fresh else there


def _steps(batch: pa.RecordBatch, schema: TableSchema, step_bytes: int) -> Iterator[pa.RecordBatch]:
    """The batch in slices that no engine chokes on; whole where a duplicate must undo all of it."""
    # the buffers as a whole are quicker to measure than what a batch uses of them
    if batch.get_total_buffer_size() <= step_bytes or batch.nbytes <= step_bytes or schema.duplicates == "reject":
        yield batch
        return
    rows = max(1, batch.num_rows * step_bytes // batch.nbytes)
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def _check_samples(engine: Engine, name: str, table: pa.Table) -> None:
    """Rows of `samples` (an import of an export) are taken when every series is registered here."""
    if name != SAMPLES or SERIES_ID not in table.column_names or not pa.types.is_integer(table[SERIES_ID].type):
        raise InvalidInput(f"the name {name} is taken by the scalar series", hint=_HINT)
    known = np.fromiter(engine.series(), np.int64)
    ids = table[SERIES_ID].unique().to_numpy()
    unknown = ids[~np.isin(ids, known)]
    if table[SERIES_ID].null_count or len(unknown):
        raise InvalidInput(f"table {name}: series_id {unknown[:1]} is not registered", hint=_HINT)
