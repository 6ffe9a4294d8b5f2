"""Policy lines of downsampling: which series, how old, which interval; and the one line of text that says several."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import numpy as np

from kymograph.errors import InvalidInput
from kymograph.model.summary import Ints
from kymograph.options import parse_duration
from kymograph.promql.ast import LabelMatcher
from kymograph.promql.labels import NAME
from kymograph.promql.tiers import BEGINNING
from kymograph.store.rollups.definition import bucket_width, duration

TABLE = "samples_"
_WORDS = {"minute": "1m", "hour": "1h", "day": "1d", "week": "1w", "month": "30d", "year": "1y"}
_PART = re.compile(r"(?:older\s+than\s+)?(.+?)\s*(?:->|→|=>|:)\s*(.+)", re.IGNORECASE | re.DOTALL)
Filter = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Line:
    """One interval for some series.

    Attributes:
        chosen: values by label, any of which a series must have, sorted; `__name__` is the metric. () is every series.
        interval: of the summaries, µs.
        older: samples older than this are replaced, µs; None: only when somebody asks for it.
        boundary: the time up to which, itself included, they have been, µs; BEGINNING before the first time.
    """

    chosen: Filter
    interval: int
    older: int | None
    boundary: int = BEGINNING

    @property
    def key(self) -> tuple[Filter, int]:
        return self.chosen, self.interval

    @property
    def table(self) -> str:
        return table_of(self.interval)

    @property
    def matchers(self) -> list[LabelMatcher]:
        return [LabelMatcher(name, "=~", "|".join(re.escape(one) for one in values)) for name, values in self.chosen]

    def moved(self, boundary: int) -> Line:
        return replace(self, boundary=boundary)

    def to_document(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_document(cls, told: Mapping[str, Any]) -> Line:
        chosen = tuple((name, tuple(values)) for name, values in told["chosen"])
        return cls(chosen, told["interval"], told["older"], told["boundary"])


def table_of(interval: int) -> str:
    """The table that holds summaries of an interval in place of samples."""
    return TABLE + duration(interval)


def chosen_of(name: str | None, labels: Mapping[str, Any] | None) -> Filter:
    """A filter from what users write: a metric's name, values (or lists of values) by label. Raises InvalidInput."""
    if labels is not None and not isinstance(labels, Mapping):
        raise InvalidInput(f"labels must be a mapping of names to values, not {labels!r}")
    given = dict(labels or {})
    if name is not None:
        given[NAME] = name
    found = []
    for label, values in sorted(given.items()):
        several = [values] if isinstance(values, str) else values
        if not isinstance(several, Iterable) or isinstance(several, Mapping):
            raise InvalidInput(f"label {label} cannot be {values!r}", hint="give a text, or a list of texts")
        several = sorted(set(several))
        if not several or not all(isinstance(one, str) for one in several):
            raise InvalidInput(f"label {label} cannot be {values!r}", hint="give a text, or a list of texts")
        found.append((label, tuple(several)))
    return tuple(found)


def policy_of(given: Any) -> list[tuple[int, int]]:
    """Ages and intervals in µs, the youngest first, from `"1h -> 1m, 1w -> 5m, 30d -> 1h"` or pairs of durations.

    Raises:
        InvalidInput: it says none, or an older pair has no coarser interval.
    """
    if isinstance(given, str):
        pairs: list[Any] = []
        for part in re.split(r"[,;\n]+", given.strip()):
            match = _PART.fullmatch(part.strip())
            if match is None:
                raise InvalidInput(f"{part.strip()!r} is no policy", hint="write it like 1h -> 1m, 1w -> 5m, 30d -> 1h")
            pairs.append(tuple(_worded(text) for text in match.groups()))
    else:
        pairs = [given] if isinstance(given, Mapping) else list(given)
    found = sorted((_age(pair), bucket_width(_part(pair, 1, "interval"))) for pair in pairs)
    for (_, fine), (age, coarse) in pairwise(found):
        if coarse <= fine or coarse % fine:
            raise InvalidInput(
                f"what is older than {duration(age)} cannot have the interval {duration(coarse)} after {duration(fine)}",
                hint="the older, the coarser, each a multiple of the one before",
            )
    if not found:
        raise InvalidInput("a policy needs at least one pair", hint="write it like 1h -> 1m, 1w -> 5m, 30d -> 1h")
    return found


def _part(pair: Any, place: int, name: str) -> str | timedelta | int:
    try:
        part: str | timedelta | int = pair[name] if isinstance(pair, Mapping) else tuple(pair)[place]
    except (KeyError, IndexError, TypeError):
        raise InvalidInput(f"{pair!r} is no pair of an age and an interval", hint='("1h", "1m")') from None
    return part


def _age(pair: Any) -> int:
    return parse_duration(_part(pair, 0, "older_than"))


def _worded(text: str) -> str:
    """`a week` and `1 h` as durations are written."""
    words = text.strip().lower().split()
    if len(words) == 2 and words[0] in ("a", "an", "one") and words[1] in _WORDS:
        return _WORDS[words[1]]
    return "".join(words)


def boundaries(lines: Iterable[tuple[Line, Ints | None]], ids: Ints) -> dict[int, Ints]:
    """By interval, coarsest first, up to when each series is summarised by it: int64 µs, BEGINNING where it is not.

    Args:
        lines: each with the ids that it matches, None for all.
    """
    found: dict[int, Ints] = {}
    for line, matched in lines:
        if line.boundary == BEGINNING:
            continue
        bound = found.setdefault(line.interval, np.full(len(ids), BEGINNING, np.int64))
        mask = slice(None) if matched is None else np.isin(ids, matched)
        bound[mask] = np.maximum(bound[mask], line.boundary)
    return {interval: found[interval] for interval in sorted(found, reverse=True)}
