"""What is left of a scan's filters after narrowing: pyarrow applies it, where it finds the rows that SQL finds.

DataFusion hands a scan's filters over as one pyarrow expression. pyarrow differs from SQL in three places: a null that
stands for a condition cannot be joined to others, a null is not in a list rather than unknown, and NaN is neither equal
to nor greater than anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from kymograph.sql.prune import Need, Selection, variant_of

_COMPARED = ("=", "!=", "<", "<=", ">", ">=")


def agreed(need: Need) -> bool:
    """Whether pyarrow finds by a scan's filters the rows that SQL finds; what is not known to be so is not."""
    selection = need.selection
    if selection.exact or selection.filters is None:
        return selection.exact
    # what `present` adds is known for one scan alone
    return all(_agrees(part) or (need.columns is not None and _outside(part)) for part in selection.filters)


def present(selection: Selection) -> Iterator[Any]:
    """What to ask for beside the filters: no null is outside of a list."""
    for part in selection.filters or ():
        if _outside(part):
            yield pads.field(variant_of(variant_of(part).expr()).name()).is_valid()


def _agrees(expression: Any, within: bool = False) -> bool:
    """`within`: inside NOT or IS NULL, to which a null that became false is another thing."""
    variant = variant_of(expression)
    kind = type(variant).__name__
    if kind == "Column":
        return True
    if kind in ("Not", "IsNull", "IsNotNull"):
        return _agrees(variant.expr(), True)
    if kind == "InList":
        return not within and not variant.negated() and _listed(variant)
    if kind != "BinaryExpr":
        return False
    left, right = variant.left(), variant.right()
    if variant.op() in ("AND", "OR"):
        return _agrees(left, within) and _agrees(right, within)
    sides = {type(variant_of(side)).__name__: side for side in (left, right)}
    return variant.op() in _COMPARED and set(sides) == {"Column", "Literal"} and _plain(sides["Literal"])


def _outside(expression: Any) -> bool:
    """Whether it is a column NOT IN a list of plain values."""
    variant = variant_of(expression)
    return type(variant).__name__ == "InList" and variant.negated() and _listed(variant)


def _listed(variant: Any) -> bool:
    column, values = variant_of(variant.expr()), variant.list()
    return type(column).__name__ == "Column" and all(map(_plain, values))


def _plain(literal: Any) -> bool:
    """Whether it is a literal, and neither null, nor NaN, nor an infinity."""
    if type(variant_of(literal)).__name__ != "Literal":
        return False
    value = literal.python_value()
    return value.is_valid and not (pa.types.is_floating(value.type) and not math.isfinite(value.as_py()))


def filtered(batch: pa.RecordBatch, residual: Any) -> pa.RecordBatch:
    """The rows that satisfy a filter, NaN counting as greater than every number, as in SQL and in DataFusion.

    To pyarrow NaN is neither greater nor less, so it is shown infinity in its place. (A filter that compares with
    infinity itself would take NaN for it, and is none that is `agreed`.)
    """
    holding = [
        i
        for i, column in enumerate(batch.columns)
        if pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py()
    ]
    if not holding:
        return batch.filter(residual)
    shown = list(batch.columns)
    for i in holding:
        shown[i] = pc.if_else(pc.is_nan(shown[i]), pa.scalar(float("inf"), shown[i].type), shown[i])
    numbered = pa.RecordBatch.from_arrays(
        [*shown, pa.array(np.arange(batch.num_rows))], names=[*batch.schema.names, "\0row"]
    )
    return batch.take(numbered.filter(residual).column("\0row"))
