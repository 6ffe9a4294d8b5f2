"""Which expressions are the same at every step, so that they are evaluated once."""

from __future__ import annotations

from kymograph.promql import ast
from kymograph.promql.ast import Node
from kymograph.promql.instant import CALENDAR

# these look at the evaluation time, at the time of a sample, or at the steps themselves
_TIMED = frozenset(("time", "timestamp", "predict_linear", "start", "end", "step", "range", "now", *CALENDAR))
_STEPPED = ("range_", "running_", "keep_", "interpolate", "remove_resets")


def is_fixed(node: Node) -> bool:
    """Whether an expression gives the same at every step: `@` on all its selectors, and no function of time.

    As in Prometheus, the parameter of an aggregation is not looked at: `topk(time(), x @ 0)` counts as fixed.
    """
    node = ast.bare(node)
    if isinstance(node, (ast.Number, ast.String)):
        return True
    if isinstance(node, (ast.Selector, ast.Subquery)):
        return node.when.at is not None
    if isinstance(node, (ast.Unary, ast.Aggregate)):
        return is_fixed(node.expression)
    if isinstance(node, ast.Binary):
        return is_fixed(node.left) and is_fixed(node.right)
    assert isinstance(node, ast.Call)
    if node.function in _TIMED or (node.function.startswith(_STEPPED) and node.function != "range_over_time"):
        return False
    return all(is_fixed(one) for one in node.arguments)
