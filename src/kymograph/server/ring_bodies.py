"""JSON bodies of the ring face: an object or an array of samples as arrays, each metric told once."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kymograph.errors import InvalidInput, TimeError
from kymograph.model.time import MAX_TIME, SECOND
from kymograph.store.rings.rings import Target

_Ints = np.ndarray[Any, np.dtype[np.int64]]
_Floats = np.ndarray[Any, np.dtype[np.float64]]
_FURTHEST = MAX_TIME // SECOND
OF_TARGET = ("metric_id", "name", "tags", "step", "slots")
TYPES: dict[str, tuple[type, ...]] = {
    "metric_id": (int,), "name": (str,), "tags": (dict,), "step": (int, float), "slots": (int,),
}  # fmt: skip


@dataclass(frozen=True)
class Samples:
    """Samples of gauges or counters.

    Attributes:
        targets: what they are for, each once.
        of: int64 of n, the target of each.
        times: int64 µs, n of them. values: float64, n of them.
        single: they came as one object, not as a list.
    """

    targets: list[Target]
    of: _Ints
    times: _Ints
    values: _Floats
    single: bool = False


def from_json(body: bytes, field: str) -> Samples:
    """Samples of a JSON object or an array of them.

    Args:
        field: what the value is called: `value` or `raw_value`.

    Raises:
        InvalidInput: no JSON, or an object that is no sample; names its place.
    """
    given = parsed(body)
    rows = given if isinstance(given, list) else [given]
    _check_rows(rows, frozenset((*OF_TARGET, "ts", field)))
    seen: dict[Any, int] = {}
    targets: list[Target] = []
    of = np.zeros(len(rows), np.int64)
    for place, row in enumerate(rows):
        tags = row.get("tags") or {}
        key = (row.get("metric_id"), row.get("name"), row.get("step"), row.get("slots"), *tags.items())
        try:
            number = seen.setdefault(key, len(targets))
        except TypeError:  # a list or an object, which has no hash
            raise InvalidInput(f"sample {place}: tags must be an object of text") from None
        if number == len(targets):
            targets.append(target(place, key[0], key[1], tags, key[2], key[3]))
        of[place] = number
    times = micros_of_seconds(_numbers("ts", [row.get("ts") for row in rows]))
    values = _numbers(field, [row.get(field) for row in rows])
    return Samples(targets, of, times, values.astype(np.float64), not isinstance(given, list))


def _check_rows(rows: Sequence[Any], allowed: frozenset[str]) -> None:
    """Every row is an object of known fields, and those that say what it is for are of the right types.

    Types are checked for all rows, because True, 1 and 1.0 are one key of a dict.
    """
    check_types("sample", rows, dict)
    if not all(row.keys() <= allowed for row in rows):
        place, row = next((place, row) for place, row in enumerate(rows) if not row.keys() <= allowed)
        unknown = next(key for key in row if key not in allowed)
        raise InvalidInput(
            f"sample {place}: {unknown[:60]!r} is no field", hint="there are " + ", ".join(sorted(allowed))
        )
    for name, kinds in TYPES.items():
        check_types(name, [row.get(name) for row in rows], *kinds, type(None))


def check_types(name: str, values: Sequence[Any], *kinds: type) -> None:
    if not set(map(type, values)) <= set(kinds):
        place = next(place for place, value in enumerate(values) if type(value) not in kinds)
        raise InvalidInput(f"sample {place}: {name} cannot be {str(values[place])[:60]!r}")


def parsed(body: bytes) -> Any:
    """A JSON text. Raises InvalidInput."""
    try:
        return json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as problem:
        raise InvalidInput(f"the body is no JSON: {str(problem)[:200]}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def target(place: int, number: Any, name: Any, tags: Mapping[str, str], step: Any, slots: Any) -> Target:
    if number is None and name is None:
        raise InvalidInput(f"sample {place} has neither metric_id nor name")
    if not all(type(value) is str for value in tags.values()):
        raise InvalidInput(f"sample {place}: tags must be an object of text")
    return Target(number, name, tags, step_micros(step), slots)


def step_micros(step: Any) -> int | None:
    """µs of a step in seconds; None stays None. Raises InvalidInput."""
    if step is None:
        return None
    if (
        not isinstance(step, (int, float))
        or isinstance(step, bool)
        or not math.isfinite(step)
        or not 0 < step <= _FURTHEST
    ):
        raise InvalidInput(f"a step is a positive number of seconds, not {str(step)[:60]}")
    return round(step * SECOND)


def _numbers(what: str, values: Sequence[Any]) -> Any:
    """JSON numbers as int64 or float64.

    Raises:
        InvalidInput: another thing than a number, an integer that float64 cannot hold, or a number beyond its range.
    """
    kinds = set(map(type, values))
    if not kinds <= {int, float}:
        place = next(place for place, value in enumerate(values) if type(value) not in (int, float))
        if values[place] is None:
            raise InvalidInput(f"sample {place} has no {what}")
        raise InvalidInput(f"sample {place}: {what} must be a number, not {str(values[place])[:60]!r}")
    try:
        if kinds == {int} and what == "ts":
            return np.array(values, np.int64)
        numbers = np.array(values, np.float64)
    except OverflowError:
        raise InvalidInput(f"{what} holds a number that is out of range") from None
    strange = ~np.isfinite(numbers)
    if int in kinds:
        strange |= np.array([type(value) is int and float(value) != value for value in values])
    if strange.any():
        place = int(np.argmax(strange))
        raise InvalidInput(f"sample {place}: {what} {str(values[place])[:60]} is not exact as a float64")
    return numbers


def micros_of_seconds(ts: Any) -> _Ints:
    """int64 µs of seconds, fractions rounded to the µs. Raises TimeError."""
    with np.errstate(invalid="ignore"):
        strange = ~(np.abs(ts) <= _FURTHEST)
    if strange.any():
        place = int(np.argmax(strange))
        raise TimeError(f"sample {place}: ts {ts[place]} is out of range", hint="seconds since 1970")
    whole = np.floor(ts)
    # the fraction by itself, since all of it in µs has more digits than a float64
    micros: _Ints = whole.astype(np.int64) * SECOND + np.rint((ts - whole) * SECOND).astype(np.int64)
    return micros
