"""StatsD lines, with the tags, value lists and times of DogStatsD.

Sources: the StatsD project's "Metric types" page and Datadog's "Datagram format". A line is
`name:value[:value…]|type[|@rate][|#tag:value,…][|Tseconds]`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from kymograph.wire.names import plain_label, plain_name

Kind = Literal["counter", "gauge", "timer", "set"]
Labels = tuple[tuple[str, str], ...]

_KINDS: dict[str, Kind] = {
    "c": "counter",
    "g": "gauge",
    "ms": "timer",
    "h": "timer",
    "d": "timer",
    "s": "set",
}
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_SECONDS = re.compile(r"T[0-9]{1,12}", re.ASCII)
MAX_VALUE = 1000


@dataclass(frozen=True, slots=True)
class Update:
    """What one line says of one series.

    Attributes:
        name, labels: the series, its name fit for PromQL.
        kind: counter, gauge, timer (also histograms and distributions) or set.
        values: numbers; texts for a set.
        rate: the share of events that were sent, 0 < rate <= 1.
        relative: a gauge that is changed by its values instead of set to them.
        time: µs, where the line has one.
        milliseconds: the values are times in ms.
    """

    name: str
    labels: Labels
    kind: Kind
    values: tuple[float, ...] = ()
    texts: tuple[str, ...] = ()
    rate: float = 1.0
    relative: bool = False
    time: int | None = None
    milliseconds: bool = False


def read_line(line: str) -> Update:
    """One line, without its line feed.

    Raises:
        ValueError: it is none, or an event or service check, which are no metrics.
    """
    head, *parts = line.split("|")
    name, colon, text = head.partition(":")
    named = plain_name(name)
    if not parts or not colon or not named or line.startswith(("_e{", "_sc|")):
        raise ValueError("it is no name:value|type")
    kind = _KINDS.get(parts[0])
    if kind is None:
        raise ValueError(f"the type {parts[0][:20]!r} does not exist")
    rate, time = 1.0, None
    labels: Labels = ()
    for part in parts[1:]:
        if part.startswith("@"):
            rate = _number(part[1:])
            if not 0 < rate <= 1:
                raise ValueError(f"the sample rate {rate} is not within 0 and 1")
        elif part.startswith("#"):
            labels = _labels(part[1:])
        elif _SECONDS.fullmatch(part):
            time = int(part[1:]) * 10**6
    if kind == "set":
        return Update(named, labels, kind, texts=(text[:MAX_VALUE],))
    values = text.split(":")
    relative = kind == "gauge" and values[0][:1] in ("+", "-")
    numbers = tuple(_number(value) for value in values)
    return Update(named, labels, kind, numbers, (), rate, relative, time, parts[0] == "ms")


def _number(text: str) -> float:
    if _NUMBER.fullmatch(text) is None or not math.isfinite(float(text)):
        raise ValueError(f"{text[:40]!r} is no number")
    return float(text)


def _labels(text: str) -> Labels:
    found: dict[str, str] = {}
    for tag in text.split(","):
        key, colon, value = tag.partition(":")
        label = plain_label(key)
        # a tag without a value says that something is so
        if label and label != "__name__":
            found[label] = (value if colon else "true")[:MAX_VALUE]
    return tuple(sorted(pair for pair in found.items() if pair[1]))
