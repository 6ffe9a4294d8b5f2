"""Predicates on labels: equal, not equal, anchored regex and its negation, one of a set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from kymograph.errors import InvalidInput
from kymograph.model.schema import SERIES_ID

Operator = Literal["=", "!=", "=~", "!~", "in"]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Matcher:
    """One predicate on one label column.

    A label that a row does not have (null) counts as "", as in Prometheus; `"in"` with a set that
    holds None or "" takes such rows too. Regexes are anchored at both ends.

    Attributes:
        label: column name.
        operator: one of = != =~ !~ in.
        value: text, or for "in" a frozenset; the integer label `series_id` takes int.
    """

    label: str
    operator: Operator
    value: str | int | frozenset[str | int | None]

    def __post_init__(self) -> None:
        if self.operator not in ("=", "!=", "=~", "!~", "in"):
            raise InvalidInput(f"{self.operator!r} is not one of = != =~ !~ in")
        if (self.operator == "in") != isinstance(self.value, frozenset):
            raise InvalidInput(f"{self.operator!r} on label {self.label} got {self.value!r}")
        if self.operator in ("=~", "!~"):
            try:
                self._regex  # noqa: B018  compiles, so that a bad pattern fails here
            except (re.error, RecursionError, OverflowError) as problem:
                raise InvalidInput(f"bad regex {str(self.value)!r}: {problem}") from None

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        return re.compile(str(self.value), re.DOTALL)

    def matches(self, value: str | int | None) -> bool:
        """Whether one label value satisfies the predicate."""
        if self.operator == "in":
            assert isinstance(self.value, frozenset)
            return value in self.value or (not value and value != 0 and self._takes_empty)
        present = "" if value is None else value
        if self.operator == "=":
            return bool(present == self.value)
        if self.operator == "!=":
            return bool(present != self.value)
        return (self._regex.fullmatch(str(present)) is not None) == (self.operator == "=~")

    @cached_property
    def _takes_empty(self) -> bool:
        return isinstance(self.value, frozenset) and bool({None, ""} & self.value)

    @cached_property
    def numbers(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The int64 numbers that satisfy an "=" or "in", ascending."""
        wanted = self.value if isinstance(self.value, frozenset) else {self.value}
        return np.array(sorted(v for v in wanted if isinstance(v, int) and -(2**63) <= v < 2**63), np.int64)

    def mask(self, values: pa.Array) -> Mask:
        """Boolean mask over a plain array of (usually distinct) label values."""
        if self.operator == "in" and pa.types.is_integer(values.type) and not values.null_count:
            return np.isin(values.to_numpy(), self.numbers)
        return np.fromiter((self.matches(v) for v in values.to_pylist()), np.bool_, len(values))


def of_series(ids: np.ndarray[Any, np.dtype[np.int64]], registered: int) -> list[Matcher]:
    """What finds the scalar series with these ids: nothing, which costs nothing, where they are all that are registered."""
    return [] if len(ids) == registered else [Matcher(SERIES_ID, "in", frozenset(ids.tolist()))]


def matchers_of(labels: Mapping[str, Any] | Iterable[Matcher] | None) -> tuple[Matcher, ...]:
    """Matchers from `{"gpu_uuid": "GPU-1"}` or `{"gpu_uuid": ["GPU-1", "GPU-2"]}`, or as given.

    Raises:
        InvalidInput: a value that is neither text, int, None nor a sequence of them.
    """
    if labels is None:
        return ()
    if not isinstance(labels, Mapping):
        found = tuple(labels)
        if not all(isinstance(m, Matcher) for m in found):
            raise InvalidInput(f"{labels!r} is neither a mapping nor Matchers")
        return found
    return tuple(_matcher(label, value) for label, value in labels.items())


def _matcher(label: str, value: Any) -> Matcher:
    if value is None:
        return Matcher(label, "=", "")
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return Matcher(label, "=", value)
    several = isinstance(value, (Sequence, set, frozenset)) and not isinstance(value, bytes)
    if several and all(v is None or (isinstance(v, (str, int)) and not isinstance(v, bool)) for v in value):
        return Matcher(label, "in", frozenset(value))
    raise InvalidInput(f"label {label} cannot be compared with {value!r}", hint="give text")
