"""The types of a tree: which expression is a scalar, an instant vector, a range vector or a string."""

from __future__ import annotations

from typing import NoReturn

from kymograph.promql import ast
from kymograph.promql.ast import Kind, Node
from kymograph.promql.functions import AGGREGATORS, COMPARISONS, FUNCTIONS, SETS, WINDOWED
from kymograph.promql.labels import matches_empty
from kymograph.promql.lexer import ParseError

NAMES: dict[Kind, str] = {
    "scalar": "scalar",
    "vector": "instant vector",
    "matrix": "range vector",
    "string": "string",
}


def kind_of(node: Node) -> Kind:
    """The type of a tree that was checked."""
    node = ast.bare(node)
    if isinstance(node, ast.Number):
        return "scalar"
    if isinstance(node, ast.String):
        return "string"
    if isinstance(node, ast.Subquery) or (isinstance(node, ast.Selector) and node.window is not None):
        return "matrix"
    if isinstance(node, ast.Call):
        return FUNCTIONS[node.function].returns
    if isinstance(node, ast.Unary):
        return kind_of(node.expression)
    if isinstance(node, ast.Binary) and kind_of(node.left) == kind_of(node.right) == "scalar":
        return "scalar"
    return "vector"


def check(node: Node, text: str) -> None:
    """Check a whole tree.

    Raises:
        ParseError: in Prometheus' words, with the position of the part that does not fit.
    """
    _Checker(text).check(node)


class _Checker:
    def __init__(self, text: str) -> None:
        self._text = text

    def _fail(self, message: str, node: Node) -> NoReturn:
        raise ParseError(message, self._text, node.position)

    def check(self, node: Node) -> None:
        if isinstance(node, ast.Paren):
            self.check(node.expression)
        elif isinstance(node, ast.Selector):
            self._selector(node)
        elif isinstance(node, ast.Subquery):
            self.check(node.expression)
            self._expect(node.expression, "vector", "subquery")
        elif isinstance(node, ast.Unary):
            self.check(node.expression)
            kind = kind_of(node.expression)
            if kind not in ("scalar", "vector"):
                self._fail(
                    "unary expression only allowed on expressions of type scalar or instant vector, "
                    f'got "{NAMES[kind]}"',
                    node,
                )
        elif isinstance(node, ast.Call):
            self._call(node)
        elif isinstance(node, ast.Aggregate):
            self._aggregate(node)
        elif isinstance(node, ast.Binary):
            self._binary(node)

    def _expect(self, node: Node, kind: Kind, where: str) -> None:
        got = kind_of(node)
        if got != kind:
            if where == "subquery":
                self._fail(f"subquery is only allowed on instant vector, got {NAMES[got]} instead", node)
            self._fail(f"expected type {NAMES[kind]} in {where}, got {NAMES[got]}", node)

    def _selector(self, node: ast.Selector) -> None:
        if all(matches_empty(matcher) for matcher in node.matchers):
            self._fail("vector selector must contain at least one non-empty matcher", node)

    def _aggregate(self, node: ast.Aggregate) -> None:
        self.check(node.expression)
        self._expect(node.expression, "vector", "aggregation expression")
        if node.parameter is not None:
            self.check(node.parameter)
            kind: Kind = "string" if AGGREGATORS[node.operator] == "string" else "scalar"
            self._expect(node.parameter, kind, "aggregation parameter")

    def _call(self, node: ast.Call) -> None:
        wanted, given = FUNCTIONS[node.function], len(node.arguments)
        call = f'call to "{node.function}"'
        if not wanted.repeats and wanted.required == len(wanted.arguments) != given:
            self._fail(f"expected {wanted.required} argument(s) in {call}, got {given}", node)
        if given < wanted.required:
            self._fail(f"expected at least {wanted.required} argument(s) in {call}, got {given}", node)
        if given > len(wanted.arguments) and not wanted.repeats:
            self._fail(f"expected at most {len(wanted.arguments)} argument(s) in {call}, got {given}", node)
        kinds = [*wanted.arguments, *wanted.arguments[-1:] * max(0, given - len(wanted.arguments))][:given]
        if node.function == "quantiles_over_time":
            kinds = ["string", *["scalar"] * (given - 2), "matrix"]  # type: ignore[list-item]
        for argument, kind in zip(node.arguments, kinds, strict=True):
            self.check(argument)
            if kind == "matrix" and node.function in WINDOWED and kind_of(argument) == "vector":
                continue  # MetricsQL: the window is the step
            self._expect(argument, kind, f'call to function "{node.function}"')

    def _binary(self, node: ast.Binary) -> None:
        self.check(node.left)
        self.check(node.right)
        for side in (node.left, node.right):
            if kind_of(side) not in ("scalar", "vector"):
                self._fail("binary expression must contain only scalar and instant vector types", side)
        kinds = {kind_of(node.left), kind_of(node.right)}
        fills = node.operator in ("default", "if", "ifnot")
        if kinds == {"scalar"} and node.operator in COMPARISONS and not node.returns_bool:
            raise ParseError("comparisons between scalars must use BOOL modifier", self._text, node.sign)
        if "scalar" in kinds:
            if node.operator in SETS and not fills:
                self._fail(f'set operator "{node.operator}" not allowed in binary scalar expression', node)
            if node.matching.labels:
                self._fail("vector matching only allowed between instant vectors", node)
            if node.matching.fill_left is not None or node.matching.fill_right is not None:
                self._fail("filling in missing series only allowed between instant vectors", node)
