"""SQL rollups: the rows of a SELECT with `time_bucket`, asked again for the buckets that changed.

The statement is asked for a stretch of time by putting a view of that stretch before every table that it names, so it
may be any SELECT whose rows follow from the rows of their own bucket.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from kymograph.errors import InvalidInput, NotFound, SchemaError
from kymograph.model.schema import SAMPLES, TableSchema, field_type
from kymograph.model.time import DAY, TIME
from kymograph.options import Retention
from kymograph.sql.metrics import METRIC
from kymograph.sql.tokens import Token, closing, is_call, name_token, split_commas, tokenize
from kymograph.sql.width import Width, width_of
from kymograph.store.rollups.definition import Rollup, offsets_of, partition_for

Ask = Callable[[str, Mapping[str, Any]], pa.Table]
_BUCKET = frozenset(("time_bucket",))
_RANGE = "SELECT * FROM {} WHERE time >= to_timestamp_micros($start) AND time < to_timestamp_micros($end)"


def defined_by(
    name: str, query: str, offsets: tuple[Any, Any], keep: Retention | None, tables: Mapping[str, TableSchema], ask: Ask
) -> tuple[Rollup, TableSchema]:
    """An SQL rollup and its table: the bucket is its time, texts are labels, all else are fields.

    Raises:
        InvalidInput, SchemaError: a statement that cannot be kept fresh. NotFound: it names no table.
        QueryError: a statement that cannot be planned.
    """
    tokens = tokenize(query)
    if any(token.kind == "param" for token in tokens):
        raise InvalidInput("the statement of a rollup has no parameters", hint="write the values into it")
    width, read = _width(tokens), _read(tokens, tables)
    if not read:
        raise NotFound("the statement names no table that is there", hint="write to it first, or create it")
    # months are made anew day by day
    every = width.micros or DAY
    start, end = offsets_of(offsets, every)
    found = ask(narrowed(query, tables), {"start": 0, "end": 0})
    times = [column.name for column in found.schema if pa.types.is_timestamp(column.type)]
    if len(times) != 1:
        raise SchemaError(
            f"the statement gives {len(times)} columns of time, not one", hint="select time_bucket(…, time) once"
        )
    labels, fields = [], []
    for column in found.schema:
        kind = field_type(column.type)
        if column.name == times[0]:
            continue
        if column.name == TIME or kind is None:
            raise SchemaError(f"column {column.name!r} of type {column.type} cannot be stored", hint="name and cast it")
        if kind == pa.string():
            labels.append(column.name)
        else:
            fields.append((column.name, kind))
    if not fields:
        raise SchemaError("the statement gives no numbers", hint="select an aggregate beside time_bucket")
    schema = TableSchema(name, tuple(labels), tuple(fields), "overwrite", partition_for(every), keep or Retention())
    return Rollup(name, "", every, tuple(labels), (), False, start, end, query, tuple(read)), schema


def asked(rollup: Rollup, start: int, end: int, tables: Mapping[str, TableSchema], ask: Ask) -> pa.Table:
    """What the statement says of the buckets that meet [start, end), the bucket as `time`."""
    low, high = span(rollup, start, end)
    found = ask(narrowed(rollup.query, tables), {"start": low, "end": high})
    bucket = next(column.name for column in found.schema if pa.types.is_timestamp(column.type))
    return found.rename_columns([TIME if name == bucket else name for name in found.column_names])


def span(rollup: Rollup, start: int, end: int) -> tuple[int, int]:
    """[start, end) widened to the statement's own buckets, which may begin on Mondays or with months."""
    width = _width(tokenize(rollup.query))
    starts = width.starts(start, end)
    after = width.starts(end - 1, end + (width.micros or 31 * width.months * DAY) + 1)
    return int(starts[0]), int(after[after >= end][0])


def narrowed(query: str, tables: Mapping[str, TableSchema]) -> str:
    """The statement over the rows of [$start, $end) alone."""
    tokens = tokenize(query)
    views: dict[str, str] = {}
    out: list[Token] = []
    at = 0
    while at < len(tokens):
        token, width = tokens[at], 1
        if _is_metric(tokens, at):
            width, name = 3, f"{METRIC}.{tokens[at + 2].value}"
            views[name] = f"{METRIC}.{name_token(tokens[at + 2].value).text}"
            token = name_token(name)
        elif _is_table(tokens, at, tables):
            views[token.value] = name_token(token.value).text
        out.append(token)
        at += width
    before = ", ".join(f"{name_token(name).text} AS ({_RANGE.format(origin)})" for name, origin in views.items())
    text = " ".join(token.text for token in out)
    if out[0].is_word("with"):
        return f"WITH {before}, {text[len('with') :]}"
    return f"WITH {before} {text}"


def _read(tokens: Sequence[Token], tables: Mapping[str, TableSchema]) -> list[str]:
    found: dict[str, None] = {}
    for at in range(len(tokens)):
        if _is_metric(tokens, at):
            found.setdefault(SAMPLES)
        elif _is_table(tokens, at, tables):
            found.setdefault(tokens[at].value)
    return list(found)


def _is_metric(tokens: Sequence[Token], at: int) -> bool:
    return (
        tokens[at].kind in ("word", "name")
        and tokens[at].value == METRIC
        and at + 2 < len(tokens)
        and tokens[at + 1].is_punct(".")
        and tokens[at + 2].kind in ("word", "name")
    )


def _is_table(tokens: Sequence[Token], at: int, tables: Mapping[str, TableSchema]) -> bool:
    """Whether a table is named where one is read: after FROM, JOIN or a comma."""
    if tokens[at].kind not in ("word", "name") or tokens[at].value not in tables or not at:
        return False
    return tokens[at - 1].is_word("from", "join") or tokens[at - 1].is_punct(",")


def _width(tokens: Sequence[Token]) -> Width:
    widths = set()
    for at in range(len(tokens)):
        if is_call(tokens, at, _BUCKET):
            inner = split_commas(tokens[at + 2 : closing(tokens, at + 1)])
            if len(inner) > 2:
                raise InvalidInput("time_bucket of a rollup has no origin of its own")
            widths.add(width_of(inner[0], {}))
    if len(widths) != 1:
        raise InvalidInput(
            f"the statement has {len(widths)} widths of time_bucket, not one",
            hint="group it by time_bucket('5m', time)",
        )
    return widths.pop()
