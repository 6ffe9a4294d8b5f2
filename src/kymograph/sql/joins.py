"""Refuses joins without an equality that would compare too many pairs of rows.

DataFusion's nested loops neither count against the memory pool nor stop when their query is given up: one would burn a
core for hours. So the pairs are counted before the plan runs, from what every scan yields at most.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from kymograph.errors import LimitExceeded
from kymograph.sql.prune import Key, key_of, variant_of

# A core compares some hundred million pairs a second.
MOST_PAIRS = 1_000_000_000
# What yields rows without saying how many (a table function, a recursive query) yields them batch by batch, and between
# batches a query can be stopped.
UNKNOWN_ROWS = 100_000
_HINT = "join on an equality, or narrow both sides"
_KEYLESS = re.compile(r"^ *(?:Cross Join:|\w+ Join:(?: +Filter:.*)?) *$", re.MULTILINE)

RowsOf = Callable[[Key], float | None]


def check_joins(plan: Any, rows_of: RowsOf) -> None:
    """Raise LimitExceeded where a join without an equality may compare more than `MOST_PAIRS`.

    Args:
        plan: an optimized datafusion LogicalPlan.
        rows_of: at most how many rows a table yields; None where that cannot be told.
    """
    text = plan.display_indent()
    written = len(_KEYLESS.findall(text))
    if not written:
        return
    counter = _Counter(rows_of)
    counter.rows(plan)
    if written > counter.keyless:
        # inside the expression of another node, where the plan cannot be followed
        raise LimitExceeded("a join without an equality cannot stand in a scalar subquery", hint=_HINT)


class _Counter:
    """Rows that each node yields at most, from the leaves up."""

    def __init__(self, rows_of: RowsOf) -> None:
        self._rows_of = rows_of
        self.keyless = 0

    def rows(self, plan: Any) -> float:
        below = [self.rows(child) for child in plan.inputs()]
        variant = variant_of(plan)
        kind = type(variant).__name__
        if kind == "TableScan":
            known = self._rows_of(key_of(variant))
            return UNKNOWN_ROWS if known is None else known
        if kind == "Join":
            return self._join(variant, below)
        if kind == "Values":
            return float(len(variant.values()))
        if kind == "Aggregate" and not variant.group_by_exprs():
            return 1.0
        if kind == "Limit":
            fetch = re.search(r"fetch=(\d+)", plan.display())
            return min(below[0], float(fetch[1])) if fetch else below[0]
        if kind == "EmptyRelation":
            return 1.0
        if kind in ("NoneType", "RecursiveQuery", "Unnest"):
            return max(UNKNOWN_ROWS, *below) if below else UNKNOWN_ROWS
        return sum(below)

    def _join(self, variant: Any, below: list[float]) -> float:
        left, right = below
        if variant.on():
            return max(left, right)
        self.keyless += 1
        pairs = left * right if min(left, right) > 0 else 0.0
        if pairs > MOST_PAIRS:
            raise LimitExceeded(
                f"a join without an equality may compare {pairs:.2g} pairs of rows, more than {MOST_PAIRS:.0e}",
                hint=_HINT,
            )
        return pairs
