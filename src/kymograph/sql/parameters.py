"""Parameters: `$name` and `$1` become typed literals of the parsed statement, never text of it."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kymograph.errors import QueryError
from kymograph.model.time import TIME_TYPE, to_micros
from kymograph.sql.tokens import Token

Parameters = Mapping[str, Any]
MAX_LIST = 10_000


def named(params: Mapping[Any, Any] | Sequence[Any] | None) -> dict[str, Any]:
    """By name; a sequence gives `$1`, `$2`, …

    Raises:
        QueryError: a name that no query could hold.
    """
    if params is None:
        return {}
    if isinstance(params, (str, bytes)) or not isinstance(params, (Mapping, Sequence)):
        raise QueryError(f"parameters are a mapping or a list, not {type(params).__name__}")
    items = params.items() if isinstance(params, Mapping) else enumerate(params, 1)
    return {str(name).removeprefix("$"): value for name, value in items}


def bind(tokens: Sequence[Token], params: Parameters) -> tuple[list[Token], dict[str, pa.Scalar]]:
    """The tokens, with `IN $list` and `IN ($list)` spelled out, and a typed value for every parameter they name.

    Raises:
        QueryError: a parameter without a value, or a value of a type SQL has not.
    """
    result: list[Token] = []
    values: dict[str, pa.Scalar] = {}
    for i, token in enumerate(tokens):
        if token.kind != "param":
            result.append(token)
            continue
        if token.value not in params:
            given = ", ".join(f"${name}" for name in params) or "none"
            raise QueryError(f"no value was given for ${token.value}", hint=f"given: {given}")
        value = params[token.value]
        if _is_list(value) and _after_in(tokens, i):
            bracket = tokens[i - 1].is_punct("(")
            result.extend(_spelled(token, list(value), values, bracket))
        else:
            values[token.value] = scalar(token.value, value)
            result.append(token)
    return result, values


def _after_in(tokens: Sequence[Token], i: int) -> bool:
    if i and tokens[i - 1].is_word("in"):
        return True
    closed = i + 1 < len(tokens) and tokens[i + 1].is_punct(")")
    return i > 1 and closed and tokens[i - 1].is_punct("(") and tokens[i - 2].is_word("in")


def _spelled(token: Token, items: list[Any], values: dict[str, pa.Scalar], bracket: bool) -> list[Token]:
    if len(items) > MAX_LIST:
        raise QueryError(f"${token.value} holds {len(items)} values; {MAX_LIST} are the limit")
    parts = []
    for k, item in enumerate(items):
        name = f"{token.value}__{k}"
        values[name] = scalar(token.value, item)
        parts += [Token("param", name, f"${name}"), Token("punct", ",", ",")]
    spelled = parts[:-1] or [Token("word", "null", "NULL")]
    return spelled if bracket else [Token("punct", "(", "("), *spelled, Token("punct", ")", ")")]


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple, set, frozenset, np.ndarray))


def scalar(name: str, value: Any) -> pa.Scalar:
    """One value as a typed Arrow scalar: text, int, float, bool, None, datetime (naive means UTC), date, timedelta,
    their NumPy kin, or a list of one kind."""
    if isinstance(value, np.generic) and not isinstance(value, (np.datetime64, np.timedelta64)):
        value = value.item()
    try:
        if value is None or isinstance(value, (bool, float)):
            return pa.scalar(value)
        if isinstance(value, str):
            if "\0" in value:
                raise QueryError(f"parameter ${name} holds a NUL character")
            value.encode()
            return pa.scalar(value, pa.string())
        if isinstance(value, int):
            return pa.scalar(value, pa.int64() if value < 2**63 else pa.uint64())
        if isinstance(value, (dt.datetime, np.datetime64)):
            return pa.scalar(to_micros(value), TIME_TYPE)
        if isinstance(value, dt.date):
            return pa.scalar(value, pa.date32())
        if isinstance(value, (dt.timedelta, np.timedelta64)):
            return pa.scalar(pa.MonthDayNano([0, 0, interval_micros(value) * 1000]))
        if _is_list(value):
            return pa.scalar([scalar(name, item).as_py() for item in value])
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as problem:
        raise QueryError(f"parameter ${name}: {problem}") from None
    raise QueryError(
        f"parameter ${name} cannot be of type {type(value).__name__}",
        hint="give text, a number, bool, None, a datetime, a timedelta or a list of one kind",
    )


def interval_micros(value: dt.timedelta | np.timedelta64) -> int:
    """µs of a Python or NumPy interval, floored."""
    if isinstance(value, np.timedelta64):
        return math.floor(value / np.timedelta64(1, "us"))
    return value // dt.timedelta(microseconds=1)
