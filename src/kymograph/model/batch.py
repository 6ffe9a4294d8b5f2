"""From whatever users write to one canonical record batch, exactly or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.errors import InvalidInput, SchemaError
from kymograph.model.schema import LABEL_TYPE, TableSchema, field_type, type_name
from kymograph.model.time import MAX_TIME, TIME, TIME_TYPE, time_array

_FIRST = pa.array([0], pa.int32())
_WHOLE = 2**53  # up to here every integer is a double
_HINT = "give a pyarrow Table or RecordBatch, a pandas or Polars frame, or a dict of columns"


# how Arrow says that values have no column type; lone surrogates have no UTF-8
_REFUSED = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, UnicodeEncodeError)


def to_table(data: Any) -> pa.Table:
    """An Arrow table of whatever holds columns, without copying where it already is Arrow.

    Args:
        data: pyarrow Table, RecordBatch or RecordBatchReader; anything with `__arrow_c_stream__`
            (Polars and pandas frames among them); or a dict of columns, each an array, a sequence,
            or one scalar that stands for every row.

    Raises:
        InvalidInput: none of these, or columns of unequal length.
    """
    if isinstance(data, pa.Table):
        table = data
    elif isinstance(data, pa.RecordBatch):
        table = pa.Table.from_batches([data])
    elif isinstance(data, Mapping):
        table = _from_columns(data)
    elif type(data).__module__.partition(".")[0] == "pandas":
        table = _from_pandas(data)
    elif hasattr(data, "__arrow_c_stream__"):
        table = pa.table(data)
    else:
        raise InvalidInput(f"cannot read rows from {type(data).__name__}", hint=_HINT)
    names = table.column_names
    if len(set(names)) != len(names):
        raise SchemaError(f"column {next(n for n in names if names.count(n) > 1)!r} is there twice")
    return table


def _from_pandas(frame: Any) -> pa.Table:
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (*_REFUSED, ValueError) as problem:
        raise SchemaError(f"cannot read the pandas frame: {problem}") from None


def _from_columns(data: Mapping[Any, Any]) -> pa.Table:
    lengths = {k: len(v) for k, v in data.items() if _is_column(v)}
    if len(set(lengths.values())) > 1:
        raise InvalidInput(f"columns have unequal lengths: {lengths}")
    rows = next(iter(lengths.values()), 1)
    arrays = {}
    for name, values in data.items():
        column = values if _is_column(values) else [values] * rows
        try:
            arrays[name] = time_array(column) if name == TIME else _array(column)
        except _REFUSED as e:
            raise SchemaError(f"column {name!r}: {e}") from None
    if not all(isinstance(name, str) for name in arrays):
        raise SchemaError(f"column names must be text, not {list(arrays)!r}")
    try:
        return pa.table(arrays)
    except UnicodeEncodeError as problem:
        raise SchemaError(f"a column name has no UTF-8: {problem}") from None


def _is_column(values: Any) -> bool:
    sized = hasattr(values, "__len__") and getattr(values, "ndim", 1) > 0
    return sized and not isinstance(values, (str, bytes, Mapping))


def _array(column: Any) -> Any:
    if isinstance(column, (pa.Array, pa.ChunkedArray)):
        return column
    if isinstance(column, np.ndarray):
        if column.ndim != 1:
            raise SchemaError(f"a column is one-dimensional, not of shape {column.shape}")
        # NaN stays NaN: only pandas objects mean "missing" by it
        return pa.array(column, from_pandas=False)
    try:
        return pa.array(column)
    except OverflowError:  # Arrow guesses int64 for Python ints; the upper half of uint64 has to be named
        return pa.array(column, pa.uint64())


def infer_schema(name: str, table: pa.Table) -> TableSchema:
    """The schema a first write creates: string columns are labels, the rest fields.

    Raises:
        SchemaError: no `time`, or a column whose type no field can hold.
    """
    labels, fields = [], []
    for column in table.schema:
        if column.name == TIME:
            continue
        kind = _storable(name, column)
        if kind == pa.string():
            labels.append(column.name)
        else:
            fields.append((column.name, kind))
    return TableSchema(name, tuple(labels), tuple(fields))


def new_fields(schema: TableSchema, table: pa.Table) -> tuple[tuple[str, pa.DataType], ...]:
    """Fields that `table` has and `schema` lacks; all-null columns without a type are passed over."""
    known = set(schema.columns)
    return tuple(
        (column.name, _storable(schema.name, column))
        for column in table.schema
        if column.name not in known and not pa.types.is_null(column.type)
    )


def _storable(name: str, column: pa.Field) -> pa.DataType:
    kind = field_type(column.type)
    if kind is None:
        raise SchemaError(
            f"table {name}: column {column.name} of type {column.type} cannot be stored",
            hint="cast it to an integer, float, bool or string type",
        )
    return kind


def conform(table: pa.Table, schema: TableSchema) -> pa.RecordBatch:
    """`table` as one record batch in exactly `schema.arrow`; fields and later labels that it lacks become null.

    Raises:
        TimeError: `time` has a null or is no time.
        SchemaError: `time` or a label that the table was made with is missing, or values that the stored type cannot hold
            exactly (names table, column and both types).
    """
    if TIME not in table.column_names:
        raise SchemaError(f"table {schema.name}: there is no column time")
    missing = [label for label in schema.required if label not in table.column_names]
    if missing:
        raise SchemaError(f"table {schema.name}: there is no label column {missing[0]}")
    arrays = [time_array(table[TIME])]
    present = set(table.column_names)
    for field in list(schema.arrow)[1:]:
        if field.name not in present:
            arrays.append(pa.nulls(table.num_rows, field.type))
            continue
        column = table[field.name]
        values = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        if values.type != field.type:
            values = _label(schema, field, values) if field.name in schema.labels else _exact(schema, field, values)
        arrays.append(values)
    return pa.RecordBatch.from_arrays(arrays, schema=schema.arrow)


def known_series(rows: pa.Table, schema: TableSchema) -> pa.Table:
    """Rows of whole tables without those that have a label which came after `schema`: they are of other series."""
    for column in rows.schema:
        if pa.types.is_dictionary(column.type) and column.name not in schema.labels:
            rows = rows.filter(pc.is_null(rows[column.name]))
    return rows


def conform_plain(data: Mapping[Any, Any], schema: TableSchema) -> pa.RecordBatch | None:
    """What `conform(to_table(data), schema)` makes of a dict of lists of plain Python values, in a quarter of the time.

    One row at a time, guessing types and casting them costs more than storing the row.

    Returns:
        None for whatever is less plain: other columns than the schema's, other types than the stored ones, values that
        may not fit. It is for the slow way to take or refuse those.
    """
    if schema.by_series or not all(type(values) is list for values in data.values()):
        return None
    times = data.get(TIME)
    if not times or not data.keys() <= set(schema.columns) or not data.keys() >= set(schema.required):
        return None
    try:
        arrays = [_plain(data.get(name), kind, python, len(times)) for name, kind, python in schema.plain]
    except _REFUSED:
        return None
    if any(array is None or len(array) != len(times) for array in arrays):
        return None
    return pa.RecordBatch.from_arrays(arrays, schema=schema.arrow)


def _plain(values: list[Any] | None, kind: pa.DataType, python: type | None, rows: int) -> pa.Array | None:
    """One column of `kind`, or None."""
    if values is None:
        return pa.nulls(rows, kind)
    found = set(map(type, values))
    if kind == TIME_TYPE:
        plain = found == {int} and min(values) >= -MAX_TIME and max(values) <= MAX_TIME
        return pa.array(values, pa.int64()).view(TIME_TYPE) if plain else None
    if kind == LABEL_TYPE:
        return _texts(values) if found == {str} else None
    found.discard(type(None))
    if found == {python}:
        return pa.array(values, kind)
    if found == {int} and python is float and all(v is None or -_WHOLE <= v <= _WHOLE for v in values):
        return pa.array(values, kind)
    return None


def _texts(values: list[str]) -> pa.Array:
    """Text by dictionary; one text is its own dictionary."""
    texts = pa.array(values, pa.string())
    return texts.dictionary_encode() if len(values) > 1 else pa.DictionaryArray.from_arrays(_FIRST, texts)


def _label(schema: TableSchema, field: pa.Field, values: pa.Array) -> pa.Array:
    if schema.by_series:
        return _exact(schema, field, values)
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if field_type(kind) != pa.string() and not pa.types.is_null(kind):
        raise _misfit(schema, field, values, "a label is text")
    try:
        if pa.types.is_dictionary(values.type):
            return values.cast(LABEL_TYPE)
        return values.cast(pa.string()).dictionary_encode()
    except pa.ArrowInvalid as problem:
        raise _misfit(schema, field, values, str(problem)) from None


def _exact(schema: TableSchema, field: pa.Field, values: pa.Array) -> pa.Array:
    """Cast that changes no value: what comes back from the stored type must be what went in."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = field_type(values.type)
    if pa.types.is_null(values.type):
        return pa.nulls(len(values), field.type)
    if kind is None or (kind == pa.string()) != (field.type == pa.string()):
        raise _misfit(schema, field, values, "different kinds of value")
    if (kind == pa.bool_()) != (field.type == pa.bool_()):
        raise _misfit(schema, field, values, "different kinds of value")
    if pa.types.is_floating(kind) and pa.types.is_floating(field.type):
        cast = values.cast(field.type)
        back = cast.cast(values.type)
        same = _same_bits(values, back)
    else:
        try:
            cast = values.cast(field.type)
            back = cast.cast(values.type)
        except pa.ArrowInvalid as problem:
            raise _misfit(schema, field, values, str(problem)) from None
        same = pc.fill_null(pc.equal(values, back), True).to_numpy(zero_copy_only=False)
    if not same.all():
        row = int(np.argmin(same))
        raise _misfit(schema, field, values, f"row {row} holds {values[row].as_py()!r}")
    return cast


def _same_bits(left: pa.Array, right: pa.Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    bits = {2: np.uint16, 4: np.uint32, 8: np.uint64}[left.type.bit_width // 8]
    valid = left.is_valid().to_numpy(zero_copy_only=False)
    views = [np.asarray(a.fill_null(0).to_numpy(zero_copy_only=False)).view(bits) for a in (left, right)]
    return np.asarray(~valid | (views[0] == views[1]))


def _misfit(schema: TableSchema, field: pa.Field, values: pa.Array, why: str) -> SchemaError:
    return SchemaError(
        f"table {schema.name}: column {field.name} is stored as "
        f"{'text label' if field.type == LABEL_TYPE else type_name(field.type)} and cannot hold "
        f"these {type_name(values.type)} values exactly: {why}",
        hint="cast the values, or write them under another column name",
    )
