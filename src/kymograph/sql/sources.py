"""What SQL can name: tables, `latest.<table>`, and tables that are in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from kymograph.engine.interface import Engine, Scan
from kymograph.model.matcher import Matcher
from kymograph.model.schema import TableSchema
from kymograph.model.time import TIME

NO_LABELS: frozenset[str] = frozenset()


class TableSource:
    """An engine's table."""

    def __init__(self, engine: Engine, table: TableSchema) -> None:
        self._engine = engine
        self._table = table
        self.labels = frozenset((TIME, *table.labels))

    @property
    def schema(self) -> pa.Schema:
        return self._table.arrow

    def scan(self, matchers: Sequence[Matcher], start: int | None, end: int | None, columns: Sequence[str]) -> Scan:
        return self._engine.scan(self._table.name, matchers, start, end, columns)


class LatestSource:
    """The newest row of every series of a table."""

    def __init__(self, engine: Engine, table: TableSchema) -> None:
        self._engine = engine
        self._table = table
        self.labels = frozenset(table.labels)

    @property
    def schema(self) -> pa.Schema:
        return self._table.arrow

    def scan(self, matchers: Sequence[Matcher], start: int | None, end: int | None, columns: Sequence[str]) -> Scan:
        rows = self._engine.latest(self._table.name, matchers).select(list(columns))
        return held(rows.cast(pa.schema([self._table.arrow.field(name) for name in columns])))


class HeldSource:
    """A table in memory."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows
        self.labels = NO_LABELS

    @property
    def schema(self) -> pa.Schema:
        return self._rows.schema

    def scan(self, matchers: Sequence[Matcher], start: int | None, end: int | None, columns: Sequence[str]) -> Scan:
        # a table without columns of its own still has `columns` == ["time"] asked of it when rows are only counted
        names = [name for name in columns if name in self._rows.schema.names]
        return held(self._rows.select(names or self._rows.schema.names[:1]))


class EmptySource:
    """A table that does not exist yet and so has no rows."""

    def __init__(self, table: TableSchema) -> None:
        self.schema = table.arrow
        self.labels = frozenset((TIME, *table.labels))

    def scan(self, matchers: Sequence[Matcher], start: int | None, end: int | None, columns: Sequence[str]) -> Scan:
        return held(self.schema.empty_table().select(list(columns)))


def held(rows: pa.Table) -> Scan:
    """A scan of one part over a table in memory."""

    def part() -> Iterator[pa.RecordBatch]:
        return iter(rows.to_batches())

    return Scan(rows.schema, [part], rows.num_rows)
