"""Arrow bodies of the ring face: an IPC stream of samples as arrays, each metric told once; nothing loops over rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.errors import InvalidInput
from kymograph.model.time import micros_of, time_array
from kymograph.server.ring_bodies import OF_TARGET, TYPES, Samples, check_types, micros_of_seconds, parsed, target
from kymograph.store.rings.rings import Target

_Ints = np.ndarray[Any, np.dtype[np.int64]]
_Floats = np.ndarray[Any, np.dtype[np.float64]]
# join the parts of a map's pairs, and those pairs; refused in tags that come by Arrow
_PAIR, _PAIRS = "\x1f", "\x1e"


def from_arrow(body: bytes, field: str, most: int) -> Samples:
    """Samples of an Arrow IPC stream.

    Columns: `ts` (seconds, or timestamps), `value` or `raw_value`, `metric_id` or `name`, and, where wanted, `tags`
    (a map or struct of text, or JSON text), `step` (seconds) and `slots`.

    Args:
        most: bytes that the rows may take.

    Raises:
        InvalidInput: no such stream.
    """
    table = _read(body, most)
    names = set(table.column_names)
    if len(names) != table.num_columns or not names <= {*OF_TARGET, "ts", field} or not {"ts", field} <= names:
        raise InvalidInput(
            f"the columns are {', '.join(table.column_names)[:200]}",
            hint=f"ts, {field}, metric_id or name, and tags, step, slots where wanted, each once",
        )
    columns = {name: _plain(table[name]) for name in table.column_names}
    for name in ("ts", field):
        if columns[name].null_count:
            raise InvalidInput(f"{name} has a null")
    times = _arrow_times(columns["ts"])
    values = _floats(field, columns[field])
    targets, of = _arrow_targets({name: columns[name] for name in OF_TARGET if name in columns}, len(times))
    return Samples(targets, of, times, values)


def _read(body: bytes, most: int) -> pa.Table:
    try:
        with pa.ipc.open_stream(body) as reader:
            batches, size = [], 0
            for batch in reader:
                batch.validate(full=True)
                size += batch.nbytes
                if size > most:
                    raise InvalidInput(f"the stream is more than {most} bytes when unpacked", hint="send less at once")
                batches.append(batch)
            table = pa.Table.from_batches(batches, reader.schema)
            _ = table.column_names  # decodes them: they may be no text
            return table
    except (pa.ArrowException, OSError, MemoryError, ValueError) as problem:
        if isinstance(problem, InvalidInput):
            raise
        raise InvalidInput(f"the body is no Arrow stream: {str(problem)[:200]}") from None


def _plain(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _arrow_times(column: pa.Array) -> _Ints:
    kind = column.type
    if pa.types.is_timestamp(kind):
        return micros_of(time_array(column))
    if not pa.types.is_integer(kind) and not pa.types.is_floating(kind):
        raise InvalidInput(f"ts cannot be of type {kind}", hint="seconds, or timestamps")
    target = pa.int64() if pa.types.is_integer(kind) else pa.float64()
    return micros_of_seconds(_cast("ts", column, target).to_numpy(zero_copy_only=False))


def _floats(name: str, column: pa.Array) -> _Floats:
    if not pa.types.is_integer(column.type) and not pa.types.is_floating(column.type):
        raise InvalidInput(f"{name} cannot be of type {column.type}")
    values: _Floats = _cast(name, column, pa.float64()).to_numpy(zero_copy_only=False)
    return values


def _cast(name: str, column: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return column.cast(kind)
    except pa.ArrowException as problem:
        raise InvalidInput(f"{name}: {problem}") from None


def _arrow_targets(columns: Mapping[str, pa.Array], rows: int) -> tuple[list[Target], _Ints]:
    """The distinct targets, and which of them each row is for: every column by its distinct values, then all together."""
    told = {name: _tag_text(column) if name == "tags" else column for name, column in columns.items()}
    if not told:
        raise InvalidInput("there is neither metric_id nor name")
    of = np.zeros(rows, np.int64)
    for column in told.values():
        encoded = column.dictionary_encode()
        codes = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(zero_copy_only=False)
        # dense again after each column, so that the product stays far below 2**63
        together = pa.array(of * (len(encoded.dictionary) + 1) + codes).dictionary_encode()
        of = together.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    # codes are in the order of appearance, so that a new one is where the greatest so far grows
    first = np.flatnonzero(np.diff(np.maximum.accumulate(of), prepend=-1))
    found = {name: column.take(pa.array(first)).to_pylist() for name, column in told.items()}
    none = [None] * len(first)
    numbers, names, tags, steps, slots = (found.get(name, none) for name in OF_TARGET)
    for name, kinds in TYPES.items():
        if name in found and name != "tags":
            check_types(name, found[name], *kinds, type(None))
    targets = [
        target(place, number, name, _tags_of(place, text), step, count)
        for place, number, name, text, step, count in zip(
            first.tolist(), numbers, names, tags, steps, slots, strict=True
        )
    ]
    return targets, of


def _tag_text(column: pa.Array) -> pa.Array:
    """Tags as one text each, equal where they are: of a map its pairs, of a struct JSON, text as it is."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind):
        return _text(column)
    if pa.types.is_map(kind):
        pairs = pc.binary_join_element_wise(_text(column.keys), pc.fill_null(_text(column.items), ""), _PAIR)
        lists = pa.ListArray.from_arrays(column.offsets, pairs)
        joined = pc.binary_join(lists, _PAIRS)
        return pc.if_else(column.is_valid(), joined, None)
    if pa.types.is_struct(kind):
        names = [kind.field(place).name for place in range(kind.num_fields)]
        if not names:
            return pa.nulls(len(column), pa.string())
        parts = [pc.fill_null(_text(part), "") for part in column.flatten()]
        labelled = [pc.binary_join_element_wise(name, part, _PAIR) for name, part in zip(names, parts, strict=True)]
        return pc.binary_join_element_wise(*labelled, _PAIRS)
    raise InvalidInput(f"tags cannot be of type {kind}", hint="a map or struct of text, or JSON text")


def _text(column: pa.Array) -> pa.Array:
    column = _plain(pa.chunked_array([column]))
    kind = column.type
    if not pa.types.is_string(kind) and not pa.types.is_large_string(kind) and not pa.types.is_null(kind):
        raise InvalidInput(f"tags must be text, not {kind}")
    text = column.cast(pa.string())
    if pc.any(pc.match_substring_regex(text, f"[{_PAIR}{_PAIRS}]")).as_py():
        raise InvalidInput("tags must not hold the separators U+001E and U+001F")
    return text


def _tags_of(place: int, text: str | None) -> dict[str, str]:
    if not text:
        return {}
    if _PAIR in text:
        return dict(pair.partition(_PAIR)[::2] for pair in text.split(_PAIRS))
    tags = parsed(text.encode())
    if not isinstance(tags, dict) or not all(type(value) is str for value in tags.values()):
        raise InvalidInput(f"sample {place}: tags must be an object of text")
    return tags
