"""What a query gives back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from kymograph.errors import MissingDependency
from kymograph.model.time import TIME_TYPE


class Result:
    """Rows of a finished query, in memory (bounded by QueryLimits.memory).

    Text columns, labels among them, are plain `string`; every timestamp is `timestamp[us, tz=UTC]` (finer ones are
    floored, ones without a zone are UTC). A column name that occurs twice gets `_2`, `_3`, … from the second on.

    Attributes:
        tiers: what was read: "raw" for rows as they were written, otherwise tables of summaries.
        approximate: whether rows that are gone may be missing: the range begins or ends inside a summary whose rows have
            gone, or samples in it have been replaced by summaries.
    """

    def __init__(
        self,
        schema: pa.Schema,
        batches: Sequence[pa.RecordBatch],
        tiers: Sequence[str] = ("raw",),
        approximate: bool = False,
    ) -> None:
        self.tiers, self.approximate = list(tiers), approximate
        self._schema = _plain_schema(schema)
        self._batches = [_plain(batch, self._schema) for batch in batches]

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    def __len__(self) -> int:
        return sum(batch.num_rows for batch in self._batches)

    def arrow(self) -> pa.Table:
        """As a pyarrow Table."""
        return pa.Table.from_batches(self._batches, self._schema)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """As pyarrow record batches of at most a few thousand rows each."""
        return iter(self._batches)

    def pandas(self) -> Any:
        """As a pandas DataFrame. Raises MissingDependency without pandas."""
        try:
            return self.arrow().to_pandas()
        except ImportError:
            raise MissingDependency("pandas is not installed", hint="pip install 'kymograph[pandas]'") from None

    def polars(self) -> Any:
        """As a Polars DataFrame. Raises MissingDependency without Polars."""
        try:
            import polars
        except ImportError:
            raise MissingDependency("polars is not installed", hint="pip install 'kymograph[polars]'") from None
        return polars.from_arrow(self.arrow())

    def rows(self) -> list[dict[str, Any]]:
        """As dicts of Python values; times are datetimes in UTC, null is None."""
        return [row for batch in self._batches for row in batch.to_pylist()]


class Stream:
    """Rows of a query that is still running, batch by batch, in the types of a `Result`. Iterate over it once.

    Attributes:
        schema: of the batches.
    """

    def __init__(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        self.schema = _plain_schema(schema)
        self._batches = batches

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Raises what the query raises, after the batches before it."""
        for batch in self._batches:
            yield _plain(batch, self.schema)

    def close(self) -> None:
        """End the query, if it has not ended."""
        close = getattr(self._batches, "close", None)
        if close is not None:
            close()


@lru_cache(maxsize=64)
def _plain_schema(schema: pa.Schema) -> pa.Schema:
    seen: dict[str, int] = {}
    fields = []
    for field in schema:
        seen[field.name] = number = seen.get(field.name, 0) + 1
        name = field.name if number == 1 else f"{field.name}_{number}"
        fields.append(pa.field(name, _plain_type(field.type), field.nullable))
    return pa.schema(fields)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    types = pa.types
    if types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if types.is_string_view(kind) or types.is_large_string(kind):
        return pa.string()
    if types.is_binary_view(kind):
        return pa.binary()
    if types.is_timestamp(kind):
        return TIME_TYPE
    if types.is_list(kind):
        return pa.list_(_plain_type(kind.value_type))
    return kind


def _plain(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = batch.columns
    for i in _changing(batch.schema):
        column, kind = columns[i], schema.field(i).type
        if pa.types.is_timestamp(column.type):
            column = _floored(column)
        elif pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        columns[i] = column if column.type == kind else column.cast(kind)
    return pa.RecordBatch.from_arrays(columns, schema=schema)


@lru_cache(maxsize=64)
def _changing(schema: pa.Schema) -> tuple[int, ...]:
    """Positions of the columns whose type a result does not keep."""
    return tuple(
        i for i, (old, new) in enumerate(zip(schema, _plain_schema(schema), strict=True)) if old.type != new.type
    )


def _floored(column: pa.Array) -> pa.Array:
    """Timestamps of any unit and zone as µs UTC; nanoseconds are floored, also before 1970."""
    if column.type.unit == "ns":
        nanos = column.fill_null(0).view(pa.int64()).to_numpy(zero_copy_only=False)
        micros = pa.array(nanos // 1000, mask=np.asarray(column.is_null()))
        return micros.cast(pa.timestamp("us")).cast(TIME_TYPE)
    return column.cast(pa.timestamp("us")).cast(TIME_TYPE) if column.type.tz is None else column
