"""The tree of a query as JSON values: the form of Prometheus' `/parse_query`."""

from __future__ import annotations

from typing import Any

from kymograph.promql import ast
from kymograph.promql.ast import Node
from kymograph.promql.check import kind_of
from kymograph.promql.functions import FUNCTIONS
from kymograph.promql.result import number


def tree_of(node: Node | None) -> Any:
    """Nested dicts with `type` in every one; durations and times in ms."""
    if isinstance(node, ast.Number):
        return {"type": "numberLiteral", "val": number(node.value)}
    if isinstance(node, ast.String):
        return {"type": "stringLiteral", "val": node.value}
    if isinstance(node, ast.Paren):
        return {"type": "parenExpr", "expr": tree_of(node.expression)}
    if isinstance(node, ast.Unary):
        return {"type": "unaryExpr", "op": node.operator, "expr": tree_of(node.expression)}
    if isinstance(node, ast.Selector):
        return _selector(node)
    if isinstance(node, ast.Subquery):
        step = 0 if node.step is None else node.step // 1000
        about = {"type": "subquery", "expr": tree_of(node.expression), "range": node.window // 1000, "step": step}
        return about | _when(node.when)
    if isinstance(node, ast.Call):
        return {"type": "call", "func": _function(node), "args": [tree_of(one) for one in node.arguments]}
    if isinstance(node, ast.Aggregate):
        return {
            "type": "aggregation",
            "op": node.operator,
            "expr": tree_of(node.expression),
            "param": tree_of(node.parameter),
            "grouping": list(node.labels),
            "without": node.without,
        }
    if isinstance(node, ast.Binary):
        return _binary(node)
    return None


def _selector(node: ast.Selector) -> dict[str, Any]:
    kind = "vectorSelector" if node.window is None else "matrixSelector"
    # the name before the braces comes last, as Prometheus has it
    matchers = [*node.matchers[1:], node.matchers[0]] if node.outside else node.matchers
    about: dict[str, Any] = {
        "type": kind,
        "name": node.name if node.outside else "",
        "matchers": [{"name": m.name, "value": m.value, "type": m.operator} for m in matchers],
    }
    if node.window is not None:
        about["range"] = node.window // 1000
    edges = {"anchored": node.edge == "anchored", "smoothed": node.edge == "smoothed"}
    return about | _when(node.when) | edges


def _when(when: ast.When) -> dict[str, Any]:
    return {
        "offset": when.offset // 1000,
        "timestamp": when.at // 1000 if isinstance(when.at, int) else None,
        "startOrEnd": when.at if isinstance(when.at, str) else None,
    }


def _function(node: ast.Call) -> dict[str, Any]:
    wanted = FUNCTIONS[node.function]
    return {
        "name": node.function,
        "argTypes": list(wanted.arguments),
        "variadic": -1 if wanted.repeats else len(wanted.arguments) - wanted.required,
        "returnType": wanted.returns,
    }


def _binary(node: ast.Binary) -> dict[str, Any]:
    matching = None
    if kind_of(node.left) == kind_of(node.right) == "vector":
        matching = {
            "card": node.matching.card,
            "labels": list(node.matching.labels),
            "on": node.matching.on,
            "include": list(node.matching.include),
            "fillValues": {"lhs": node.matching.fill_left, "rhs": node.matching.fill_right},
        }
    return {
        "type": "binaryExpr",
        "op": node.operator,
        "lhs": tree_of(node.left),
        "rhs": tree_of(node.right),
        "matching": matching,
        "bool": node.returns_bool,
    }
