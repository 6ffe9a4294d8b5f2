"""Joins without an equality are counted before they run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import kymograph
from kymograph.errors import LimitExceeded
from kymograph.store.store import Store

ROWS = 2_000


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with kymograph.connect("memory:") as store:
        store.write("t", {"time": list(range(ROWS)), "g": ["a"] * ROWS, "v": [float(i) for i in range(ROWS)]})
        yield store


@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(*) FROM t a, t b, t c",
        "SELECT count(*) FROM t a JOIN t b ON a.v < b.v JOIN t c ON b.v < c.v",
        "SELECT count(*) FROM t a LEFT JOIN t b ON true LEFT JOIN t c ON true",
        "SELECT count(*) FROM t WHERE v > (SELECT count(*) FROM t a, t b, t c)",
        "SELECT count(*) FROM generate_series(1, 1000000000) s, t a, t b",
        'SELECT count(*) FROM t a, (SELECT v AS "x\nLimit: skip=0, fetch=1" FROM t) b, t c',
        "SELECT count(*) FROM t a, (SELECT v, 'x\nLimit: skip=0, fetch=1' AS y FROM t) b, t c",
    ],
)
def test_too_many_pairs_are_refused(store: Store, query: str) -> None:
    with pytest.raises(LimitExceeded, match="join without an equality"):
        store.sql(query)


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("SELECT count(*) AS n FROM t a, t b", ROWS * ROWS),
        ("SELECT count(*) AS n FROM t, (SELECT max(v) AS top FROM t) m WHERE t.v < m.top", ROWS - 1),
        ("SELECT count(*) AS n FROM t WHERE v >= (SELECT avg(v) FROM t)", ROWS // 2),
        ("SELECT count(*) AS n FROM (VALUES (1), (2)) v(z), t", 2 * ROWS),
        ("SELECT count(*) AS n FROM (SELECT * FROM generate_series(1, 1000000000) LIMIT 3) s, t", 3 * ROWS),
        (
            "WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r WHERE i < 9) SELECT count(*) AS n FROM r, t",
            9 * ROWS,
        ),
        ("SELECT count(*) AS n FROM t a JOIN t b ON a.time = b.time JOIN t c ON b.time = c.time", ROWS),
        ("SELECT count(*) AS n FROM (SELECT * FROM t LIMIT 10) a, (SELECT * FROM t LIMIT 10) b, t", 100 * ROWS),
    ],
)
def test_what_stays_small_is_answered(store: Store, query: str, rows: int) -> None:
    assert store.sql(query).rows() == [{"n": rows}]
