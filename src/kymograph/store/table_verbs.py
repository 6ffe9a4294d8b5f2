"""The verbs of tables: create, write, read, delete."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from kymograph.model.matcher import Matcher, matchers_of
from kymograph.model.schema import SAMPLES, Duplicates, TableSchema, table_schema, typed_columns
from kymograph.model.time import to_micros
from kymograph.options import Retention
from kymograph.store.base import StoreBase
from kymograph.store.exemplars.book import EXEMPLARS, delete_beside
from kymograph.store.reading import Selection, read_ordered, stream
from kymograph.store.tables import Tables

Labels = Mapping[str, Any] | Iterable[Matcher] | None


class TableVerbs(StoreBase):
    """Tables of a store; see `Store`."""

    def create_table(
        self,
        name: str,
        labels: Iterable[str] = (),
        fields: Mapping[str, str | pa.DataType] | None = None,
        *,
        duplicates: Duplicates = "overwrite",
        partition: str | int = "1d",
        retention: Retention | None = None,
    ) -> TableSchema:
        """Create a table; creating an equal one again is fine, also when columns have been added to it since.

        Args:
            name: letters, digits, `_`, `.`, `-`; `samples` and `metrics` are taken.
            labels: names of the string columns that identify a series.
            fields: type name (`"float32"`, …) or Arrow type of each field.
            duplicates: what a second row of one (series, time) does: overwrite, ignore or reject.
            partition: width of one time slice, duration text or int µs; retention drops whole slices.
            retention: age or bytes that bound this table.

        Returns:
            The schema of the table that is there now.

        Raises:
            SchemaError, InvalidInput: a name, type or policy that is none.
            AlreadyExists: there is a different table of that name.
        """
        schema = table_schema(name, labels, fields, duplicates, partition, retention)
        return self._written(lambda: self._tables().create(schema))

    def add_columns(
        self, name: str, labels: Iterable[str] = (), fields: Mapping[str, str | pa.DataType] | None = None
    ) -> TableSchema:
        """Give a table more labels or fields, each after those it has. Rows from before have null there.

        A row with null in a new label is of the same series as one from before; rows may still be written without it.
        Columns that are there already as given are fine. `write` adds fields by itself, `write_lines` labels too.

        Args:
            labels: names of string columns that identify a series from now on; 100 labels are the most.
            fields: type name (`"float32"`, …) or Arrow type of each field.

        Returns:
            The schema with them.

        Raises:
            NotFound: there is no such table. AlreadyExists: a column is there as something else; nothing is added.
            SchemaError: a name or type that is none, or a table with fixed columns. LimitExceeded: too many labels.
        """
        more, typed = typed_columns(name, labels, fields)
        return self._written(lambda: self._tables().add_columns(name, more, typed))

    def tables(self) -> dict[str, TableSchema]:
        """The schemas of all tables by name, as of now."""
        return dict(self.engine.tables())

    def set_retention(self, name: str, retention: Retention | None) -> None:
        """Replace what bounds a table; None leaves only the store-wide bounds. The next prune applies it."""
        self._written(lambda: self._tables().set_retention(name, retention))

    def drop_table(self, name: str) -> None:
        """Forget a table and its rows."""
        self._written(lambda: self.engine.drop_table(name))

    def write(self, table: str, data: Any) -> int:
        """Store rows; durable (see `StoreOptions.sync`) and visible when it returns.

        An unknown table is created: string columns are labels, the rest fields. Columns that the table lacks become
        new fields (a new string column too: `add_columns` adds labels). Labels that were added may be left out.

        Args:
            data: pyarrow Table, RecordBatch or RecordBatchReader, a pandas or Polars frame, or a dict of columns;
                `time` is required. A reader is stored batch by batch; anything else in steps of at most 64 MB, and
                only tables that reject duplicates take any size whole. Each step is durable by itself.

        Returns:
            Rows accepted, duplicates included.

        Raises:
            SchemaError: a column that cannot be stored, or values the stored type cannot hold exactly; names table,
                column and both types. Nothing of the step is stored.
            TimeError: `time` has a null, or is no time.
            DuplicateRows: the table's policy is reject.
            DiskFull, StorageError, ReadOnly: nothing of the step is stored.
        """
        return self._written(lambda: self._tables().write(table, data))

    def delete(self, table: str, labels: Labels = None, start: Any = None, end: Any = None) -> int:
        """Remove the selected rows for good; durable when it returns. Returns how many.

        With samples go the exemplars of the same series and times, which are not counted.
        """
        gone = _selection(table, labels, start, end, None)

        def remove() -> int:
            rows = self.engine.delete(table, gone.matchers, gone.start, gone.end)
            if table == SAMPLES:
                delete_beside(self.engine, gone.matchers, gone.start, gone.end)
            if table in (SAMPLES, EXEMPLARS):
                self._dropped(EXEMPLARS)
            return rows

        return self._written(remove)

    def scan(
        self,
        table: str,
        labels: Labels = None,
        start: Any = None,
        end: Any = None,
        columns: Iterable[str] | None = None,
        *,
        descending: bool = False,
    ) -> pa.Table:
        """The selected rows in memory, ascending in time (or descending); rows of one time are in label order.

        Args:
            columns: the columns to return, in this order; None is all of them.
        """
        return read_ordered(self.engine, _selection(table, labels, start, end, columns), descending=descending)

    def reader(
        self,
        table: str,
        labels: Labels = None,
        start: Any = None,
        end: Any = None,
        columns: Iterable[str] | None = None,
    ) -> pa.RecordBatchReader:
        """The selected rows as a stream in the order of `scan`, in bounded memory, however many there are.

        Rows written while it runs may or may not be in it; none is in it twice.
        """
        return stream(self.engine, _selection(table, labels, start, end, columns))

    def latest(self, table: str, labels: Labels = None) -> pa.Table:
        """The newest row of every selected series, all columns, in no particular order."""
        return self.engine.latest(table, matchers_of(labels))

    def _tables(self) -> Tables:
        return self._kept("tables", lambda: Tables(self._engine, self.options))


def _selection(table: str, labels: Labels, start: Any, end: Any, columns: Iterable[str] | None) -> Selection:
    return Selection(
        table,
        matchers_of(labels),
        None if start is None else to_micros(start),
        None if end is None else to_micros(end),
        None if columns is None else (columns,) if isinstance(columns, str) else tuple(columns),
    )
