"""One line of a page: the patterns of its parts, and what a part says.

A part that says nothing raises ValueError with words that go on from "exposition line 7".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

Series = tuple[str, dict[str, str]]

# ±2**62 µs, the range of times the store keeps
_TIME_MOST = 2**62

_QUOTED = r'"(?:[^"\\]++|\\.)*+"'
# series, value, timestamp, exemplar. Possessive throughout: no input makes it backtrack.
SAMPLE = re.compile(
    r"[ \t]*+([a-zA-Z_:][a-zA-Z0-9_:]*+[ \t]*+(?:\{(?:[^\"}]++|"
    + _QUOTED
    + r")*+\})?+|\{(?:[^\"}]++|"
    + _QUOTED
    + r")*+\})"
    r"[ \t]*+([^ \t{}\"#]++)(?:[ \t]++([-+.0-9eE]++))?+[ \t]*+(#.*+)?+",
    re.ASCII,
)
_NAME = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*+)?+[ \t]*+", re.ASCII)
# label name or quoted name, label value, what follows
_LABEL = re.compile(
    r"[ \t]*+(?:([a-zA-Z_][a-zA-Z0-9_]*+)|(" + _QUOTED + r"))[ \t]*+(?:=[ \t]*+(" + _QUOTED + r")[ \t]*+)?+(,|$)",
    re.ASCII,
)
META = re.compile(
    r"[ \t]*+#[ \t]++(HELP|TYPE|UNIT)[ \t]++([a-zA-Z_:][a-zA-Z0-9_:]*+|" + _QUOTED + r")(?:[ \t](.*+))?+", re.ASCII
)
_NUMBER = re.compile(
    r"[+-]?+(?:(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?+[0-9]++)?+|(?i:inf(?:inity)?+|nan))", re.ASCII
)
# labels, value, timestamp
EXEMPLAR = re.compile(
    r"#[ \t]*+(\{(?:[^\"}]++|" + _QUOTED + r")*+\})[ \t]++([^ \t]++)(?:[ \t]++([^ \t]++))?+[ \t]*+", re.ASCII
)
_ESCAPE = re.compile(r'\\([\\n"])')
_UNESCAPED = {"n": "\n", '"': '"', "\\": "\\"}


def series_of(text: str) -> Series:
    """Name and labels; the name stands before the braces, or quoted as the first in them."""
    match = _NAME.match(text)
    assert match is not None
    name = match[1]
    labels: dict[str, str] = {}
    first = True
    for key, quoted, value in labels_of(text[match.end() :]):
        if value is None:
            if not quoted or name is not None or not first:
                raise ValueError(f"has a label without a value: {shown(key)}")
            name = key
        else:
            if key in labels:
                raise ValueError(f"has the label {shown(key)} twice")
            if key in ("__name__", ""):
                raise ValueError(f"has a label that cannot be called {key!r}")
            labels[key] = value
        first = False
    if not name:
        raise ValueError("has no metric name")
    return name, labels


def labels_of(text: str) -> Iterator[tuple[str, bool, str | None]]:
    """Name, whether it is quoted, and value (None: there is none) of each label in braces; of "" none."""
    at, end = 1, len(text) - 1
    while text[at:end].strip(" \t"):
        found = _LABEL.match(text, at, end)
        if found is None:
            raise ValueError(f"has malformed labels: {shown(text[at:end])}")
        key, quoted, value, _ = found.groups()
        at = found.end()
        name = key if quoted is None else unescaped(quoted[1:-1])
        yield name, quoted is not None, None if value is None else unescaped(value[1:-1])


def number_of(text: str) -> float:
    """A value, infinities and NaN included; none that only overflows to one."""
    if _NUMBER.fullmatch(text) is None:
        raise ValueError(f"has a value that is no number: {shown(text)}")
    value = float(text)
    if math.isinf(value) and text[-1] not in "fFyY":
        raise ValueError(f"has a value out of range: {shown(text)}")
    return value


def time_of(text: str, openmetrics: bool) -> int:
    """µs of a timestamp: milliseconds in the text format, seconds in OpenMetrics."""
    if openmetrics:
        number = number_of(text)
        if not math.isfinite(number) or abs(number) * 1e6 > _TIME_MOST:
            raise ValueError(f"has a time out of range: {shown(text)}")
        whole, _, part = text.partition(".")
        if part.isdigit() and whole.lstrip("+-").isdigit():
            # exact where a float of seconds would lose microseconds
            micros = int(whole + part[:6].ljust(6, "0"))
        else:
            micros = round(number * 1e6)
    else:
        if not re.fullmatch(r"[+-]?[0-9]{1,19}", text, re.ASCII):
            raise ValueError(f"has a time that is no number of milliseconds: {shown(text)}")
        micros = int(text) * 1000
    if abs(micros) > _TIME_MOST:
        raise ValueError(f"has a time out of range: {shown(text)}")
    return micros


def unescaped(text: str) -> str:
    """A help text, or what stands in quotes."""
    return text if "\\" not in text else _ESCAPE.sub(lambda match: _UNESCAPED[match[1]], text)


def shown(text: str) -> str:
    """As messages quote it, shortened."""
    return repr(text if len(text) <= 80 else text[:77] + "...")
