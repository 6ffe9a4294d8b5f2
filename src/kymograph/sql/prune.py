"""Reads an optimized plan and says, for every table scan in it, which labels and times can satisfy its filters.

Only what SQL and the engine understand alike is translated: label = text, label IN (…), and comparisons of `time`. An
empty text is left alone, because the engine takes a missing label for "" and SQL does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from kymograph.model.matcher import Matcher
from kymograph.model.time import TIME

Key = tuple[str, str]  # schema ("" is the default one), table
Labels = frozenset[str]


@dataclass(frozen=True)
class Selection:
    """What one scan needs of its table.

    Attributes:
        labels: label and the values it may have; a row must satisfy every pair.
        start, end: [start, end) in µs; None is open.
        exact: every filter the scan was given is expressed by the above, so none is left to apply.
        filters: the filters the scan was given, as datafusion expressions; None if unknown.
    """

    labels: tuple[tuple[str, frozenset[str | int]], ...] = ()
    start: int | None = None
    end: int | None = None
    exact: bool = False
    filters: tuple[Any, ...] | None = field(default=None, compare=False)

    @property
    def columns(self) -> frozenset[str] | None:
        """What the filters read; None if that cannot be told."""
        if self.filters is None:
            return None
        read = [_columns(part) for part in self.filters]
        return None if None in read else frozenset[str]().union(*(names for names in read if names is not None))

    @property
    def timed(self) -> bool:
        return self.start is not None or self.end is not None

    @property
    def bounds(self) -> tuple[int | None, int | None]:
        return self.start, self.end

    @property
    def matchers(self) -> list[Matcher]:
        found = []
        for label, values in self.labels:
            one = next(iter(values)) if len(values) == 1 else None
            found.append(Matcher(label, "in", frozenset(values)) if one is None else Matcher(label, "=", one))
        return found


@dataclass(frozen=True)
class Need:
    """What a plan needs of one table.

    Attributes:
        selection: serves all its scans.
        columns: what is read, in order, if there is just one scan; else None.
        first: (n, newest) if all that counts is the n newest (or oldest) rows by time and those as new (or old).
    """

    selection: Selection
    columns: list[str] | None = None
    first: tuple[int, bool] | None = None


def needs(plan: Any, labels_of: Callable[[Key], Labels], *, subqueries: bool) -> dict[Key, Need]:
    """One need per table.

    Args:
        plan: an optimized datafusion LogicalPlan.
        labels_of: label columns of a table, `time` among them if its scans can be narrowed by time.
        subqueries: whether the statement has more than one SELECT; then scans may hide inside expressions, and the
            plan's text is searched for them.
    """
    found: dict[Key, list[Selection]] = {}
    single: dict[Key, Need] = {}
    for scan, above, first in _scans(plan, None, None):
        key = key_of(scan)
        labels = labels_of(key)
        selection = _selection(scan.filters(), above, labels)
        found.setdefault(key, []).append(selection)
        # what else is called time may be null, or no time at all
        single[key] = Need(selection, [name for _, name in scan.projection()], first if TIME in labels else None)
    hidden = _hidden(plan, found) if subqueries else frozenset[Key]()
    return {
        key: Need(Selection()) if key in hidden else single[key] if len(several) == 1 else Need(_union(several))
        for key, several in found.items()
    }


def variant_of(node: Any) -> Any:
    """What kind of plan or expression a node is; None for kinds that have no Python face."""
    try:
        return node.to_variant()
    except Exception:
        return None


def key_of(scan: Any) -> Key:
    _, schema, table = scan.fqn()
    return ("" if schema in (None, "public") else schema, table)


def _scans(plan: Any, above: Any, sort: tuple[str, int, bool] | None) -> Iterator[tuple[Any, Any, Any]]:
    """Every TableScan, with the predicate of a Filter standing directly on it, and what `Need.first` says.

    `sort` is (column, rows, descending) of a Sort above that nothing but projections and aliases separates from here.
    """
    variant = variant_of(plan)
    kind = type(variant).__name__
    if kind == "TableScan":
        yield variant, above, (sort[1:] if sort and sort[0] == TIME else None)
        return
    if kind == "Sort":
        sort = _sort(variant)
    elif kind == "Projection" and sort:
        column = _renamed(variant, sort[0])
        sort = (column, *sort[1:]) if column else None
    elif kind != "SubqueryAlias":
        sort = None
    predicate = variant.predicate() if kind == "Filter" else None
    for child in plan.inputs():
        yield from _scans(child, predicate, sort)


def _sort(variant: Any) -> tuple[str, int, bool] | None:
    fetch = variant.get_fetch_val()
    if fetch is None:
        return None
    key = variant.sort_exprs()[0]
    column = variant_of(key.expr())
    return (column.name(), fetch, not key.ascending()) if type(column).__name__ == "Column" else None


def _renamed(projection: Any, name: str) -> str | None:
    """The input column that a projection passes on as `name`."""
    for expression in projection.projections():
        variant = variant_of(expression)
        given = None
        if type(variant).__name__ == "Alias":
            given, variant = variant.alias(), variant_of(variant.expr())
        if type(variant).__name__ == "Column" and (given or variant.name()) == name:
            return str(variant.name())
    return None


def _hidden(plan: Any, found: dict[Key, list[Selection]]) -> frozenset[Key]:
    """Tables with more scans in the plan's text than were reached, as those inside a scalar subquery."""
    text = plan.display_indent()
    if "Subquery:" not in text:
        return frozenset()
    hidden = []
    for (schema, table), reached in found.items():
        name = f"TableScan: {schema}.{table}" if schema else f"TableScan: {table}"
        # a longer name that begins alike counts too: that only costs speed
        if text.count(name) > len(reached):
            hidden.append((schema, table))
    return frozenset(hidden)


