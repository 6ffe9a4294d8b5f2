"""Graphite's plaintext protocol: `path[;tag=value…] value seconds`."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from kymograph.model.time import MAX_TIME
from kymograph.wire.names import plain_label, plain_name

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)


class Reading(NamedTuple):
    """One line; `time` is µs, None for the moment it came."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float
    time: int | None


def read_line(line: str) -> Reading:
    """One line, without its line feed.

    Raises:
        ValueError: what is wrong with it.
    """
    parts = line.split()
    if len(parts) not in (2, 3):
        raise ValueError("it is no path, value and time")
    path, *tags = parts[0].split(";")
    name = plain_name(path)
    if not name:
        raise ValueError("it has no path")
    labels: dict[str, str] = {}
    for tag in tags:
        key, equals, value = tag.partition("=")
        label = plain_label(key)
        if not equals or not label or label == "__name__":
            raise ValueError(f"{tag[:40]!r} is no tag")
        labels[label] = value[:1000]
    time = None
    # -1 and N stand for now
    if len(parts) == 3 and parts[2] not in ("-1", "N"):
        seconds = _number(parts[2])
        if abs(seconds) * 10**6 > MAX_TIME:
            raise ValueError(f"the time {parts[2][:40]} is out of range")
        time = round(seconds * 10**6)
    return Reading(name, tuple(sorted(pair for pair in labels.items() if pair[1])), _number(parts[1]), time)


def _number(text: str) -> float:
    if _NUMBER.fullmatch(text) is None or not math.isfinite(float(text)):
        raise ValueError(f"{text[:40]!r} is no number")
    return float(text)
