"""Bodies of the ring face: JSON objects, JSON arrays and Arrow streams of samples as arrays, each metric told once."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.errors import InvalidInput, TimeError
from kymograph.model.time import MAX_TIME, SECOND, micros_of, time_array
from kymograph.store.rings.rings import Target

_Ints = np.ndarray[Any, np.dtype[np.int64]]
_Floats = np.ndarray[Any, np.dtype[np.float64]]
_FURTHEST = MAX_TIME // SECOND
_OF_TARGET = ("metric_id", "name", "tags", "step", "slots")
# join the parts of a map's pairs, and those pairs; refused in tags that come by Arrow
_PAIR, _PAIRS = "\x1f", "\x1e"


@dataclass(frozen=True)
class Samples:
    """Samples of gauges or counters.

    Attributes:
        targets: what they are for, each once.
        of: int64 of n, the target of each.
        times: int64 µs, n of them. values: float64, n of them.
        single: they came as one object, not as a list.
    """

    targets: list[Target]
    of: _Ints
    times: _Ints
    values: _Floats
    single: bool = False


def from_json(body: bytes, field: str) -> Samples:
    """Samples of a JSON object or an array of them.

    Args:
        field: what the value is called: `value` or `raw_value`.

    Raises:
        InvalidInput: no JSON, or an object that is no sample; names its place.
    """
    given = parsed(body)
    rows = given if isinstance(given, list) else [given]
    allowed = {*_OF_TARGET, "ts", field}
    seen: dict[Any, int] = {}
    targets: list[Target] = []
    of = np.zeros(len(rows), np.int64)
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InvalidInput(f"sample {place} is no JSON object")
        if not row.keys() <= allowed:
            unknown = next(key for key in row if key not in allowed)
            raise InvalidInput(
                f"sample {place}: {unknown[:60]!r} is no field", hint="there are " + ", ".join(sorted(allowed))
            )
        tags = row.get("tags") or {}
        if not isinstance(tags, dict) or not all(type(value) is str for value in tags.values()):
            raise InvalidInput(f"sample {place}: tags must be an object of text")
        key = (*(_hashed(place, row.get(name)) for name in _OF_TARGET if name != "tags"), tuple(sorted(tags.items())))
        number = seen.setdefault(key, len(targets))
        if number == len(targets):
            targets.append(
                _target(place, row.get("metric_id"), row.get("name"), tags, row.get("step"), row.get("slots"))
            )
        of[place] = number
    times = _micros(_numbers("ts", [row.get("ts") for row in rows]))
    values = _numbers(field, [row.get(field) for row in rows])
    return Samples(targets, of, times, values.astype(np.float64), not isinstance(given, list))


def parsed(body: bytes) -> Any:
    """A JSON text. Raises InvalidInput."""
    try:
        return json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as problem:
        raise InvalidInput(f"the body is no JSON: {str(problem)[:200]}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _hashed(place: int, value: Any) -> Any:
    if isinstance(value, (dict, list)):
        raise InvalidInput(f"sample {place}: {str(value)[:60]} is neither a number nor text")
    return type(value), value  # so that 1, 1.0 and true are told apart


def _target(place: int, number: Any, name: Any, tags: Mapping[str, str], step: Any, slots: Any) -> Target:
    if number is None and name is None:
        raise InvalidInput(f"sample {place} has neither metric_id nor name")
    for what, value, kinds in (("metric_id", number, int), ("name", name, str), ("slots", slots, int)):
        if value is not None and type(value) is not kinds:
            raise InvalidInput(f"sample {place}: {what} cannot be {str(value)[:60]!r}")
    return Target(number, name, tags, step_micros(step), slots)


def step_micros(step: Any) -> int | None:
    """µs of a step in seconds; None stays None. Raises InvalidInput."""
    if step is None:
        return None
    if (
        not isinstance(step, (int, float))
        or isinstance(step, bool)
        or not math.isfinite(step)
        or not 0 < step <= _FURTHEST
    ):
        raise InvalidInput(f"a step is a positive number of seconds, not {str(step)[:60]}")
    return round(step * SECOND)


def _numbers(what: str, values: Sequence[Any]) -> Any:
    """JSON numbers as int64 or float64.

    Raises:
        InvalidInput: another thing than a number, an integer that float64 cannot hold, or a number beyond its range.
    """
    kinds = set(map(type, values))
    if not kinds <= {int, float}:
        place = next(place for place, value in enumerate(values) if type(value) not in (int, float))
        raise InvalidInput(f"sample {place}: {what} must be a number, not {str(values[place])[:60]!r}")
    try:
        if kinds == {int} and what == "ts":
            return np.array(values, np.int64)
        numbers = np.array(values, np.float64)
    except OverflowError:
        raise InvalidInput(f"{what} holds a number that is out of range") from None
    strange = ~np.isfinite(numbers)
    if int in kinds:
        strange |= np.array([type(value) is int and float(value) != value for value in values])
    if strange.any():
        place = int(np.argmax(strange))
        raise InvalidInput(f"sample {place}: {what} {str(values[place])[:60]} is not exact as a float64")
    return numbers


def _micros(ts: Any) -> _Ints:
    """int64 µs of seconds, fractions rounded to the µs. Raises TimeError."""
    with np.errstate(invalid="ignore"):
        strange = ~(np.abs(ts) <= _FURTHEST)
    if strange.any():
        place = int(np.argmax(strange))
        raise TimeError(f"sample {place}: ts {ts[place]} is out of range", hint="seconds since 1970")
    whole = np.floor(ts)
    # the fraction by itself, since all of it in µs has more digits than a float64
    micros: _Ints = whole.astype(np.int64) * SECOND + np.rint((ts - whole) * SECOND).astype(np.int64)
    return micros


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
    if len(names) != table.num_columns or not names <= {*_OF_TARGET, "ts", field} or not {"ts", field} <= names:
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
    targets, of = _arrow_targets({name: columns[name] for name in _OF_TARGET if name in columns}, len(times))
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
    return _micros(_cast("ts", column, target).to_numpy(zero_copy_only=False))


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
    encoded = {name: column.dictionary_encode() for name, column in told.items()}
    codes = [one.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64) for one in encoded.values()]
    if not codes:
        raise InvalidInput("there is neither metric_id nor name")
    if not rows:
        return [], np.zeros(0, np.int64)
    _, first, of = np.unique(np.stack(codes, 1), axis=0, return_index=True, return_inverse=True)
    found = {name: column.take(pa.array(first)).to_pylist() for name, column in told.items()}
    none = [None] * len(first)
    numbers, names, tags, steps, slots = (found.get(name, none) for name in _OF_TARGET)
    targets = [
        _target(place, number, name, _tags_of(place, text), step, count)
        for place, number, name, text, step, count in zip(
            first.tolist(), numbers, names, tags, steps, slots, strict=True
        )
    ]
    return targets, of.reshape(-1)


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
