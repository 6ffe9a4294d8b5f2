"""Options as frozen dataclasses, and the words for durations and sizes they are written in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from kymograph.errors import InvalidInput

Sync = Literal["full", "normal", "off"]

_DURATION = {"us": 1, "ms": 10**3, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6}
_DURATION |= {"d": 86_400 * 10**6, "w": 7 * 86_400 * 10**6, "y": 365 * 86_400 * 10**6}
_SIZE = {"": 1, "B": 1, "K": 10**3, "KB": 10**3, "MB": 10**6, "M": 10**6, "GB": 10**9, "G": 10**9}
_SIZE |= {"TB": 10**12, "T": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def parse_duration(value: str | timedelta | int) -> int:
    """Microseconds of a duration.

    Args:
        value: Prometheus style text (`"90d"`, `"1h30m"`, `"250ms"`; a number of the units
            us ms s m h d w y, a day being 24 h and a year 365 days), a timedelta, or int µs.

    Raises:
        InvalidInput: not a duration, negative, or beyond 2**62 µs.
    """
    if isinstance(value, bool):
        raise InvalidInput(f"{value!r} is not a duration", hint="write it like 90d, 1h30m or 250ms")
    if isinstance(value, timedelta):
        micros = value // timedelta(microseconds=1)
    elif isinstance(value, int):
        micros = value
    else:
        text = value.strip() if isinstance(value, str) else ""
        if not re.fullmatch(r"([0-9]{1,18}(\.[0-9]{1,9})?(us|ms|s|m|h|d|w|y))+", text, re.ASCII):
            raise InvalidInput(f"{value!r} is not a duration", hint="write it like 90d, 1h30m or 250ms")
        micros = 0
        for number, unit in re.findall(r"([0-9.]+)(us|ms|[smhdwy])", text):
            whole, _, part = number.partition(".")
            micros += int(whole) * _DURATION[unit]
            micros += int(part or 0) * _DURATION[unit] // 10 ** len(part)
    if not 0 <= micros < 2**62:
        raise InvalidInput(f"the duration {value!r} is out of range", hint="0 to 146,000 years")
    return micros


def parse_size(value: str | int) -> int:
    """Bytes of a size: `"500MB"` (10**6), `"512MiB"` (2**20), or an int of bytes.

    Raises:
        InvalidInput: not a size, negative, or beyond 2**62.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        text = value.strip() if isinstance(value, str) else ""
        found = re.fullmatch(r"([0-9]{1,18})(\.[0-9]{1,9})? ?([A-Za-z]{0,3})", text, re.ASCII)
        if not found or found[3].upper() not in _SIZE:
            raise InvalidInput(f"{value!r} is not a size", hint="write it like 500MB or 2GiB")
        factor = _SIZE[found[3].upper()]
        part = (found[2] or ".0")[1:]
        size = int(found[1]) * factor + int(part) * factor // 10 ** len(part)
    if not 0 <= size < 2**62:
        raise InvalidInput(f"the size {value!r} is out of range")
    return size


@dataclass(frozen=True)
class Retention:
    """What bounds a table. None in a field: not bounded that way.

    Attributes:
        age: rows whose time is further than this before now go; duration text or timedelta, kept as int µs.
        bytes: the table's sealed bytes stay below this; size text, kept as int bytes.
    """

    age: str | timedelta | int | None = None
    bytes: str | int | None = None

    def __post_init__(self) -> None:
        for name, parse in (("age", parse_duration), ("bytes", parse_size)):
            value = getattr(self, name)
            if value is None:
                continue
            number = parse(value)
            if number <= 0:
                raise InvalidInput(f"retention {name} must be positive, not {value!r}")
            # "90d" and its number of µs are one bound: schemas that went through a catalog compare equal
            object.__setattr__(self, name, number)

    @property
    def age_micros(self) -> int | None:
        return None if self.age is None else parse_duration(self.age)

    @property
    def max_bytes(self) -> int | None:
        return None if self.bytes is None else parse_size(self.bytes)


@dataclass(frozen=True)
class StoreOptions:
    """How an embedded store behaves. All sizes in bytes, all times in µs.

    Attributes:
        sync: "full": a returned write survives power loss; "normal": it survives `kill -9`, and
            power loss costs what was committed since the last checkpoint of the log (at most 64 MiB
            of it); "off": the operating system decides; `kill -9` loses nothing, power loss may.
        cap: bytes the whole folder may take; None is unbounded.
        age: age bound of every table that has none of its own, µs; None is unbounded.
        head_bytes: unsealed bytes in memory after which writers wait for sealing.
        seal_after: a head older than this is sealed even when small, µs.
        cache_bytes: decoded block columns kept in memory for queries.
        prune_every: pause between retention runs, µs.
        max_series: scalar series there may be in all; None is unbounded.
        max_new_series: scalar series that may be new within an hour (counted since opening); None is unbounded.
        max_fields: fields that a table may come to have; None is unbounded. Each is a column of its own in every block.
        exemplars: how many exemplars of scalar series are kept, the newest; 0 keeps none that come.
        read_only: open beside a writer; sees committed rows, writes nothing.
    """

    sync: Sync = "full"
    cap: int | None = None
    age: int | None = None
    head_bytes: int = 96 * 2**20
    seal_after: int = 600 * 10**6
    cache_bytes: int = 256 * 2**20
    prune_every: int = 300 * 10**6
    max_series: int | None = None
    max_new_series: int | None = None
    max_fields: int | None = 1000
    exemplars: int = 100_000
    read_only: bool = False

    def __post_init__(self) -> None:
        if self.sync not in ("full", "normal", "off"):
            raise InvalidInput(f"sync must be full, normal or off, not {self.sync!r}")
        sizes = ("head_bytes", "seal_after", "prune_every", "cache_bytes", "exemplars")
        bounds = tuple(
            name
            for name in ("cap", "age", "max_series", "max_new_series", "max_fields")
            if getattr(self, name) is not None
        )
        for name in (*sizes, *bounds):
            if type(getattr(self, name)) is not int:
                raise InvalidInput(
                    f"{name} must be an int, not {getattr(self, name)!r}",
                    hint="parse_size and parse_duration read text",
                )
        if self.cap is not None and self.cap < 8 * 10**6:
            raise InvalidInput(f"a cap of {self.cap} bytes is too small", hint="at least 8MB")
        for name in ("head_bytes", "seal_after", "prune_every"):
            if getattr(self, name) <= 0:
                raise InvalidInput(f"{name} must be positive, not {getattr(self, name)}")
        for name in ("max_series", "max_new_series"):
            if getattr(self, name) is not None and getattr(self, name) < 0:
                raise InvalidInput(f"{name} must not be negative, not {getattr(self, name)}")
        if self.max_fields is not None and self.max_fields <= 0:
            raise InvalidInput(f"max_fields must be positive, not {self.max_fields}")
        for name in ("cache_bytes", "exemplars"):
            if getattr(self, name) < 0:
                raise InvalidInput(f"{name} must not be negative, not {getattr(self, name)}")

    @property
    def head_limit(self) -> int:
        """`head_bytes`, or less where a small cap leaves no room for so much."""
        return self.head_bytes if self.cap is None else min(self.head_bytes, max(2**18, self.cap // 32))


@dataclass(frozen=True)
class QueryLimits:
    """What one SQL query may use.

    Attributes:
        timeout: seconds until it is cancelled; None waits for ever.
        memory: bytes of DataFusion's memory pool.
        rows: result rows before it fails; None is unbounded (the HTTP face always sets it).
    """

    timeout: float | None = 60.0
    memory: int = 1 * 2**30
    rows: int | None = None
