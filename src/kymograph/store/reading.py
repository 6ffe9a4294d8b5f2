"""Reading rows in the order of time: whole (`read_ordered`), streamed (`stream`), and the newest few (`newest`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.engine.interface import Engine
from kymograph.errors import NotFound
from kymograph.model.matcher import Matcher
from kymograph.model.schema import TableSchema
from kymograph.model.time import MAX_TIME, MIN_TIME, SECOND, TIME, micros_of

# what one slice of a stream may take in memory, by the width of its columns; texts are guessed at 32 bytes
SLICE_BYTES = 32 * 2**20
_TEXT_WIDTH = 32
_Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Selection:
    """Rows of one table that somebody asks for.

    Attributes:
        table: its name.
        matchers: predicates on labels, all of which hold.
        start, end: [start, end) in µs; None leaves that side open.
        columns: what to return, in this order; None is every column.
    """

    table: str
    matchers: Sequence[Matcher] = ()
    start: int | None = None
    end: int | None = None
    columns: tuple[str, ...] | None = None


def read_ordered(engine: Engine, selection: Selection, *, descending: bool = False) -> pa.Table:
    """Every selected row by time, then labels. Raises NotFound, SchemaError."""
    schema = _schema(engine, selection.table)
    asked = _asked(schema, selection)
    names = _with_keys(schema, asked)
    found = engine.scan(schema.name, selection.matchers, selection.start, selection.end, names).table()
    return _ordered(found, schema, descending).select(list(asked))


def stream(engine: Engine, selection: Selection) -> pa.RecordBatchReader:
    """As `read_ordered`, as a stream of batches that needs the memory of a few slices of `SLICE_BYTES`.

    Only rows of one and the same microsecond are never cut apart; they are as many as the table has series.
    """
    schema = _schema(engine, selection.table)
    arrow = engine.scan(schema.name, selection.matchers, 0, 0, _asked(schema, selection)).schema
    return pa.RecordBatchReader.from_batches(arrow, _slices(engine, schema, selection))


def newest(engine: Engine, table: str, count: int, matchers: Sequence[Matcher] = ()) -> pa.Table:
    """The `count` newest selected rows, ascending by time; looks no further back than it has to."""
    low, high = _bounds(engine, Selection(table))
    width = 64 * SECOND
    while True:
        start = max(low, high - width)
        rows = read_ordered(engine, Selection(table, matchers, start, high))
        if rows.num_rows >= count or start == low:
            return rows.slice(max(0, rows.num_rows - count))
        width *= 8


def _bounds(engine: Engine, selection: Selection) -> tuple[int, int]:
    """[start, end) narrowed to what is stored; empty ranges come out as (low, low)."""
    statistics = engine.statistics(selection.table)
    if statistics.oldest is None or statistics.newest is None:
        return (0, 0)
    low = max(statistics.oldest, MIN_TIME if selection.start is None else selection.start)
    # an open end reads on while others write: it stops at what was there when the reading began
    high = min(statistics.newest + 1, MAX_TIME + 1 if selection.end is None else selection.end)
    return (low, max(low, high))


def _slices(engine: Engine, schema: TableSchema, selection: Selection) -> Iterator[pa.RecordBatch]:
    asked = _asked(schema, selection)
    names = _with_keys(schema, asked)
    limit = max(1024, SLICE_BYTES // _row_width(schema, names))
    # (start, end, whether it was cut already by the number of rows that the engine expects)
    waiting = [(*_bounds(engine, selection), False)]
    while waiting:
        low, high, cut = waiting.pop()
        if low >= high:
            continue
        scan = engine.scan(schema.name, selection.matchers, low, high, names)
        if scan.rows == 0:
            continue
        if scan.rows > limit and high - low > schema.partition:
            middle = schema.partition_of(low + (high - low) // 2)
            middle = middle if middle > low else low + (high - low) // 2
            waiting += [(middle, high, cut), (low, middle, cut)]
            continue
        if scan.rows > limit and not cut:
            waiting += _pieces(low, high, -(-scan.rows // limit))
            continue
        batches = _at_most(scan.batches(), 2 * limit if high - low > 1 else None)
        if batches is None:
            waiting += _pieces(low, high, 2)
            continue
        rows = _ordered(pa.Table.from_batches(batches, scan.schema), schema, False).select(list(asked))
        yield from rows.to_batches(max_chunksize=limit)


def _pieces(low: int, high: int, count: int) -> list[tuple[int, int, bool]]:
    """[low, high) in `count` pieces, the last first: a stack gives the earliest back first."""
    step = -(-(high - low) // count)
    return [(at, min(at + step, high), True) for at in range(low, high, step)][::-1]


def _at_most(batches: Iterator[pa.RecordBatch], limit: int | None) -> list[pa.RecordBatch] | None:
    """All batches, or None as soon as they hold more rows than `limit`."""
    kept, rows = [], 0
    for batch in batches:
        kept.append(batch)
        rows += batch.num_rows
        if limit is not None and rows > limit:
            return None
    return kept


def _ordered(rows: pa.Table, schema: TableSchema, descending: bool) -> pa.Table:
    if rows.num_rows < 2:
        return rows
    times = micros_of(rows[TIME].combine_chunks())
    keys = -times if descending else times
    if bool((keys[1:] > keys[:-1]).all()):
        return rows
    series = _label_ranks(rows, schema)
    order = np.argsort(keys, kind="stable") if series is None else np.lexsort((series, keys))
    return rows.take(pa.array(order))


def _label_ranks(rows: pa.Table, schema: TableSchema) -> _Ints | None:
    """One integer per row that orders rows by their labels; None where they are in that order already."""
    ranks: _Ints | None = None
    for label in schema.labels:
        own = _ranks(rows[label])
        if ranks is None:
            ranks = own
            continue
        # dense again after each label, so that the product stays far below 2**63
        ranks = np.unique(ranks * (int(own.max()) + 1) + own, return_inverse=True)[1].astype(np.int64)
    if ranks is None or bool((ranks[1:] >= ranks[:-1]).all()):
        return None
    return ranks


def _ranks(column: pa.ChunkedArray) -> _Ints:
    """Integers that sort as the values do, nulls first."""
    if not pa.types.is_dictionary(column.type):
        # series_id: ids count from 1
        return np.asarray(pc.fill_null(column, -1).to_numpy(), np.int64)
    try:
        values = column.unify_dictionaries().combine_chunks()
    except pa.ArrowInvalid:  # a dictionary that holds null itself cannot be unified
        values = column.cast(pa.string()).dictionary_encode().combine_chunks()
    # a dictionary may hold a value twice, or null
    distinct = values.dictionary.dictionary_encode()
    by_distinct = np.empty(len(distinct.dictionary) + 1, np.int64)
    by_distinct[pc.sort_indices(distinct.dictionary).to_numpy()] = np.arange(1, len(distinct.dictionary) + 1)
    by_distinct[-1] = 0
    by_code = np.append(by_distinct[_codes(distinct)], 0)
    ranks: _Ints = by_code[_codes(values)]
    return ranks


def _codes(encoded: pa.DictionaryArray) -> _Ints:
    """Indices into the dictionary, -1 where null."""
    return np.asarray(pc.fill_null(encoded.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False), np.int64)


def _asked(schema: TableSchema, selection: Selection) -> tuple[str, ...]:
    return schema.columns if selection.columns is None else selection.columns


def _with_keys(schema: TableSchema, asked: Sequence[str]) -> tuple[str, ...]:
    """The asked columns and those that order needs, each once."""
    return tuple(dict.fromkeys((*asked, TIME, *schema.labels)))


def _row_width(schema: TableSchema, names: Sequence[str]) -> int:
    kinds = [schema.arrow.field(name).type for name in names if name in schema.columns]
    return sum(_TEXT_WIDTH if not pa.types.is_primitive(kind) else max(1, kind.bit_width // 8) for kind in kinds)


def _schema(engine: Engine, table: str) -> TableSchema:
    schema = engine.tables().get(table)
    if schema is None:
        raise NotFound(f"there is no table {table}", hint="there are: " + ", ".join([*engine.tables()][:20]))
    return schema
