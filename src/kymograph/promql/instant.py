"""Functions of one value at a time: arithmetic, trigonometry, calendar. Arrays in, arrays of the same shape out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kymograph.promql.source import Floats

_DAY = np.timedelta64(1, "D")


def rounded(values: Floats, to: Any = 1.0) -> Floats:
    """To the nearest multiple of `to`, halves up."""
    inverse = 1.0 / np.asarray(to, np.float64)
    found: Floats = np.floor(values * inverse + 0.5) / inverse
    return found


ELEMENTWISE: dict[str, Callable[[Floats], Floats]] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "floor": np.floor,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "ln": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "sgn": np.sign,
    "acos": np.arccos,
    "acosh": np.arccosh,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "cos": np.cos,
    "cosh": np.cosh,
    "sin": np.sin,
    "sinh": np.sinh,
    "tan": np.tan,
    "tanh": np.tanh,
    # in Prometheus' order, for the same last digit
    "deg": lambda x: x * (180 / np.pi),
    "rad": lambda x: x * (np.pi / 180),
}


def _seconds(values: Floats) -> Any:
    return np.trunc(np.where(np.abs(values) < _BEYOND, values, 0.0)).astype("datetime64[s]")


def _days(values: Floats) -> Any:
    return _seconds(values).astype("datetime64[D]")


def _months(values: Floats) -> Any:
    return _seconds(values).astype("datetime64[M]")


def _month_length(values: Floats) -> Any:
    first = _months(values)
    return ((first + 1).astype("datetime64[D]") - first.astype("datetime64[D]")) / _DAY


CALENDAR: dict[str, Callable[[Floats], Any]] = {
    "minute": lambda x: _seconds(x).astype(np.int64) // 60 % 60,
    "hour": lambda x: _seconds(x).astype(np.int64) // 3600 % 24,
    "day_of_week": lambda x: (_days(x).astype(np.int64) + 4) % 7,
    "day_of_month": lambda x: (_days(x) - _months(x).astype("datetime64[D]")) / _DAY + 1,
    "day_of_year": lambda x: (_days(x) - _seconds(x).astype("datetime64[Y]").astype("datetime64[D]")) / _DAY + 1,
    "days_in_month": _month_length,
    "month": lambda x: _months(x).astype(np.int64) % 12 + 1,
    "year": lambda x: _seconds(x).astype("datetime64[Y]").astype(np.int64) + 1970,
}


# what Go makes of the seconds of NaN, infinities and whatever int64 does not hold: 292277026596-12-04T15:30:08Z
_BEYOND = 2.0**63
_NO_DATE = {"year": 292277026596, "month": 12, "day_of_month": 4, "day_of_week": 0}
_NO_DATE |= {"day_of_year": 339, "days_in_month": 31, "hour": 15, "minute": 30}


def calendar(name: str, values: Floats) -> Floats:
    """A part of the UTC date of seconds since the epoch."""
    found: Floats = np.where(np.abs(values) < _BEYOND, CALENDAR[name](values).astype(np.float64), _NO_DATE[name])
    return found


def _power(base: Any, exponent: Any) -> Any:
    # NumPy may take the square root instead of the power of one half, which is another thing for -Inf
    return np.where((base == -np.inf) & (exponent == 0.5), np.inf, np.power(base, exponent))


ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
    "^": _power,
    "atan2": np.arctan2,
}
COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    ">": np.greater,
    "<=": np.less_equal,
    ">=": np.greater_equal,
}
