"""Refuses statements whose texts or lists could double from SELECT to SELECT.

A WITH query that joins a column to itself doubles it; thirty of them make gigabytes out of one letter, in functions that
count against no memory pool. So the most that a statement can enlarge a value is worked out from its text: within a
SELECT its enlarging operations add up, from one to the next they multiply.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kymograph.errors import LimitExceeded
from kymograph.sql.tokens import Token

# What one value may grow to, and what is assumed of a stored one.
_MOST_BYTES, _STORED_BYTES = 2**26, 64
_ENLARGING = frozenset(
    (
        *("concat", "concat_ws", "replace", "regexp_replace", "overlay", "string_agg", "array_to_string", "encode"),
        *("make_array", "array_append", "array_prepend", "array_concat", "array_cat", "array_push_back"),
        *("array_push_front", "list_append", "list_prepend", "list_concat", "list_cat", "list_push_back"),
        *("struct", "named_struct", "map", "array_replace_all", "list_replace_all", "flatten", "array_union"),
    )
)


def check_growth(tokens: Sequence[Token], params: Mapping[str, Any]) -> None:
    """Raise LimitExceeded where one value could become larger than 64 MiB."""
    lengths = [len(t.value) for t in tokens if t.kind == "string"]
    lengths += [len(value) for value in params.values() if isinstance(value, str)]
    most = max(_STORED_BYTES, *lengths) if lengths else _STORED_BYTES
    for factor in _factors(tokens):
        most *= factor
    if most > _MOST_BYTES:
        raise LimitExceeded(
            f"a value of this query could grow to {most:.1e} bytes; {_MOST_BYTES} are the limit",
            hint="join fewer texts or lists in sub-selects and WITH queries that build on each other",
        )


def _factors(tokens: Sequence[Token]) -> list[int]:
    """How much each bracketed level may enlarge a value: the most that one of its SELECTs, side by side, does."""
    factors: list[int] = []
    stack: list[list[int]] = []
    level = [1, 1]  # of the present SELECT, of the largest before it
    for i, token in enumerate(tokens):
        if token.kind == "punct":
            if token.value == "(":
                stack.append(level)
                level = [1, 1] if i + 1 < len(tokens) and tokens[i + 1].is_word("select", "with") else level
            elif token.value == ")" and stack:
                if level is not stack[-1]:
                    factors.append(max(level))
                level = stack.pop()
            elif token.value == "|" and tokens[i - 1].is_punct("|"):
                level[0] += 1
        elif token.is_word("select"):
            level[:] = [1, max(level)]
        elif token.kind in ("word", "name") and token.value in _ENLARGING:
            level[0] += 1
    return [*factors, max(level)]
