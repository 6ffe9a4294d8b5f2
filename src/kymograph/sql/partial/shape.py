"""Makes sure, from the optimized plan, that a stand-in serves nothing but aggregation, and says what it groups by.

The plan has to hold  Aggregate > (aliases) > TableScan  for every stand-in, the scan's filters all handed to us; every
aggregate one that puts runs together; every key a label, or the bucket a time lies in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kymograph.model.time import TIME
from kymograph.sql.buckets import Floor
from kymograph.sql.partial.measures import MERGED_BY, PREFIX, NeverFit, StandIn
from kymograph.sql.prune import key_of, variant_of

_SCAN = f"TableScan: {PREFIX}_"


def keys_of(
    plan: Any, tables: Mapping[str, StandIn], buckets: Mapping[str, Floor]
) -> dict[str, tuple[str, frozenset[str]]]:
    """By stand-in: which of `buckets` is among the keys it is grouped by, "" for none; and the labels among them.

    Args:
        plan: an optimized datafusion LogicalPlan.
        buckets: the functions that stand for time_bucket in it, by name.

    Raises:
        NeverFit: the plan does anything else with one of `tables`.
    """
    if not tables:
        return {}
    check = _Check(tables, buckets)
    check.walk(plan)
    # a scan inside an expression (a scalar subquery) cannot be reached
    if plan.display_indent().count(_SCAN) != check.scans:
        raise NeverFit
    return check.found


class _Check:
    def __init__(self, tables: Mapping[str, StandIn], buckets: Mapping[str, Floor]) -> None:
        self._tables = tables
        self._buckets = buckets
        self.found: dict[str, tuple[str, frozenset[str]]] = {}
        self.scans = 0

    def walk(self, plan: Any) -> None:
        variant = variant_of(plan)
        kind = type(variant).__name__
        if kind == "TableScan" and key_of(variant)[1] in self._tables:
            raise NeverFit
        if kind == "Aggregate":
            scan = _scan_below(plan)
            if scan is not None and key_of(scan)[1] in self._tables:
                self._aggregate(variant, self._tables[key_of(scan)[1]])
                return
        for child in plan.inputs():
            self.walk(child)

    def _aggregate(self, aggregate: Any, table: StandIn) -> None:
        relation = table.relation
        labels = {f"Expr({relation}.{label})": label for label in table.table.labels}
        bucket, grouped = "", set()
        for key in map(_unnamed, aggregate.group_by_exprs()):
            text, kind = str(key), type(variant_of(key)).__name__
            if kind == "Column" and text in labels:
                grouped.add(labels[text])
                continue
            name = text[5:].partition("(")[0]
            if kind == "Column" or name not in self._buckets or text != f"Expr({name}({relation}.{TIME}))":
                raise NeverFit
            if bucket not in ("", name):
                raise NeverFit
            bucket = name
        merged = {f"Expr({MERGED_BY[m.kind]}({relation}.{name}))" for name, m in table.measures.items()}
        merged |= {f"Expr(count(DISTINCT {relation}.{label}))" for label in table.table.labels}
        for expression in map(_unnamed, aggregate.aggregate_exprs()):
            if type(variant_of(expression)).__name__ != "AggregateFunction" or str(expression) not in merged:
                raise NeverFit
        keys = bucket, frozenset(grouped)
        if self.found.setdefault(table.name, keys) != keys:
            raise NeverFit
        self.scans += 1


def _unnamed(expression: Any) -> Any:
    """The expression itself, where the optimizer has given it a name (one count(DISTINCT …) becomes two aggregations)."""
    variant = variant_of(expression)
    return variant.expr() if type(variant).__name__ == "Alias" else expression


def _scan_below(plan: Any) -> Any:
    """The TableScan that nothing but an alias separates from this node, or None."""
    inputs = plan.inputs()
    while len(inputs) == 1:
        variant = variant_of(inputs[0])
        kind = type(variant).__name__
        if kind == "TableScan":
            return variant if variant.fetch() is None else None
        if kind != "SubqueryAlias":
            return None
        inputs = inputs[0].inputs()
    return None
