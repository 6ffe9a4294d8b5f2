"""Widths of time buckets: what `time_bucket` takes, and where its buckets begin."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from kymograph.errors import QueryError
from kymograph.model.time import DAY, HOUR, MINUTE, SECOND
from kymograph.sql.parameters import Parameters, interval_micros
from kymograph.sql.tokens import Token

# As in TimescaleDB: buckets are aligned to a Monday, buckets of months to January 2000 (years divide it, too).
_Ints = np.ndarray[Any, np.dtype[np.int64]]
MONDAY = 946_857_600 * SECOND  # 2000-01-03
Y2000 = 946_684_800 * SECOND
_HINT = "write it like INTERVAL '5 minutes', '5 minutes' or '5m'"
_UNITS = {
    **dict.fromkeys(("us", "microsecond", "microseconds"), 1),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 1000),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), SECOND),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), MINUTE),
    **dict.fromkeys(("h", "hour", "hours"), HOUR),
    **dict.fromkeys(("d", "day", "days"), DAY),
    **dict.fromkeys(("w", "week", "weeks"), 7 * DAY),
}
_MONTHS = {
    **dict.fromkeys(("mon", "mons", "month", "months"), 1),
    **dict.fromkeys(("quarter", "quarters"), 3),
    **dict.fromkeys(("y", "year", "years"), 12),
}
_PART = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([a-z]+)\s*,?", re.ASCII)
_CLOCK = re.compile(r"(\d{1,4}):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?", re.ASCII)


@dataclass(frozen=True)
class Width:
    """Either a fixed number of µs, or a number of calendar months; the other is 0."""

    micros: int = 0
    months: int = 0

    def floor_to(self, origin: int | None) -> Callable[[_Ints], _Ints]:
        """What maps times to the starts of their buckets, all int64 µs; None is the default origin.

        Raises:
            QueryError: an origin inside a month, for buckets of months.
        """
        if not self.months:
            since = (MONDAY if origin is None else origin) % self.micros
            if not since:
                return lambda times: times // self.micros * self.micros
            return lambda times: (times - since) // self.micros * self.micros + since
        first = _month(Y2000 if origin is None else origin)
        if _micros(first) != (Y2000 if origin is None else origin):
            raise QueryError("the origin of buckets of months is the first instant of a month")

        def floor(times: _Ints) -> _Ints:
            months = times.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)
            return _micros((months - first) // self.months * self.months + first)

        return floor

    def starts(self, start: int, end: int) -> _Ints:
        """First instants (µs) of the buckets that meet [start, end), ascending, for the default origin."""
        first = int(self.floor_to(None)(np.array([start], np.int64))[0])
        if not self.months:
            return np.arange(first, end, self.micros, dtype=np.int64)
        return _micros(np.arange(_month(first), _month(end - 1) + 1, self.months))

    def count(self, start: int, end: int) -> int:
        """About how many buckets `starts` gives, without making them."""
        return max(0, end - start) // (self.micros or self.months * 28 * DAY) + 2


def _month(micros: int) -> int:
    """Months since 1970 of the month a time lies in."""
    return int(np.datetime64(micros, "us").astype("datetime64[M]").astype(np.int64))


def _micros(months: Any) -> _Ints:
    """First instants of months since 1970, µs."""
    micros: _Ints = np.asarray(months).astype("datetime64[M]").astype("datetime64[us]").astype(np.int64)
    return micros


def parse_width(value: str | int | dt.timedelta) -> Width:
    """A width from `'5 minutes'`, `'1 hour 30 min'`, `'5m'`, `'1h30m'`, `'01:30:00'`, `'1 month'`, timedelta or int µs.

    Raises:
        QueryError: not a width, not positive, or months mixed with anything shorter.
    """
    if isinstance(value, (dt.timedelta, np.timedelta64)):
        value = interval_micros(value)
    if isinstance(value, int) and not isinstance(value, bool):
        width = Width(value)
    elif isinstance(value, str):
        width = _parse(value)
    else:
        raise QueryError(f"{value!r} is not a bucket width", hint=_HINT)
    if width.micros < 0 or width.months < 0 or width == Width():
        raise QueryError(f"a bucket width must be positive, not {value!r}", hint=_HINT)
    if width.micros and width.months:
        raise QueryError(f"the bucket width {value!r} mixes months with shorter units", hint="use one or the other")
    if width.micros > 2**53 or width.months > 12_000:
        raise QueryError(f"the bucket width {value!r} is out of range")
    return width


@lru_cache(maxsize=256)
def _parse(text: str) -> Width:
    lowered = text.strip().lower()
    clock = _CLOCK.fullmatch(lowered)
    if clock:
        hours, minutes, seconds, part = (clock[1], clock[2], clock[3] or "0", (clock[4] or "").ljust(6, "0"))
        return Width(int(hours) * HOUR + int(minutes) * MINUTE + int(seconds) * SECOND + int(part))
    micros = months = position = 0
    while position < len(lowered):
        found = _PART.match(lowered, position)
        if not found or (found[2] not in _UNITS and found[2] not in _MONTHS):
            raise QueryError(f"{text[:80]!r} is not a bucket width", hint=_HINT)
        whole, _, part = found[1].partition(".")
        if found[2] in _MONTHS:
            if part.strip("0"):
                raise QueryError(f"a bucket width has whole months, not {text[:80]!r}", hint=_HINT)
            months += int(whole) * _MONTHS[found[2]]
        else:
            unit = _UNITS[found[2]]
            micros += int(whole) * unit + int(part or 0) * unit // 10 ** len(part)
        position = found.end()
    return Width(micros, months)


def width_of(tokens: Sequence[Token], params: Parameters) -> Width:
    """The width written as a literal, an INTERVAL (`INTERVAL '5 minutes'`, `INTERVAL '5' MINUTE`) or a parameter.

    Raises:
        QueryError: anything else; a width must be known before the query runs.
    """
    words = [t for t in tokens if not t.is_word("interval")]
    if len(words) == 1 and words[0].kind == "param" and len(tokens) == 1:
        if words[0].value not in params:
            raise QueryError(f"no value was given for ${words[0].value}")
        return parse_width(params[words[0].value])
    if len(words) == 1 and words[0].kind == "string" and len(tokens) <= 2:
        return parse_width(words[0].value)
    split = len(tokens) == 3 and tokens[0].is_word("interval") and tokens[2].kind == "word"
    if split and tokens[1].kind in ("string", "number"):
        return parse_width(f"{tokens[1].value} {tokens[2].value}")
    written = " ".join(t.text for t in tokens)[:80]
    raise QueryError(f"the bucket width {written!r} is neither an interval, a text nor a parameter", hint=_HINT)
