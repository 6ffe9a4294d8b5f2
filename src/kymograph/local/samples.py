"""The columns of blocks of `samples` (docs/format/block.md): values as numbers, and as float64 where no number fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from kymograph.local.encoding import DICTIONARY
from kymograph.local.rows import Bools, Ints, SeriesIndex
from kymograph.local.scaled import Scaled, scale, unscaled
from kymograph.model.schema import SERIES_ID
from kymograph.model.time import TIME, TIME_TYPE

VALUE, NUMBER, ORDER, BASE, FACTOR, DIVISOR = "value", "number", "order", "base", "factor", "divisor"
PARTS = (NUMBER, ORDER, BASE, FACTOR, DIVISOR)
STORED = pa.schema(
    [
        pa.field(TIME, TIME_TYPE, nullable=False),
        pa.field(SERIES_ID, pa.int64()),
        pa.field(NUMBER, pa.int64()),
        pa.field(ORDER, pa.int8(), nullable=False),
        pa.field(BASE, pa.int64(), nullable=False),
        pa.field(FACTOR, pa.int64(), nullable=False),
        pa.field(DIVISOR, pa.float64(), nullable=False),
        pa.field(VALUE, pa.float64()),
    ]
)
# numbers are small and their bytes one plane each; what is the same in all rows of a series is a dictionary's
ENCODINGS = {
    SERIES_ID: "DELTA_BINARY_PACKED",
    NUMBER: "BYTE_STREAM_SPLIT",
    **dict.fromkeys((ORDER, BASE, FACTOR, DIVISOR), DICTIONARY),
    VALUE: "BYTE_STREAM_SPLIT",
}


def is_stored(file: pa.Schema) -> bool:
    """Whether a file has these columns, and not a table's own that happen to share a name with one of them."""
    return bool(file.names == STORED.names and file.field(SERIES_ID).type == pa.int64())


def stored(group: pa.Table) -> list[pa.Array]:
    """The sorted rows of one row group (time, series_id, value) in the columns `STORED`."""
    ids, values = _flat(group.column(SERIES_ID)), _flat(group.column(VALUE))
    offsets = series_offsets(ids)
    there = values.is_valid().to_numpy(zero_copy_only=False)
    bits = values.fill_null(0.0).to_numpy()
    found, fits = scale(bits, there, offsets)
    sizes = np.diff(offsets)
    each = (np.repeat(one, sizes) for one in (found.order, found.base, found.factor, found.divisor))
    value = _masked(bits, fits | ~there)
    return [_flat(group.column(TIME)), ids, _masked(found.numbers, ~fits), *map(pa.array, each), value]


def series_offsets(ids: pa.Array) -> Ints:
    """Where each series of sorted rows begins, and where the last one ends."""
    series = ids.fill_null(-1).to_numpy()
    heads = np.flatnonzero(series[1:] != series[:-1]) + 1
    return np.concatenate(([0], heads, [len(series)]))


def series_index(ids: pa.Array) -> SeriesIndex:
    """The series of sorted rows, by their ids, each of which is in one place."""
    offsets = series_offsets(ids)
    distinct = ids.take(pa.array(offsets[:-1]))
    codes = np.arange(len(distinct), dtype=np.int32) - distinct.null_count  # null comes first, and is -1
    return SeriesIndex({SERIES_ID: distinct.drop_null()}, {SERIES_ID: codes}, offsets)


def restored(read: Callable[[Sequence[str]], pa.Table | pa.RecordBatch], offsets: Ints) -> pa.Array:
    """The values of the rows of one row group, null where they were null.

    Args:
        read: gives columns of the group by name.
        offsets: where its series begin.
    """
    parts = read(PARTS)
    number, order, base, factor, divisor = (_flat(parts.column(name)) for name in PARTS)
    heads = offsets[:-1]
    each = [one.to_numpy()[heads] for one in (order, base, factor, divisor)]
    if not number.null_count:
        return pa.array(unscaled(Scaled(number.to_numpy(), *each), offsets))
    found = unscaled(Scaled(number.fill_null(0).to_numpy(), *each), offsets)
    value = _flat(read([VALUE]).column(VALUE))
    fits = number.is_valid().to_numpy(zero_copy_only=False)
    # chosen as integers, so that no payload of a NaN is touched on the way
    bits = np.where(fits, found.view(np.int64), value.fill_null(0.0).to_numpy().view(np.int64))
    missing = ~fits & value.is_null().to_numpy(zero_copy_only=False)
    return _masked(bits.view(np.float64), missing)


def _masked(values: Ints | np.ndarray[tuple[int], np.dtype[np.float64]], hidden: Bools) -> pa.Array:
    if hidden.all():
        return pa.nulls(len(values), pa.from_numpy_dtype(values.dtype))
    return pa.array(values, mask=hidden if hidden.any() else None, from_pandas=False)


def _flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column
