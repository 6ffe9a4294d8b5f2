"""Time is int64 microseconds since the Unix epoch, UTC. This file is the edge where others become it."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.errors import TimeError

TIME = "time"
TIME_TYPE = pa.timestamp("us", tz="UTC")
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

MIN_TIME = -(2**62)
MAX_TIME = 2**62
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
# what Arrow reads from NumPy as it is; the other units go through `to_micros`, one by one
_NUMPY_TIMES = {
    np.dtype(name) for name in ("int32", "int64", "uint32", "uint64", "M8[s]", "M8[ms]", "M8[us]", "M8[ns]")
}
_FINER = {"ns": 10**3, "ps": 10**6, "fs": 10**9, "as": 10**12}  # per µs
_HINT = "give int microseconds, a datetime, ISO 8601 text, or an Arrow/NumPy/pandas timestamp"


def to_micros(value: Any) -> int:
    """One time as int µs since 1970-01-01T00:00Z.

    Accepts int µs, datetime (naive means UTC), date, ISO 8601 text, np.datetime64, pandas.Timestamp
    and Arrow timestamp scalars. Finer units are floored to the microsecond.

    Raises:
        TimeError: anything else, NaT, or beyond ±2**62 µs.
    """
    if isinstance(value, (bool, np.timedelta64)):  # NumPy counts a timedelta among its integers
        raise TimeError(f"{value!r} is not a time", hint=_HINT)
    if isinstance(value, (int, np.integer)):
        micros = int(value)
    elif isinstance(value, np.datetime64):
        micros = _from_numpy(value)
    elif isinstance(value, dt.datetime):
        if value != value:  # pandas.NaT is a datetime that equals nothing
            raise TimeError("NaT is not a time", hint=_HINT)
        aware = value if value.tzinfo is not None else value.replace(tzinfo=dt.UTC)
        # pandas.Timestamp subclasses datetime: flooring division drops its nanoseconds
        micros = (aware - _EPOCH) // dt.timedelta(microseconds=1)
    elif isinstance(value, dt.date):
        micros = (value - _EPOCH.date()).days * DAY
    elif isinstance(value, str):
        micros = _from_text(value)
    elif isinstance(value, pa.Scalar) and value.is_valid:
        # not as_py(): it needs pandas for nanoseconds and ends at the year 9999
        return int(micros_of(time_array(pa.repeat(value, 1)))[0])
    else:
        raise TimeError(f"{value!r} is not a time", hint=_HINT)
    if not MIN_TIME <= micros <= MAX_TIME:
        raise TimeError(f"the time {value!r} is out of range", hint="within ±2**62 µs of 1970")
    return micros


def _from_numpy(value: np.datetime64) -> int:
    if np.isnat(value):
        raise TimeError("NaT is not a time", hint=_HINT)
    unit, step = np.datetime_data(value.dtype)
    if unit in _FINER:  # in Python's integers: NumPy's own floor overflows at the far end
        return int(value.astype(np.int64)) * step // _FINER[unit]
    micros = value.astype("datetime64[us]")
    # NumPy wraps around silently where a coarse unit reaches further than int64 µs
    if micros.astype(value.dtype).astype(np.int64) != value.astype(np.int64):
        raise TimeError(f"the time {value!r} is out of range", hint="within ±2**62 µs of 1970")
    return int(micros.astype(np.int64))


def _from_text(text: str) -> int:
    # fromisoformat stops at 6 fraction digits on 3.11; more are floored like every finer unit
    trimmed = re.sub(r"(\.[0-9]{6})[0-9]+", r"\1", text.strip())
    try:
        parsed = dt.datetime.fromisoformat(trimmed)
    except ValueError:
        raise TimeError(f"{text[:80]!r} is not an ISO 8601 time", hint=_HINT) from None
    return to_micros(parsed)


def time_array(values: Any) -> pa.Array:
    """A column of times as `timestamp[us, tz=UTC]` without nulls, flooring finer units.

    Args:
        values: a pyarrow Array or ChunkedArray of integers (µs), timestamps of any unit and zone
            (no zone means UTC), dates or ISO 8601 strings; or a sequence of what `to_micros` takes.

    Raises:
        TimeError: another type, a null (names the row), or a value out of range.
    """
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(array, np.ndarray) and array.ndim == 1 and array.dtype in _NUMPY_TIMES:
        array = pa.array(array)
    if isinstance(array, list) and set(map(type, array)) == {int} and max(map(abs, array)) <= MAX_TIME:
        array = pa.array(array, pa.int64())
    if not isinstance(array, pa.Array):
        array = pa.array([to_micros(v) for v in array], pa.int64())
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if array.null_count:
        row = pc.index(pc.is_null(array), True).as_py()
        raise TimeError(f"time is null in row {row}", hint="every row needs a time")
    kind = array.type
    try:
        if kind == TIME_TYPE:
            result = array
        elif pa.types.is_integer(kind):
            result = array.cast(pa.int64()).view(TIME_TYPE)
        elif pa.types.is_timestamp(kind) and kind.unit == "ns":
            # floor, also before 1970, where a cast would truncate towards it
            nanos = array.cast(pa.int64()).to_numpy(zero_copy_only=False)
            result = pa.array(nanos // 1000, pa.int64()).view(TIME_TYPE)
        elif pa.types.is_timestamp(kind):
            result = array.cast(pa.timestamp("us", tz=kind.tz)).cast(TIME_TYPE)
        elif pa.types.is_date(kind):
            result = array.cast(pa.timestamp("us")).cast(TIME_TYPE)
        elif _is_text(kind):
            micros = [_from_text(text) for text in array.to_pylist()]
            result = pa.array(micros, pa.int64()).view(TIME_TYPE)
        else:
            raise TimeError(f"a time column cannot be of type {kind}", hint=_HINT)
    except pa.ArrowInvalid as problem:
        raise TimeError(f"a time is out of range: {problem}") from None
    micros_array = micros_of(result)
    if len(micros_array) and (micros_array.min() < MIN_TIME or micros_array.max() > MAX_TIME):
        raise TimeError("a time is out of range", hint="within ±2**62 µs of 1970")
    return result


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def micros_of(times: pa.Array) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The int64 µs behind a `timestamp[us]` array without nulls; shares its memory."""
    view: np.ndarray[Any, np.dtype[np.int64]] = times.view(pa.int64()).to_numpy()
    return view


def isoformat(micros: int) -> str:
    """`2026-01-02T03:04:05.000006Z` of int µs; times outside years 1…9999 as plain µs."""
    try:
        moment = _EPOCH + dt.timedelta(microseconds=micros)
    except OverflowError:
        return str(micros)
    return moment.isoformat().replace("+00:00", "Z")
