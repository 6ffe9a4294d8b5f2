"""Parameters that the paths of streams share: paths, moments, flags."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import Query, Request

from kymograph.errors import InvalidInput, NotFound
from kymograph.model.time import MAX_TIME, MIN_TIME, isoformat
from kymograph.store.store import Store
from kymograph.store.streams.stream import Stream

StreamPath = Annotated[str, Query(min_length=1, max_length=512, description="path of the stream")]
Moment = Annotated[str | None, Query(max_length=64, description="µs since 1970; what is after a point is cut off")]
Flag = Annotated[bool, Query(description="1 or 0")]
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)


def micros(name: str, text: str | None) -> int | None:
    """int µs of a parameter; fractions are cut off, exactly also beyond what a float holds."""
    if text is None or text == "":
        return None
    if not _NUMBER.fullmatch(text):
        raise InvalidInput(f"{name} must be µs since 1970, not {text[:64]!r}")
    number = int(Decimal(text))
    if not MIN_TIME <= number <= MAX_TIME:
        raise InvalidInput(f"{name} is out of range")
    return number


def span(start: str | None, end: str | None) -> tuple[int | None, int | None]:
    """Both sides of `[start, end)`. Raises InvalidInput when it ends before it starts."""
    low, high = micros("start", start), micros("end", end)
    if low is not None and high is not None and low >= high:
        raise InvalidInput(f"start must precede end, and {isoformat(low)} does not precede {isoformat(high)}")
    return low, high


def existing(store: Store, path: str) -> Stream:
    """A stream that is there. Raises NotFound, also where the text is no path."""
    try:
        return store.stream(path)
    except InvalidInput:
        raise NotFound(f"there is no stream {path[:200]}") from None


async def form_or_json(request: Request, *names: str, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of a body, JSON or form; each of `names` must be there. All but `data` come out as text."""
    raw = await request.body()
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    try:
        if kind == "application/json":
            given = json.loads(raw)
        else:
            fields = parse_qs(raw.decode(), keep_blank_values=True, strict_parsing=bool(raw), max_num_fields=20)
            given = {name: values[-1] for name, values in fields.items()}
    except (ValueError, RecursionError):
        raise InvalidInput("the body is neither JSON nor a form") from None
    if not isinstance(given, dict):
        raise InvalidInput("the body must be an object")
    for name in names:
        if name not in given:
            raise InvalidInput(f"{name} is missing")
    strange = sorted(given.keys() - {*names, *optional})
    if strange:
        raise InvalidInput(f"unknown fields: {', '.join(strange)[:200]}")
    for name, value in given.items():
        if name == "data" or isinstance(value, str) or (value is None and name in optional):
            continue
        if name in names or isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InvalidInput(f"{name} must be text")
        given[name] = repr(value)
    return given
