"""`time = (SELECT max(time) FROM t)`: the engine knows the newest time, so the sub-select becomes a literal.

As a literal it narrows the scan of the outer SELECT to that time; as a sub-select it would have both scans read all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from kymograph.model.time import TIME, TIME_TYPE
from kymograph.sql.tokens import Token, is_with_query

_PREFIX = "__newest"
_COMPARISONS = ("=", "<", ">")
_LENGTH = 9  # ( SELECT max ( time ) FROM t )

Span = tuple[int, int] | None


def with_newest(
    tokens: Sequence[Token], values: dict[str, pa.Scalar], span_of: Callable[[str], Span]
) -> tuple[list[Token], dict[str, pa.Scalar]]:
    """The statement with every such sub-select on the right of a comparison a parameter, and the values with theirs.

    Args:
        span_of: oldest and newest time of a table, µs; None where that cannot be told, or there is no such table.
    """
    written, known = list(tokens), dict(values)
    if any(name.startswith(_PREFIX) for name in values):
        return written, known
    for begin in range(len(tokens) - _LENGTH, 0, -1):
        if not _matches(tokens[begin : begin + _LENGTH]) or not any(map(tokens[begin - 1].is_punct, _COMPARISONS)):
            continue
        table = tokens[begin + 7].value
        span = None if is_with_query(tokens, table) else span_of(table)
        if span is not None:
            name = f"{_PREFIX}_{begin}"
            known[name] = pa.scalar(span[tokens[begin + 2].value == "max"], pa.int64()).cast(TIME_TYPE)
            written[begin : begin + _LENGTH] = [Token("param", name, f"${name}")]
    return written, known


def _matches(part: Sequence[Token]) -> bool:
    return (
        part[0].is_punct("(")
        and part[1].is_word("select")
        and part[2].is_word("max", "min")
        and part[3].is_punct("(")
        and part[4].kind in ("word", "name")
        and part[4].value == TIME
        and part[5].is_punct(")")
        and part[6].is_word("from")
        and part[7].kind in ("word", "name")
        and part[8].is_punct(")")
    )
