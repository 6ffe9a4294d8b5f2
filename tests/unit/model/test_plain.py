"""Plain Python values take a quicker way into a batch: it gives what the long way gives, or leaves the work to it."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from kymograph.errors import KymographError
from kymograph.model.batch import conform, conform_plain, to_table
from kymograph.model.schema import table_schema

SCHEMA = table_schema(
    "t", ["host", "rack"], {"f": "float64", "g": "float32", "i": "int8", "u": "uint64", "s": "string"}
)
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-300, 300),
    st.sampled_from([2**53, 2**53 + 1, 2**63, 2**64 - 1, 2**64, -(2**63), 10**30]),
    st.floats(width=32),
    st.sampled_from([0.1, math.nan, -0.0]),
    st.sampled_from(["", "a", "é", "\ud800", "a\0b"]),
)
FITTING: dict[str, st.SearchStrategy[Any]] = {
    "time": st.integers(-(2**62) - 1, 2**62 + 1),
    "host": st.sampled_from(["a", "b", "é"]),
    "rack": st.sampled_from(["", "r"]),
    "f": st.floats() | st.none(),
    "g": st.floats(width=32),
    "i": st.integers(-128, 127) | st.none(),
    "u": st.integers(0, 2**64 - 1),
    "s": st.sampled_from(["x", "", None]),
    "more": st.just(1),
}


@st.composite
def data(draw: st.DrawFn) -> dict[Any, Any]:
    names = draw(st.lists(st.sampled_from(sorted(FITTING)), unique=True, min_size=1))
    names = ["time", "host", "rack", *names] if draw(st.booleans()) else names
    rows = draw(st.integers(0, 3))
    odd = draw(st.sampled_from([None, None, *names]))
    columns: dict[Any, Any] = {}
    for name in names:
        values = ANYTHING if name == odd else FITTING[name]
        columns[name] = draw(st.lists(values, min_size=rows, max_size=rows + (name == odd)))
    return columns


@given(data())
@settings(max_examples=500)
def test_it_gives_what_the_long_way_gives(columns: dict[Any, Any]) -> None:
    quick = conform_plain(columns, SCHEMA)
    if quick is None:
        return
    try:
        slow = conform(to_table(columns), SCHEMA)
    except KymographError as problem:
        raise AssertionError("the long way refuses what the quick one took") from problem
    assert quick.schema == slow.schema
    assert shown(quick) == shown(slow)


def shown(batch: pa.RecordBatch) -> list[Any]:
    return [repr(column.to_pylist()) for column in batch.columns]


def test_rows_of_plain_values_take_it() -> None:
    for columns in (
        {"time": [1], "host": ["a"], "rack": ["r"], "f": [1.5], "i": [3], "u": [2**64 - 1], "s": ["x"]},
        {"time": [1, 2], "host": ["a", "a"], "rack": ["r", ""], "f": [1, None]},
    ):
        assert conform_plain(columns, SCHEMA) is not None


def test_what_is_less_plain_goes_the_long_way() -> None:
    row: dict[Any, Any] = {"time": [1], "host": ["a"], "rack": ["r"], "f": [1.5]}
    changes: tuple[dict[str, Any], ...] = (
        {"time": ["2026-01-01"]},
        {"time": [True]},
        {"time": []},
        {"host": [None]},
        {"host": "a"},
        {"f": [2**53 + 1]},
        {"f": ["1.5"]},
        {"f": (1.5,)},
        {"f": [1.5, 2.5]},
        {"g": [0.1]},
        {"i": [128]},
        {"more": [1]},
    )
    for change in changes:
        assert conform_plain(row | change, SCHEMA) is None, change
