"""Times at the edge: every accepted form, every unit, flooring before 1970, and nothing else."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from kymograph.errors import TimeError
from kymograph.model.time import MAX_TIME, MIN_TIME, TIME_TYPE, isoformat, micros_of, time_array, to_micros

MOMENT = 1_767_323_045_123_456  # 2026-01-02T03:04:05.123456Z


@pytest.mark.parametrize(
    "value",
    [
        MOMENT,
        np.int64(MOMENT),
        dt.datetime(2026, 1, 2, 3, 4, 5, 123456),
        dt.datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=dt.UTC),
        dt.datetime(2026, 1, 2, 8, 34, 5, 123456, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30))),
        "2026-01-02T03:04:05.123456Z",
        "2026-01-02 03:04:05.123456",
        "2026-01-02T03:04:05.123456999Z",
        "2026-01-02T08:34:05.1234569+05:30",
        "  2026-01-02T03:04:05.123456Z\n",
        np.datetime64("2026-01-02T03:04:05.123456"),
        np.datetime64("2026-01-02T03:04:05.123456999"),
        pd.Timestamp("2026-01-02T03:04:05.123456999"),
        pd.Timestamp("2026-01-02T03:04:05.123456", tz="Europe/Berlin") + pd.Timedelta(hours=1),
        pa.scalar(MOMENT),
        pa.scalar(MOMENT, pa.timestamp("us", "Asia/Tokyo")),
        pa.scalar(MOMENT * 1000 + 999, pa.timestamp("ns")),
    ],
    ids=repr,
)
def test_every_form_is_the_same_microsecond(value: object) -> None:
    assert to_micros(value) == MOMENT


@pytest.mark.parametrize(
    ("value", "micros"),
    [
        (np.datetime64(-1, "ns"), -1),
        (np.datetime64(-1000, "ns"), -1),
        (np.datetime64(-1001, "ns"), -2),
        (np.datetime64(-1, "ps"), -1),
        (pd.Timestamp(-1), -1),
        (pd.Timestamp(-1001, tz="UTC"), -2),
        (pa.scalar(-1001, pa.timestamp("ns")), -2),
        ("1969-12-31T23:59:59.9999999Z", -1),
        ("0001-01-01T00:00:00+23:59", -62_135_683_140_000_000),
        (dt.date(1969, 12, 31), -86_400_000_000),
        (np.datetime64("1969", "Y"), -365 * 86_400_000_000),
        (pa.scalar(10**12, pa.timestamp("s")), 10**18),  # far behind the year 9999
        (MIN_TIME, MIN_TIME),
        (MAX_TIME, MAX_TIME),
        (0, 0),
    ],
    ids=repr,
)
def test_floors_and_far_times(value: object, micros: int) -> None:
    assert to_micros(value) == micros


@pytest.mark.parametrize(
    "value",
    [
        None, True, 1.5, np.float64(1), b"2026-01-01", "", "yesterday", "2026-13-01", "2026-01-01T25:00", "\ud800",
        "23:59:60", [], {}, pd.NaT, np.datetime64("NaT"), np.timedelta64(5, "s"), dt.timedelta(1), dt.time(1),
        pa.scalar(None, pa.timestamp("us")), pa.scalar(1.5), pa.scalar(10**14, pa.timestamp("s")),
        MIN_TIME - 1, MAX_TIME + 1, 10**400, -(10**30),
        np.datetime64(584_542, "Y"), np.datetime64(213_503_983, "D"), np.datetime64(2**63 - 1, "s"),
    ],
    ids=lambda v: repr(v)[:40],
)  # fmt: skip
def test_anything_else_is_an_error(value: object) -> None:
    with pytest.raises(TimeError):
        to_micros(value)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York", "+05:30"])
def test_arrow_timestamps_of_every_unit_and_zone(unit: str, zone: str | None) -> None:
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    seconds = [-(2**31), -1, 0, 1, 1_767_323_045]
    array = time_array(pa.array([s * per_second for s in seconds], pa.timestamp(unit, zone)))
    assert array.type == TIME_TYPE
    assert micros_of(array).tolist() == [s * 10**6 for s in seconds]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([-1, 0, 1]),
        pa.array([-1, 0, 1], pa.int8()),
        pa.array([9, -1, 0, 1], pa.int32())[1:],
        pa.chunked_array([[-1], [], [0, 1]], pa.int64()),
        pa.array([-1, 999, 1001], pa.timestamp("ns")),
        pa.array([-1, 0, 1], pa.timestamp("us")).dictionary_encode(),
        pa.array(["1969-12-31T23:59:59.999999Z", "1970-01-01", "1970-01-01T00:00:00.000001Z"]),
        pa.array(["1969-12-31T23:59:59.999999Z", "1970-01-01", "1970-01-01T00:00:00.000001Z"], pa.string_view()),
        [-1, dt.datetime(1970, 1, 1), "1970-01-01T00:00:00.000001"],
        np.array([-1, 0, 1]),
        np.array([-1, 0, 1], ">i8"),
        np.array([-1, 0, 1], "M8[us]"),
        np.array([-1000, 0, 1999], "M8[ns]"),
        np.array([-1, 0, 10**6], "M8[ps]"),
        pd.Series([-1, 0, 1]),
        pd.Series(np.array([-1, 999, 1001], "M8[ns]")),
        pl.Series([-1, 0, 1]),
        pl.Series([-1, 0, 1]).cast(pl.Datetime("us")),
    ],
    ids=lambda v: f"{type(v).__name__}-{getattr(v, 'dtype', getattr(v, 'type', ''))}",
)
def test_columns_of_times(values: object) -> None:
    array = time_array(values)
    assert array.type == TIME_TYPE
    assert micros_of(array).tolist() == [-1, 0, 1]


def test_dates_are_midnights() -> None:
    assert micros_of(time_array(pa.array([-1, 1], pa.date32()))).tolist() == [-86_400_000_000, 86_400_000_000]
    assert micros_of(time_array(np.array(["1970-01-02"], "M8[D]"))).tolist() == [86_400_000_000]


def test_an_empty_column_has_the_type() -> None:
    for empty in ([], pa.array([], pa.timestamp("ns")), pa.chunked_array([], pa.int64())):
        assert time_array(empty) == pa.array([], TIME_TYPE)


def test_a_null_names_its_row() -> None:
    with pytest.raises(TimeError, match="row 2"):
        time_array(pa.array([1, 2, None, None]))
    with pytest.raises(TimeError, match="row 1"):
        time_array(np.array(["2026-01-01", "NaT"], "M8[us]"))


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1.5]), pa.array([True]), pa.array([b"x"]), pa.array(["no time"]), pa.array([2**63], pa.uint64()),
        pa.array([MAX_TIME + 1]), pa.array([MIN_TIME - 1]), pa.array([10**14], pa.timestamp("s")),
        pa.array([2**31 - 1], pa.date32()), pa.array([1], pa.duration("us")), np.array([1], "m8[us]"),
        np.zeros((2, 2), "M8[us]"), np.array([213_503_983], "M8[D]"), [2**63], [None],
    ],
    ids=str,
)  # fmt: skip
def test_columns_that_are_no_times(values: object) -> None:
    with pytest.raises(TimeError):
        time_array(values)


def test_isoformat_reads_back() -> None:
    assert isoformat(MOMENT) == "2026-01-02T03:04:05.123456Z"
    assert isoformat(-1) == "1969-12-31T23:59:59.999999Z"
    for micros in (MOMENT, -1, 0, 10**6, -62_135_596_800_000_000):
        assert to_micros(isoformat(micros)) == micros
    assert isoformat(MAX_TIME) == str(MAX_TIME)
