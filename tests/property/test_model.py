"""Any time and any column of values: exactly what went in, or an error that says so."""

from __future__ import annotations

import datetime as dt
import struct
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kymograph.errors import InvalidInput, SchemaError
from kymograph.model.batch import conform
from kymograph.model.schema import FIELD_TYPES, table_schema
from kymograph.model.time import MAX_TIME, MIN_TIME, isoformat, micros_of, time_array, to_micros
from kymograph.options import parse_duration, parse_size
from tests.rows import plain

QUICK = settings(max_examples=50)
SCHEMA = table_schema("t", ["l"], {name: name for name in FIELD_TYPES})
FLOATS = {"float32": ("<f", "<I", 32), "float64": ("<d", "<Q", 64)}


@QUICK
@given(st.integers(MIN_TIME, MAX_TIME))
def test_every_microsecond_comes_back(micros: int) -> None:
    assert to_micros(micros) == micros
    assert micros_of(time_array(pa.array([micros])))[0] == micros
    assert micros_of(time_array(pa.array([micros], pa.timestamp("us", "UTC"))))[0] == micros
    assert to_micros(np.datetime64(micros, "us")) == micros
    assert to_micros(pa.scalar(micros, pa.timestamp("us"))) == micros


@QUICK
@given(st.datetimes(timezones=st.timezones()))
def test_datetimes_and_their_text_agree(moment: dt.datetime) -> None:
    micros = to_micros(moment.astimezone(dt.UTC) if _utc_fits(moment) else moment)
    assert to_micros(moment) == micros
    assert to_micros(isoformat(micros)) == micros
    assert micros == (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)


def _utc_fits(moment: dt.datetime) -> bool:
    return 2 < moment.year < 9998


@QUICK
@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_nanoseconds_are_floored_by_every_door(nanos: int) -> None:
    floor = nanos // 1000
    assert to_micros(np.datetime64(nanos, "ns")) == floor
    assert to_micros(pa.scalar(nanos, pa.timestamp("ns"))) == floor
    assert micros_of(time_array(pa.array([nanos], pa.timestamp("ns"))))[0] == floor
    assert micros_of(time_array(np.array([nanos], "M8[ns]")))[0] == floor
    assert to_micros(pd.Timestamp(nanos)) == floor


def values_of(name: str) -> st.SearchStrategy[Any]:
    """Values of a field type as (bits for floats, values for the rest)."""
    if name in FLOATS:
        bits = FLOATS[name][2]
        return st.none() | st.integers(0, 2**bits - 1) | st.floats(width=bits).map(lambda v: _bits(name, v))
    if name == "bool":
        return st.none() | st.booleans()
    if name == "string":
        return st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    bits = FIELD_TYPES[name].bit_width
    low, high = (0, 2**bits - 1) if name.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    near = st.sampled_from([2**24, 2**53, 2**8, 0]).flatmap(lambda c: st.integers(c - 2, c + 2))
    return st.none() | st.integers(low, high) | near.filter(lambda v: low <= v <= high)


def _bits(name: str, value: float) -> int:
    code, unsigned, _ = FLOATS[name]
    return int(struct.unpack(unsigned, struct.pack(code, value))[0])


def array_of(name: str, values: list[Any]) -> pa.Array:
    kind = FIELD_TYPES[name]
    if name in FLOATS:
        return pa.array(values, pa.uint32() if name == "float32" else pa.uint64()).view(kind)
    return pa.array(values, kind)


@pytest.mark.parametrize("name", FIELD_TYPES)
@QUICK
@given(st.data())
def test_own_type_is_bit_exact(name: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(values_of(name), max_size=20))
    table = pa.table(
        {"time": pa.array(range(len(values)), pa.int64()), "l": pa.nulls(len(values)), name: array_of(name, values)}
    )
    assert plain(conform(table, SCHEMA)[name]) == values


@settings(QUICK, max_examples=200)
@given(st.data())
def test_another_type_holds_exactly_the_same_or_refuses(data: st.DataObject) -> None:
    source, target = data.draw(st.sampled_from(sorted(FIELD_TYPES))), data.draw(st.sampled_from(sorted(FIELD_TYPES)))
    values = array_of(source, data.draw(st.lists(values_of(source), min_size=1, max_size=3)))
    table = pa.table({"time": pa.array(range(len(values))), "l": pa.nulls(len(values)), target: values})
    try:
        stored = conform(table, SCHEMA)[target]
    except SchemaError as problem:
        refused = str(problem)
    else:
        refused = ""
    if refused:
        assert source != target
        for part in ("table t", f"column {target}", f"stored as {target}", f"these {source} values"):
            assert part in refused
        return
    for before, after in zip(values.to_pylist(), stored.to_pylist(), strict=True):
        assert _number(before) == _number(after)


def _number(value: Any) -> Any:
    """A value so that equal means the same number; types that must not mix stay apart."""
    if value is None or isinstance(value, (str, bool)):
        return value, type(value)
    if value != value:
        return "nan"
    return str(value) if value in (float("inf"), float("-inf")) else Fraction(value)


@settings(QUICK, max_examples=200)
@given(st.text(max_size=20) | st.from_regex(r"[0-9.]{1,20}[a-zA-Z ]{0,3}", fullmatch=True))
def test_words_for_durations_and_sizes_never_fail_otherwise(text: str) -> None:
    for parse in (parse_duration, parse_size):
        try:
            number = parse(text)
        except InvalidInput:
            continue
        assert 0 <= number < 2**62
