"""Columns of any Arrow type as text, column by column: what CSV and JSON lines are made of.

Floats are written with the fewest digits that give the same bits back, always with a point or an exponent, so that a
reader sees that they are floats. Timestamps are ISO 8601 with all digits of their unit; those outside the years 1 to
9999, which ISO 8601 cannot write, are the plain number of units since 1970.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

# seconds since 1970 of 0001-01-01 and 10000-01-01, between which every reader knows ISO 8601
_FIRST, _LAST = -62_135_596_800, 253_402_300_800
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def csv_lines(batch: pa.RecordBatch) -> bytes:
    """The rows as RFC 4180 lines; null is nothing at all, empty text is `""`."""
    columns = [_csv(column) for column in batch.columns]
    parts: list[Any] = []
    for column in columns:
        parts += [column, ","]
    return _joined([*parts[:-1], "\n"], "")


def csv_header(names: list[str]) -> bytes:
    quoted = _csv(pa.array(names, pa.string()))
    return (",".join(quoted.to_pylist()) + "\n").encode()


def json_lines(batch: pa.RecordBatch, *, endless: bool = True) -> bytes:
    """One JSON object per row and line.

    NaN and infinities, which JSON lacks, are the texts NaN, ±Infinity; null without `endless`.
    """
    parts: list[Any] = []
    for place, (name, column) in enumerate(zip(batch.schema.names, batch.columns, strict=True)):
        parts += [("," if place else "{") + json.dumps(name, ensure_ascii=False) + ":", _json(column, endless)]
    return _joined([*parts, "}\n"], "null")


def readable(column: pa.Array) -> pa.Array:
    """The values as text for people: as in CSV, without its quotes; null stays null."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return readable(column.dictionary).take(column.indices)
    text = column.cast(pa.string()) if _is_text(kind) else _plain(column)
    return _nested(column) if text is None else text


def _joined(parts: list[Any], null: str) -> bytes:
    """Row by row concatenation; the rows lie in one buffer already."""
    lines = pc.binary_join_element_wise(
        *(
            part.cast(pa.large_string()) if isinstance(part, pa.Array) else pa.scalar(part, pa.large_string())
            for part in parts
        ),
        pa.scalar("", pa.large_string()),
        null_handling="replace",
        null_replacement=null,
    )
    if len(lines) == 0:
        return b""
    return bytes(lines.buffers()[2])


def _csv(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _csv(column.dictionary).take(column.indices)
    if not _is_text(kind):
        text = _plain(column)
        return text if text is not None else _csv(_nested(column))
    text = column.cast(pa.string())
    special = pc.match_substring_regex(text, r'[",\r\n]|^\s|\s$|^$')
    if not pc.any(special).as_py():
        return text
    escaped = pc.replace_substring(text, '"', '""')
    return pc.if_else(special, pc.binary_join_element_wise('"', escaped, '"', ""), text)


def _json(column: pa.Array, endless: bool) -> pa.Array:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _json(column.dictionary, endless).take(column.indices)
    if _is_text(kind):
        return pa.array(
            [None if v is None else json.dumps(v, ensure_ascii=False) for v in column.to_pylist()], pa.string()
        )
    text = _plain(column)
    if text is None:
        return _nested(column)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind):
        return text
    quoted = pc.binary_join_element_wise('"', text, '"', "")
    if pa.types.is_floating(kind):
        return pc.if_else(pc.is_finite(column), text, quoted if endless else pa.scalar(None, text.type))
    return quoted


def _plain(column: pa.Array) -> pa.Array | None:
    """Text of scalars that need no quotes in CSV; None for what is no plain scalar."""
    kind = column.type
    if pa.types.is_floating(kind):
        return _floats(column)
    if pa.types.is_timestamp(kind):
        return _timestamps(column)
    if pa.types.is_null(kind):
        return pa.nulls(len(column), pa.string())
    if (
        pa.types.is_integer(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_date(kind)
        or pa.types.is_time(kind)
    ):
        return column.cast(pa.string())
    if pa.types.is_duration(kind):
        return column.cast(pa.int64()).cast(pa.string())
    return None


def _floats(column: pa.Array) -> pa.Array:
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    text = column.cast(pa.string())
    whole = pc.invert(pc.match_substring_regex(text, "[.en]"))
    text = pc.if_else(whole, pc.binary_join_element_wise(text, ".0", ""), text)
    text = pc.if_else(pc.is_nan(column), "NaN", text)
    endless = pc.is_inf(column)
    if pc.any(endless).as_py():
        signed = pc.if_else(pc.less(column, 0), "-Infinity", "Infinity")
        text = pc.if_else(endless, signed, text)
    return text


def _timestamps(column: pa.Array) -> pa.Array:
    kind = column.type
    zone = "Z" if kind.tz is not None else ""
    factor = _PER_SECOND[kind.unit]
    numbers = column.cast(pa.int64())
    inside = pc.and_(
        pc.greater_equal(numbers, _FIRST * factor if factor < 10**9 else -(2**63)),
        pc.less(numbers, min(_LAST * factor, 2**63 - 1)),
    )
    naive = pc.if_else(inside, numbers, 0).view(pa.timestamp(kind.unit))
    iso = pc.binary_join_element_wise(pc.strftime(naive, format="%Y-%m-%dT%H:%M:%S"), zone, "")
    if pc.all(inside, min_count=0).as_py():
        return iso
    return pc.if_else(inside, iso, numbers.cast(pa.string()))


def _nested(column: pa.Array) -> pa.Array:
    return pa.array(
        [None if v is None else json.dumps(v, ensure_ascii=False, default=_other) for v in column.to_pylist()],
        pa.string(),
    )


def _other(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
