"""What doubles from WITH query to WITH query is refused before it is planned; what merely joins texts is not."""

from __future__ import annotations

import pytest

from kymograph.errors import LimitExceeded
from kymograph.sql.growth import check_growth
from kymograph.sql.tokens import tokenize


def doubling(levels: int, operation: str) -> str:
    steps = [f"s{k + 1} AS (SELECT {operation.replace('x', f's{k}.x')} AS x FROM s{k})" for k in range(levels)]
    return f"WITH s0 AS (SELECT 'a' AS x), {', '.join(steps)} SELECT length(x) AS n FROM s{levels}"


@pytest.mark.parametrize("operation", ["concat(x, x)", "x || x", "replace(x, 'a', x)", "array_concat(x, x)"])
def test_doubling_is_refused(operation: str) -> None:
    with pytest.raises(LimitExceeded, match="could grow to"):
        check_growth(tokenize(doubling(24, operation)), {})
    check_growth(tokenize(doubling(6, operation)), {})


def test_doubling_in_nested_sub_selects_is_refused() -> None:
    text = "SELECT 'a' AS x"
    for _ in range(24):
        text = f"SELECT x || x AS x FROM ({text}) AS t"
    with pytest.raises(LimitExceeded, match="could grow to"):
        check_growth(tokenize(text), {})


def test_long_texts_count() -> None:
    statement = tokenize("SELECT concat($x, $x, $x) AS x")
    check_growth(statement, {"x": "a" * 1_000_000})
    with pytest.raises(LimitExceeded):
        check_growth(statement, {"x": "a" * 60_000_000})


def test_joining_many_texts_side_by_side_is_fine() -> None:
    joined = " || '-' || ".join(f"c{i}" for i in range(40))
    check_growth(tokenize(f"SELECT {joined} AS x FROM t"), {})
    union = " UNION ALL ".join(f"SELECT a || ':' || b || ':' || c AS x FROM t{i}" for i in range(30))
    check_growth(tokenize(union), {})
