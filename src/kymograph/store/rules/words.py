"""The functions of templates, with Go's way of writing numbers."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from kymograph.errors import InvalidInput
from kymograph.promql.result import general

_LARGE = ("k", "M", "G", "T", "P", "E", "Z", "Y")
_SMALL = ("m", "u", "n", "p", "f", "a", "z", "y")
_VERB = re.compile(r"%([-+# 0]*)([0-9]*)(?:\.([0-9]*))?([a-zA-Z%])")


def spoken(value: Any) -> str:
    """A value as Go prints it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return general(value)
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{spoken(one)}" for key, one in sorted(value.items())) + "]"
    return str(value)


def number(value: Any) -> float:
    """A number, also one that is written as text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise InvalidInput(f"can't convert {value!r} to float")
    try:
        return float(value)
    except ValueError:
        raise InvalidInput(f"can't convert {value!r} to float") from None


def _general(value: float) -> str:
    if not math.isfinite(value):
        return spoken(value)
    return f"{value:.4g}"


def humanize(given: Any) -> str:
    """Four digits and a metric prefix."""
    value = number(given)
    if value == 0 or not math.isfinite(value):
        return _general(value)
    prefix = ""
    if abs(value) >= 1:
        for one in _LARGE:
            if abs(value) < 1000:
                break
            prefix, value = one, value / 1000
    else:
        prefix, value = _enlarged(value)
    return _general(value) + prefix


def _enlarged(value: float) -> tuple[str, float]:
    prefix = ""
    for one in _SMALL:
        if abs(value) >= 1:
            break
        prefix, value = one, value * 1000
    return prefix, value


def humanize1024(given: Any) -> str:
    """Four digits and a binary prefix."""
    value = number(given)
    prefix = ""
    if abs(value) > 1 and math.isfinite(value):
        for one in ("ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"):
            if abs(value) < 1024:
                break
            prefix, value = one, value / 1024
    return _general(value) + prefix


def humanize_duration(given: Any) -> str:
    """Seconds as `1d 2h 3m 4s`; of less than a minute, four digits."""
    value = number(given)
    if not math.isfinite(value):
        return _general(value)
    if value == 0:
        return "0s"
    if abs(value) < 1:
        prefix, value = _enlarged(value)
        return f"{_general(value)}{prefix}s"
    sign, value = "-" if value < 0 else "", abs(value)
    minutes, seconds = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{sign}{days}d {hours}h {minutes}m {seconds}s"
    if hours:
        return f"{sign}{hours}h {minutes}m {seconds}s"
    return f"{sign}{minutes}m {seconds}s" if minutes else f"{sign}{_general(value)}s"


def humanize_percentage(given: Any) -> str:
    return _general(number(given) * 100) + "%"


def humanize_timestamp(given: Any) -> str:
    """Seconds since 1970 as a date in UTC."""
    value = number(given)
    if not math.isfinite(value):
        return _general(value)
    try:
        moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=round(value * 1000))
    except OverflowError:
        raise InvalidInput(f"{value} cannot be represented as a time") from None
    fraction = f".{moment.microsecond // 1000:03d}".rstrip("0").rstrip(".")
    return f"{moment:%Y-%m-%d %H:%M:%S}{fraction} +0000 UTC"


def printf(pattern: Any, *values: Any) -> str:
    """Go's Printf with %d, %e, %f, %g, %q, %s, %t, %v and %%, with flags, width and precision."""
    rest = list(values)

    def one(match: re.Match[str]) -> str:
        flags, width, precision, verb = match.groups()
        if verb == "%":
            return "%"
        if not rest:
            return f"%!{verb}(MISSING)"
        return _formatted(verb, flags, width, precision, rest.pop(0))

    text = _VERB.sub(one, str(pattern))
    return text + (f"%!(EXTRA {', '.join(map(spoken, rest))})" if rest else "")


