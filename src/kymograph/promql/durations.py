"""Durations that are reckoned: `[2m * (10 + 5)]`, `offset (1h / 2)`, `[max_of(step(), 1m)]`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kymograph.promql import ast
from kymograph.promql.ast import Node
from kymograph.promql.instant import ARITHMETIC


@dataclass(frozen=True)
class Span:
    """Step of a query, and from its start to its end; seconds. Both are 0 of an instant query."""

    step: float
    range: float


@dataclass(frozen=True)
class Blank(ast.Selector):
    """A parameter of a template while that is first read: it stands for anything and has no value yet."""


class Unreckoned(Exception):
    """An expression that is no duration; its text says why."""


def seconds_of(node: Node, span: Span | None) -> float:
    """The seconds of an expression of numbers and durations.

    Args:
        span: what `step()` and `range()` are; None where the query is only looked at.

    Raises:
        Unreckoned: it has anything else in it, divides by zero, or gives no number.
    """
    found = _reckoned(node, span)
    if not math.isfinite(found):
        raise Unreckoned("duration is NaN or infinite")
    return found


def _reckoned(node: Node, span: Span | None) -> float:
    node = ast.bare(node)
    if isinstance(node, (ast.Number, Blank)):
        return node.value if isinstance(node, ast.Number) else 1.0
    if isinstance(node, ast.Unary):
        value = _reckoned(node.expression, span)
        return -value if node.operator == "-" else value
    if isinstance(node, ast.Call):
        return _called(node, span)
    if not isinstance(node, ast.Binary) or node.operator not in ARITHMETIC or node.operator == "atan2":
        raise Unreckoned("unexpected expression in duration")
    left, right = _reckoned(node.left, span), _reckoned(node.right, span)
    if node.operator in "/%" and right == 0:
        raise Unreckoned("division by zero" if node.operator == "/" else "modulo by zero")
    with np.errstate(all="ignore"):
        return float(ARITHMETIC[node.operator](left, right))


def _called(node: ast.Call, span: Span | None) -> float:
    if node.function in ("step", "range") and not node.arguments:
        if span is None:
            raise Unreckoned(f"{node.function}() in a duration is known only when the query runs")
        return span.step if node.function == "step" else span.range
    if node.function in ("min_of", "max_of") and len(node.arguments) == 2:
        pick = min if node.function == "min_of" else max
        return pick(_reckoned(one, span) for one in node.arguments)
    raise Unreckoned("unexpected expression in duration")
