"""What a request of Prometheus' API says: parameters of the URL and of a form, read as that API reads them.

Times are float seconds or RFC 3339 and are rounded to the millisecond, as Prometheus does; durations are float seconds
or text such as `1h30m`. Everything that cannot be read is `bad_data` in Prometheus' words.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl

from fastapi import Request

from kymograph.errors import InvalidInput
from kymograph.model.time import MAX_TIME, MIN_TIME
from kymograph.options import parse_duration

_FORM = "application/x-www-form-urlencoded"
_MOST = 1000  # parameters in one request
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:[.,]([0-9]+))?(Z|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)
_DURATION = re.compile("".join(f"(?:[0-9]+{unit})?" for unit in ("y", "w", "d", "h", "m", "s", "ms")), re.ASCII)
# what Prometheus' own client sends for "since ever" and "for ever"
_EDGES = {"-292273086-05-16T16:47:06Z": MIN_TIME, "292277025-08-18T07:12:54.999999999Z": MAX_TIME}


class Parameters:
    """The parameters of one request; of a form before those of the URL."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._all: dict[str, list[str]] = {}
        for name, value in pairs:
            self._all.setdefault(name, []).append(value)

    @classmethod
    async def of(cls, request: Request) -> Parameters:
        """Read a request. Raises InvalidInput for a form that is none."""
        pairs: list[tuple[str, str]] = []
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            if request.method in ("POST", "PUT") and kind == _FORM:
                body = (await request.body()).decode("utf-8")
                pairs += parse_qsl(body, keep_blank_values=True, max_num_fields=_MOST, errors="strict")
            query = request.scope["query_string"].decode("latin-1")
            pairs += parse_qsl(query, keep_blank_values=True, max_num_fields=_MOST, errors="strict")
        except (UnicodeDecodeError, ValueError) as problem:
            raise InvalidInput(f"error parsing form values: {problem}") from None
        return cls(pairs)

    def text(self, name: str) -> str:
        """The first value, "" where there is none."""
        return self._all.get(name, [""])[0]

    def all(self, name: str) -> list[str]:
        return list(self._all.get(name, []))

    def time(self, name: str, default: int | None = None) -> int:
        """µs since 1970, a whole number of ms."""
        text = self.text(name)
        if not text and default is not None:
            return default
        found = _instant(text)
        if found is None or not MIN_TIME <= found <= MAX_TIME:
            said = "" if default is None else f"Invalid time value for '{name}': "
            raise invalid(name, f'{said}cannot parse "{text}" to a valid timestamp')
        return found

    def duration(self, name: str) -> int | None:
        """µs, None where nothing is given."""
        text = self.text(name)
        if not text:
            return None
        return _duration(name, text)

    def step(self, name: str) -> int:
        """µs of a duration that must be there."""
        return _duration(name, self.text(name))

    def count(self, name: str) -> int:
        """A whole number, 0 where nothing is given."""
        text = self.text(name)
        if not text:
            return 0
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text, re.ASCII):
            raise invalid(name, f'strconv.Atoi: parsing "{text}": invalid syntax')
        number = int(text)
        if number < 0:
            raise invalid(name, "limit must be non-negative")
        return number

    def span(self) -> tuple[int, int]:
        """`start` and `end`, both included; the whole of time where they are not given."""
        return self._end("start", MIN_TIME), self._end("end", MAX_TIME)

    def _end(self, name: str, default: int) -> int:
        """A time that may be further off than any sample: for ever is said in many ways."""
        found = _instant(self.text(name))
        return self.time(name, default) if found is None else min(max(found, MIN_TIME), MAX_TIME)


def invalid(name: str, message: str) -> InvalidInput:
    """A parameter that cannot be used, in Prometheus' words."""
    return InvalidInput(f'invalid parameter "{name}": {message}')


def _instant(text: str) -> int | None:
    """µs, also beyond what is stored; None for what is no time."""
    if text.lstrip("+") in _EDGES:
        return _EDGES[text.lstrip("+")]
    if _NUMBER.fullmatch(text):
        seconds = float(text)
        return _milliseconds(seconds) * 1000 if math.isfinite(seconds) else None
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    plain, fraction, zone = match.groups()
    try:
        moment = dt.datetime.fromisoformat(plain + ("+00:00" if zone == "Z" else zone))
    except ValueError:
        return None
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return ((moment - epoch) // dt.timedelta(seconds=1) * 1000 + int((fraction or "0").ljust(3, "0")[:3])) * 1000


def _milliseconds(seconds: float) -> int:
    part, whole = math.modf(seconds)
    # halves away from zero
    return int(whole) * 1000 + int(math.copysign(math.floor(abs(part) * 1000 + 0.5), part))


def _duration(name: str, text: str) -> int:
    if _NUMBER.fullmatch(text):
        micros = float(text) * 1e6
        if not abs(micros) < 2**63 / 1000:
            raise invalid(name, f'cannot parse "{text}" to a valid duration. It overflows int64')
        return round(micros)
    if text and _DURATION.fullmatch(text):
        try:
            return parse_duration(text)
        except InvalidInput:
            pass
    raise invalid(name, f'cannot parse "{text}" to a valid duration')


def flags(values: Mapping[str, object]) -> dict[str, str]:
    """Settings as the texts that command-line flags are."""
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in values.items()}