def _formatted(verb: str, flags: str, width: str, precision: str | None, value: Any) -> str:
    if int(width or 0) > 1000 or int(precision or 0) > 1000:
        raise InvalidInput("a width of more than 1000")
    dot = "" if precision is None else f".{precision or 0}"
    form = f"%{flags.replace('#', '')}{width}"
    if verb in "feEgG" and isinstance(value, float):
        if verb in "gG" and precision is None:
            return f"{form}s" % general(value)
        return f"{form}{dot}{verb}" % value if math.isfinite(value) else f"{form.replace('0', '')}s" % spoken(value)
    if verb == "d" and isinstance(value, int) and not isinstance(value, bool):
        return f"{form}d" % value
    if verb in "vst" and not (verb == "s" and isinstance(value, (int, float))):
        return f"{form}{dot if verb == 's' else ''}s" % spoken(value)
    if verb == "q" and isinstance(value, str):
        return f"{form}s" % ('"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"')
    kind = {bool: "bool", int: "int", float: "float64", str: "string"}.get(type(value), "value")
    return f"%!{verb}({kind}={spoken(value)})"


def _title(text: Any) -> str:
    return re.sub(r"(?<![\w'])\w", lambda match: match[0].upper(), str(text))


def _replaced(pattern: Any, replacement: Any, text: Any) -> str:
    target = re.sub(r"\$\{?([0-9])\}?", r"\\\1", str(replacement))
    try:
        return str(pc.replace_substring_regex(pa.array([str(text)]), str(pattern), target)[0].as_py())
    except pa.ArrowInvalid as problem:
        raise InvalidInput(f"regex {pattern!r}: {problem}") from None


def _match(pattern: Any, text: Any) -> bool:
    try:
        return bool(pc.match_substring_regex(pa.array([str(text)]), str(pattern))[0].as_py())
    except pa.ArrowInvalid as problem:
        raise InvalidInput(f"regex {pattern!r}: {problem}") from None


def _compared(holds: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(a: Any, b: Any) -> bool:
        if isinstance(a, str) != isinstance(b, str):
            raise InvalidInput("incompatible types for comparison")
        return holds(a, b)

    return compare


def _last(*values: Any, until: bool) -> Any:
    """The first value that is (or is not) empty, else the last one: Go's `or` and `and`."""
    for value in values:
        if (value not in ("", 0, False)) == until:
            return value
    return values[-1]


_Word = tuple[tuple[int, int], Callable[..., Any]]
# by name: the least and most arguments, and what it does
WORDS: dict[str, _Word] = {
    "humanize": ((1, 1), humanize),
    "humanize1024": ((1, 1), humanize1024),
    "humanizeDuration": ((1, 1), humanize_duration),
    "humanizePercentage": ((1, 1), humanize_percentage),
    "humanizeTimestamp": ((1, 1), humanize_timestamp),
    "printf": ((1, 20), printf),
    "print": ((0, 20), lambda *values: "".join(map(spoken, values))),
    "title": ((1, 1), _title),
    "toUpper": ((1, 1), lambda text: str(text).upper()),
    "toLower": ((1, 1), lambda text: str(text).lower()),
    "reReplaceAll": ((3, 3), _replaced),
    "match": ((2, 2), _match),
    "len": ((1, 1), len),
    "eq": ((2, 2), _compared(lambda a, b: bool(a == b))),
    "ne": ((2, 2), _compared(lambda a, b: bool(a != b))),
    "lt": ((2, 2), _compared(lambda a, b: bool(a < b))),
    "le": ((2, 2), _compared(lambda a, b: bool(a <= b))),
    "gt": ((2, 2), _compared(lambda a, b: bool(a > b))),
    "ge": ((2, 2), _compared(lambda a, b: bool(a >= b))),
    "and": ((1, 20), lambda *values: _last(*values, until=False)),
    "or": ((1, 20), lambda *values: _last(*values, until=True)),
    "not": ((1, 1), lambda value: value in ("", 0, False)),
}
