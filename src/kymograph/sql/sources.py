"""What SQL can name: tables, `latest.<table>`, and tables that are in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kymograph.engine.interface import Engine, Scan
from kymograph.model.matcher import Matcher
from kymograph.model.schema import SERIES_ID, TableSchema
from kymograph.model.summary import Ints
from kymograph.model.time import TIME
from kymograph.sql.partial.tier import Range, Tier, check_summaries

NO_LABELS: frozenset[str] = frozenset()


class TableSource:
    """An engine's table.

    Attributes:
        table: its name.
    """

    def __init__(self, engine: Engine, table: TableSchema) -> None:
        self._engine = engine
        self._table = table
        self.table = table.name
        self.labels = frozenset((TIME, *table.labels))

    @property
    def schema(self) -> pa.Schema:
        return self._table.arrow

    def scan(self, matchers: Sequence[Matcher], start: int | None, end: int | None, columns: Sequence[str]) -> Scan:
        return self._engine.scan(self._table.name, matchers, start, end, columns)

    def in_tier(self, tier: Tier, labels: Collection[str]) -> bool:
        """Whether a tier tells these labels of the table apart."""
        return tier.labels.issuperset(labels)

    def of_tier(
        self, tier: Tier, matchers: Sequence[Matcher], span: Range, labels: Sequence[str], columns: Sequence[str]
    ) -> tuple[dict[str, Any], pa.Table]:
        """Rows of a tier in a range: labels as the table has them, and columns of the tier."""
        names = list(dict.fromkeys((*labels, *columns)))
        rows = summaries(self._engine.scan(tier.table, matchers, *span, names), tier.table)
        return {label: rows[label] for label in labels}, rows

    def series(self, matchers: Sequence[Matcher]) -> Ints:
        """Ids of the scalar series that satisfy every matcher, ascending, where these are `samples`."""
        ids = np.fromiter(self._engine.series(), np.int64)
        for matcher in matchers:
            ids = ids[np.isin(ids, matcher.numbers)]
        return ids

    def labelled(self, ids: pa.Array, label: str) -> Any:
        """What a label of these scalar series is."""
        return ids

    def of_series(self, ids: Ints, start: int | None, end: int | None, columns: Sequence[str]) -> Scan:
        """Rows of these scalar series."""
        return self._engine.scan(self.table, [Matcher(SERIES_ID, "in", frozenset(ids.tolist()))], start, end, columns)


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


def summaries(scan: Scan, table: str) -> pa.Table:
    """All rows of a scan of summaries. Raises LimitExceeded: more than may be held."""
    check_summaries(scan.rows, table)
    return scan.table()


def held(rows: pa.Table) -> Scan:
    """A scan of one part over a table in memory."""

    def part() -> Iterator[pa.RecordBatch]:
        return iter(rows.to_batches())

    return Scan(rows.schema, [part], rows.num_rows)
