"""WHERE selects what it selects from the same rows in plain DataFusion: nulls, NaN, infinities, lists, NOT, CASE, casts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datafusion import SessionConfig, SessionContext
from hypothesis import given, settings
from hypothesis import strategies as st

import kymograph
from kymograph.store.store import Store
from tests.rows import ordered, rows_of

ROWS = 200
NUMBERS = st.sampled_from(["NULL", "-1", "0", "1", "2", "1.5", "1e300", "'NaN'::double", "'Infinity'::double"])
TEXTS = st.sampled_from(["NULL", "'a'", "'b'", "'it''s'", "'é'", "'zz'"])
TIMES = st.sampled_from(["NULL", *(f"TIMESTAMP '1970-01-01T00:00:00.000{us}Z'" for us in ("000", "050", "1"))])
FLAGS = st.sampled_from(["NULL", "true", "false"])
COLUMNS = {"x": NUMBERS, "small": NUMBERS, "f": NUMBERS, "g": NUMBERS, "label": TEXTS, "s": TEXTS, "time": TIMES}
CASTS = st.sampled_from(["CAST({} AS VARCHAR) = '1'", "CAST({} AS DOUBLE) > 0.5", "TRY_CAST({} AS BIGINT) < 2"])


@st.composite
def terms(draw: Any) -> str:
    """One condition on a column, in brackets."""
    return f"({draw(bare())})"


@st.composite
def bare(draw: Any) -> str:
    column = draw(st.sampled_from([*COLUMNS]))
    value = COLUMNS[column]
    form = draw(st.integers(0, 8))
    if form < 2:
        return f"{column} {draw(st.sampled_from(['=', '<>', '<', '<=', '>', '>=']))} {draw(value)}"
    if form == 2:
        return f"{draw(value)} {draw(st.sampled_from(['=', '<>', '<', '>=']))} {column}"
    if form == 3:
        return f"{column} {draw(st.sampled_from(['', 'NOT ']))}BETWEEN {draw(value)} AND {draw(value)}"
    if form == 4:
        listed = ", ".join(draw(st.lists(value, min_size=1, max_size=6)))
        return f"{column} {draw(st.sampled_from(['', 'NOT ']))}IN ({listed})"
    if form == 5:
        return f"{column} IS {draw(st.sampled_from(['NULL', 'NOT NULL']))}"
    if form == 6:
        return f"{column} IS {draw(st.sampled_from(['', 'NOT ']))}DISTINCT FROM {draw(value)}"
    if form == 7 and value is NUMBERS:
        return draw(CASTS).format(column)  # type: ignore[no-any-return]
    other = draw(st.sampled_from([name for name in COLUMNS if COLUMNS[name] is value]))
    return f"{column} {draw(st.sampled_from(['=', '<', '>=']))} {other}"


def joined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Conditions made of conditions."""
    return st.one_of(
        st.builds("({} AND {})".format, inner, inner),
        st.builds("({} OR {})".format, inner, inner),
        st.builds("(NOT {})".format, inner),
        st.builds("({} IS {})".format, inner, st.sampled_from(["TRUE", "NOT TRUE", "NULL", "UNKNOWN", "NOT FALSE"])),
        st.builds("(CASE WHEN {} THEN {} ELSE {} END)".format, inner, inner, inner),
    )


CONDITIONS = st.recursive(terms() | FLAGS | st.sampled_from(["yes", "NOT yes"]), joined, max_leaves=6)


def rows() -> pa.Table:
    random = np.random.default_rng(20)

    def some(values: list[Any], kind: pa.DataType) -> pa.Array:
        return pa.array([values[i] for i in random.integers(0, len(values), ROWS)], kind)

    floats = [None, float("nan"), float("inf"), float("-inf"), -1.0, 0.0, 0.5, 1.0, 1.5, 2.0]
    return pa.table(
        {
            "time": pa.array(np.arange(ROWS), pa.timestamp("us", "UTC")),
            "label": some(["a", "b", "it's", "é", None], pa.string()),
            "x": some([None, -1, 0, 1, 2, 3], pa.int64()),
            "small": some([None, 0, 1, 2], pa.uint8()),
            "f": some(floats, pa.float64()),
            "g": some(floats, pa.float32()),
            "s": some(["a", "b", "zz", None], pa.string()),
            "yes": some([None, True, False], pa.bool_()),
        }
    )


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, SessionContext]]:
    """The same rows, half sealed and half hot, and in plain DataFusion."""
    table = rows()
    plain = SessionContext(SessionConfig().with_target_partitions(1))
    plain.register_record_batches("t", [table.to_batches()])
    with kymograph.connect(tmp_path_factory.mktemp("filters") / "s", sync="off") as store:
        store.create_table("t", ["label"], {field.name: field.type for field in list(table.schema)[2:]})
        store.write("t", table.slice(0, ROWS // 2))
        store.seal()
        store.write("t", table.slice(ROWS // 2))
        yield store, plain


@settings(max_examples=300)
@given(where=CONDITIONS, columns=st.sampled_from(["time", "*", "time, f", "count(*) AS n, sum(x) AS s, max(f) AS m"]))
def test_where(doors: tuple[Store, SessionContext], where: str, columns: str) -> None:
    store, plain = doors
    order = "time, label, x, small, f, g, s, yes" if columns == "*" else columns
    text = f"SELECT {order} FROM t WHERE {where}"
    found, wanted = store.sql(text).arrow(), plain.sql(text).to_arrow_table()
    assert ordered(rows_of(found.cast(wanted.schema))) == ordered(rows_of(wanted))
