"""Parameters become values of the right type, and nothing else becomes anything."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kymograph.engine.memory import MemoryEngine
from kymograph.errors import QueryError
from kymograph.sql.session import SqlSession

TIME = pa.timestamp("us", tz="UTC")
NOON = dt.datetime(2026, 1, 2, 12, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def session() -> SqlSession:
    return SqlSession(MemoryEngine())


@pytest.mark.parametrize(
    ("value", "kind", "back"),
    [
        ("text", pa.string(), "text"),
        ("", pa.string(), ""),
        ('it\'s "quoted" \\ $$ -- /* \n ☃', pa.string(), 'it\'s "quoted" \\ $$ -- /* \n ☃'),
        ("'; SELECT 1; --", pa.string(), "'; SELECT 1; --"),
        (5, pa.int64(), 5),
        (-(2**63), pa.int64(), -(2**63)),
        (2**64 - 1, pa.uint64(), 2**64 - 1),
        (1.5, pa.float64(), 1.5),
        (True, pa.bool_(), True),
        (NOON, TIME, NOON),
        (NOON.replace(tzinfo=None), TIME, NOON),
        (NOON.astimezone(dt.timezone(dt.timedelta(hours=5))), TIME, NOON),
        (np.datetime64("2026-01-02T12:00:00"), TIME, NOON),
        (np.float32(0.5), pa.float64(), 0.5),
        (np.int16(3), pa.int64(), 3),
        (dt.date(2026, 1, 2), pa.date32(), dt.date(2026, 1, 2)),
        (["a", "b"], pa.list_(pa.string()), ["a", "b"]),
    ],
)
def test_types(session: SqlSession, value: Any, kind: pa.DataType, back: Any) -> None:
    result = session.query("SELECT $x AS x", {"x": value})
    assert result.schema.field("x").type == kind
    assert result.rows() == [{"x": back}]


def test_null(session: SqlSession) -> None:
    assert session.query("SELECT $x IS NULL AS x", {"x": None}).rows() == [{"x": True}]


def test_nan(session: SqlSession) -> None:
    (row,) = session.query("SELECT $x AS x", {"x": float("nan")}).rows()
    assert row["x"] != row["x"]


def test_timedelta(session: SqlSession) -> None:
    result = session.query("SELECT $t - $d AS t", {"t": NOON, "d": dt.timedelta(hours=1)})
    assert result.rows() == [{"t": NOON - dt.timedelta(hours=1)}]


def test_by_position(session: SqlSession) -> None:
    assert session.query("SELECT $2 AS b, $1 AS a", ["x", 7]).rows() == [{"b": 7, "a": "x"}]


@pytest.mark.parametrize("written", ["IN $xs", "IN ($xs)"])
def test_lists(session: SqlSession, written: str) -> None:
    values = "(VALUES (1), (2), (3)) AS t(v)"
    for xs, expected in (([1, 3], [1, 3]), ((2,), [2]), ([], []), ({3}, [3]), (np.array([1, 2]), [1, 2])):
        result = session.query(f"SELECT v FROM {values} WHERE v {written} ORDER BY v", {"xs": xs})
        assert [row["v"] for row in result.rows()] == expected


@pytest.mark.parametrize("value", [b"bytes", object(), 2**64, {"a": 1}, "\0", "\ud800", [object()], complex(1)])
def test_refused(session: SqlSession, value: Any) -> None:
    with pytest.raises(QueryError, match=r"parameter \$x"):
        session.query("SELECT $x", {"x": value})


def test_missing(session: SqlSession) -> None:
    with pytest.raises(QueryError, match=r"no value was given for \$y \(given: \$x\)"):
        session.query("SELECT $y", {"x": 1})


def test_neither_mapping_nor_list(session: SqlSession) -> None:
    with pytest.raises(QueryError, match="parameters are a mapping or a list"):
        session.query("SELECT 1", "abc")
