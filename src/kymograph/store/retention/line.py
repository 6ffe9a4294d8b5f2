"""One line of series retention: which series, how old their samples get, and how far this has been done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from kymograph.errors import InvalidInput
from kymograph.options import Retention
from kymograph.promql.ast import LabelMatcher
from kymograph.promql.parse import parse_selector
from kymograph.promql.printer import text_of
from kymograph.promql.tiers import BEGINNING

# samples go when they are at most this part of the age older than they have to be: each move rewrites blocks
_LAG = 8


@dataclass(frozen=True)
class Line:
    """An age for the series of a selector.

    Attributes:
        series: the selector, in PromQL.
        age: their samples go once they are older, µs; None: no more, what has gone is remembered.
        upto: their samples older than this may have gone, µs; BEGINNING before the first time.
        done: those older than this have, but for what came since, µs.
    """

    series: str
    age: int | None
    upto: int = BEGINNING
    done: int = BEGINNING

    @cached_property
    def matchers(self) -> tuple[LabelMatcher, ...]:
        return parse_selector(self.series).matchers

    @property
    def key(self) -> frozenset[LabelMatcher]:
        """Equal for selectors that say the same in another order."""
        return frozenset(self.matchers)

    def due(self, upto: int, width: int) -> bool:
        """Whether there is enough to remove up to a time; `width` is that of a slice of the table, µs."""
        assert self.age is not None
        return self.done == BEGINNING or upto - self.done >= max(self.age, width) // _LAG

    def to_document(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_document(cls, told: Mapping[str, Any]) -> Line:
        return cls(told["series"], told["age"], told["upto"], told["done"])


def selector_of(text: Any) -> str:
    """A series selector as it is kept. Raises InvalidInput, QueryError."""
    if not isinstance(text, str):
        raise InvalidInput(f"{text!r} is no series selector", hint='write it like {team="juniors"} or up{job="x"}')
    return text_of(parse_selector(text))


def age_of(retention: Retention | None) -> int | None:
    """What a retention says of series, µs; None: nothing any more. Raises InvalidInput."""
    if retention is not None and not isinstance(retention, Retention):
        raise InvalidInput(f"retention must be kymograph.Retention, not {retention!r}")
    if retention is not None and retention.bytes is not None:
        raise InvalidInput(
            "some series of a table are bounded by age alone", hint="bytes bound a table: leave out the selector"
        )
    return None if retention is None else retention.age_micros