def _selection(filters: list[Any], above: Any, labels: Labels) -> Selection:
    allowed: dict[str, frozenset[str | int]] = {}
    start: int | None = None
    end: int | None = None
    own = [part for expression in filters for part in _conjuncts(expression)]
    exact = True
    for i, part in enumerate([*own, *(_conjuncts(above) if above is not None else ())]):
        variant = variant_of(part)
        compared = _compared(variant) if type(variant).__name__ == "BinaryExpr" else None
        bounds = _time_bounds(compared) if compared and TIME in labels else None
        if bounds is not None:
            start = bounds[0] if start is None else start if bounds[0] is None else max(start, bounds[0])
            end = bounds[1] if end is None else end if bounds[1] is None else min(end, bounds[1])
            continue
        pair = _label_value(compared, labels) if compared else _label_values(variant, labels)
        if pair is not None:
            label, values = pair
            allowed[label] = allowed[label] & values if label in allowed else values
        elif i < len(own):
            exact = False
    return Selection(tuple(sorted(allowed.items())), start, end, exact, tuple(own))


def _conjuncts(expression: Any) -> Iterator[Any]:
    variant = variant_of(expression)
    if type(variant).__name__ == "BinaryExpr" and variant.op() == "AND":
        yield from _conjuncts(variant.left())
        yield from _conjuncts(variant.right())
    else:
        yield expression


def _compared(variant: Any) -> tuple[str, str, Any] | None:
    """(column, operator, literal expression) of a comparison; the operator turned if the literal came first."""
    left, right = variant_of(variant.left()), variant_of(variant.right())
    names = (type(left).__name__, type(right).__name__)
    if names == ("Column", "Literal"):
        return left.name(), variant.op(), variant.right()
    if names == ("Literal", "Column"):
        turned = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "="}.get(variant.op())
        return (right.name(), turned, variant.left()) if turned else None
    return None


def _time_bounds(compared: tuple[str, str, Any]) -> tuple[int | None, int | None] | None:
    column, operator, literal = compared
    if column != TIME:
        return None
    value = literal.python_value()
    # the planner has cast the literal to the column's type; anything else is not ours to interpret
    if not pa.types.is_timestamp(value.type) or value.type.unit != "us" or not value.is_valid:
        return None
    micros = value.value
    return {
        ">=": (micros, None),
        ">": (micros + 1, None),
        "<": (None, micros),
        "<=": (None, micros + 1),
        "=": (micros, micros + 1),
    }.get(operator)


def _label_value(compared: tuple[str, str, Any], labels: Labels) -> tuple[str, frozenset[str | int]] | None:
    column, operator, literal = compared
    if operator != "=" or column not in labels or column == TIME:
        return None
    value = _plain(literal)
    return (column, frozenset((value,))) if value is not None else None


def _label_values(variant: Any, labels: Labels) -> tuple[str, frozenset[str | int]] | None:
    kind = type(variant).__name__
    if kind == "InList":
        return _in_list(variant, labels)
    if kind != "BinaryExpr":
        return None
    if variant.op() == "OR":
        left = _label_values(variant_of(variant.left()), labels)
        right = _label_values(variant_of(variant.right()), labels) if left else None
        return (left[0], left[1] | right[1]) if left and right and left[0] == right[0] else None
    compared = _compared(variant)
    return _label_value(compared, labels) if compared else None


def _in_list(variant: Any, labels: Labels) -> tuple[str, frozenset[str | int]] | None:
    column = variant_of(variant.expr())
    if variant.negated() or type(column).__name__ != "Column" or column.name() not in labels or column.name() == TIME:
        return None
    values = []
    for item in variant.list():
        if type(variant_of(item)).__name__ != "Literal":
            return None
        value = _plain(item)
        if value is None:
            return None
        values.append(value)
    return column.name(), frozenset(values)


def _plain(literal: Any) -> str | int | None:
    """The text or integer of a literal; None for null, "" and everything else."""
    value = literal.python_value().as_py()
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        return None
    return value


def _columns(expression: Any) -> set[str] | None:
    """Names of the columns an expression reads; None if it holds something without plain operands."""
    variant = variant_of(expression)
    kind = type(variant).__name__
    if kind == "Column":
        return {variant.name()}
    if kind == "Literal":
        return set()
    try:
        operands = expression.rex_call_operands()
    except Exception:
        return None
    named: set[str] = set()
    for operand in operands:
        inner = _columns(operand)
        if inner is None:
            return None
        named |= inner
    return named


def _union(several: list[Selection]) -> Selection:
    """The least that serves all of one table's scans; exact only when they all want the same."""
    first = several[0]
    if all(other == first for other in several[1:]):
        return first
    labels = [dict(selection.labels) for selection in several]
    common = set(labels[0]).intersection(*labels[1:])
    starts = [s.start for s in several]
    ends = [s.end for s in several]
    return Selection(
        tuple((name, frozenset[str | int]().union(*(mine[name] for mine in labels))) for name in sorted(common)),
        None if None in starts else min(s for s in starts if s is not None),
        None if None in ends else max(e for e in ends if e is not None),
        False,
        tuple(part for selection in several for part in selection.filters or ()),
    )
