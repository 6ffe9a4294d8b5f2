"""What a parsed query is made of: small frozen nodes, each knowing where in the text it starts.

Durations are int µs. `position` counts characters from the start of the query.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["scalar", "vector", "matrix", "string"]
Operator = Literal["=", "!=", "=~", "!~"]
Card = Literal["one-to-one", "many-to-one", "one-to-many", "many-to-many"]
Edge = Literal["anchored", "smoothed"]


@dataclass(frozen=True)
class Node:
    position: int


@dataclass(frozen=True)
class Number(Node):
    """Attributes: span is whether it was written as a duration, whose seconds it is."""

    value: float
    span: bool = False


@dataclass(frozen=True)
class String(Node):
    value: str


@dataclass(frozen=True)
class LabelMatcher:
    """One predicate; a missing label counts as "". Regexes are RE2, anchored at both ends."""

    name: str
    operator: Operator
    value: str


@dataclass(frozen=True)
class When:
    """Where in time a selector or subquery looks: `at` replaces the step's time, then `offset` is taken off.

    Attributes:
        offset: µs.
        at: µs, or "start" or "end" of the query; None is each step's own time.
    """

    offset: int = 0
    at: int | Literal["start", "end"] | None = None


@dataclass(frozen=True)
class Selector(Node):
    """`name{matchers}`, with a window when `window` is given (µs); the name is the matcher on `__name__`.

    Attributes:
        outside: whether the name stands before the braces; its matcher is the first one then.
        edge: what the values at the window's edges are taken from, or at a step between two samples.
    """

    matchers: tuple[LabelMatcher, ...]
    window: int | None = None
    when: When = When()
    edge: Edge | None = None
    outside: bool = field(default=False, compare=False)

    @property
    def name(self) -> str:
        found = [m.value for m in self.matchers if m.name == "__name__" and m.operator == "="]
        return found[0] if found else ""


@dataclass(frozen=True)
class Subquery(Node):
    """`expression[window:step]`; no step is the default of a minute."""

    expression: Node
    window: int
    step: int | None
    when: When = When()


@dataclass(frozen=True)
class Call(Node):
    function: str
    arguments: tuple[Node, ...]
    keep_names: bool = False


@dataclass(frozen=True)
class Aggregate(Node):
    """`operator by|without (labels) (parameter, expression)`."""

    operator: str
    expression: Node
    parameter: Node | None
    labels: tuple[str, ...]
    without: bool


@dataclass(frozen=True)
class Matching:
    """How the series of two vectors find each other.

    Attributes:
        on: `labels` are those compared; otherwise those ignored.
        include: labels taken over from the side that has one.
        fill_left, fill_right: value in place of a missing partner, None: no result.
        given: whether the query has an `on` or `ignoring` at all.
    """

    card: Card = "one-to-one"
    on: bool = False
    labels: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    fill_left: float | None = None
    fill_right: float | None = None
    given: bool = False


@dataclass(frozen=True)
class Binary(Node):
    """Attributes: sign is the position of the operator itself."""

    sign: int
    operator: str
    left: Node
    right: Node
    returns_bool: bool = False
    matching: Matching = Matching()
    keep_names: bool = False


@dataclass(frozen=True)
class Unary(Node):
    operator: str
    expression: Node


@dataclass(frozen=True)
class Paren(Node):
    expression: Node


def bare(node: Node) -> Node:
    """The node inside any parentheses."""
    while isinstance(node, Paren):
        node = node.expression
    return node
