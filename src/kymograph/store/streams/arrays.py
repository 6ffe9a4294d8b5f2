"""Between the arrays that users have and the rows that engines take: structured ones, and 2-D ones with the time in column 0."""

from __future__ import annotations

from typing import Any

import numpy as np

from kymograph.errors import InvalidInput
from kymograph.model.stream import DATA, TIMESTAMP, Layout

Array = np.ndarray[Any, Any]
# the largest integer up to which float64 holds every one
EXACT = 2**53


def as_rows(array: Any, layout: Layout) -> Array:
    """Rows of `layout.rows`, C-contiguous; the array itself where it is that already.

    Args:
        array: structured with `timestamp` and `data`; or 2-D of shape (n, 1 + columns) with int µs in column 0, which
            in a float array must be whole numbers below 2**53.

    Raises:
        InvalidInput: another shape or type, a time that is not exact, a value that the layout's integer type does not
            hold; names the row. Values for float layouts are rounded to the layout's precision.
    """
    given = np.asarray(array)
    if given.dtype.names is not None:
        return _structured(given, layout)
    if given.ndim == 2 and given.shape[1] == 1 + layout.count and given.dtype.kind in "iuf":
        rows = np.empty(len(given), layout.rows)
        rows[TIMESTAMP] = exact_times(given[:, 0])
        rows[DATA] = _values(given[:, 1:], layout)
        return rows
    if given.size == 0:
        return np.empty(0, layout.rows)
    raise InvalidInput(
        f"an array of {given.dtype} with shape {given.shape} is not rows of {layout.name}",
        hint=f"structured like {layout.rows}, or 2-D with {1 + layout.count} columns of which the first is the time in µs",
    )


def exact_times(times: Array) -> Array:
    """Times as int64 µs.

    Raises:
        InvalidInput: a float that is not a whole number of µs below 2**53; names the row.
    """
    if times.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            wrong = ~((times == np.floor(times)) & (np.abs(times) < EXACT))
        if wrong.any():
            at = int(wrong.argmax())
            raise InvalidInput(
                f"row {at}: the time {times[at]!r} is no whole number of µs that float64 holds exactly",
                hint="give times as int64 µs in a structured array",
            )
    elif times.dtype.kind == "u" and len(times) and int(times.max()) >= 2**63:
        raise InvalidInput(f"row {int(times.argmax())}: the time {int(times.max())} is out of range")
    elif times.dtype.kind not in "iu":
        raise InvalidInput(f"times are int64 µs, not {times.dtype}")
    exact: Array = times.astype(np.int64)
    return exact


def _structured(given: Array, layout: Layout) -> Array:
    if given.dtype == layout.rows and given.ndim == 1:
        return np.ascontiguousarray(given)
    names = given.dtype.names or ()
    if given.ndim != 1 or set(names) != {TIMESTAMP, DATA}:
        raise InvalidInput(f"an array of {given.dtype} is not rows of {layout.name}", hint=f"like {layout.rows}")
    values = given[DATA]
    if layout.count == 1 and values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or values.shape[1] != layout.count:
        raise InvalidInput(f"rows of {layout.name} have {layout.count} values, not the shape {values.shape[1:]}")
    rows = np.empty(len(given), layout.rows)
    rows[TIMESTAMP] = exact_times(given[TIMESTAMP])
    rows[DATA] = _values(values, layout)
    return rows


def _values(values: Array, layout: Layout) -> Array:
    kind = layout.dtype
    if values.dtype == kind:
        return values
    if values.dtype.kind not in "iuf":
        raise InvalidInput(f"values of {values.dtype} are not {layout.type}")
    if kind.kind == "f":
        with np.errstate(over="ignore"):
            cast: Array = values.astype(kind)
        return cast
    if not np.can_cast(values.dtype, kind, "safe"):
        info = np.iinfo(kind)
        # compared as Python's integers would be: 2**63 is exact in float64, and one less is not
        low, high = values >= float(info.min), values < float(info.max + 1)
        wrong = ~(low & high & (values == np.floor(values) if values.dtype.kind == "f" else np.True_))
        if values.dtype.kind != "f":
            wrong |= (values < 0) if info.min == 0 else np.False_
            wrong &= ~_within(values, info)
        if wrong.any():
            row, column = (int(at) for at in np.argwhere(wrong)[0])
            raise InvalidInput(f"row {row}: column {column} is {values[row, column]!r}, which no {layout.type} holds")
    whole: Array = values.astype(kind)
    return whole


def _within(values: Array, info: np.iinfo[Any]) -> Array:
    """Integers that lie between the ends of a type, compared as integers."""
    own = np.iinfo(values.dtype)
    low, high = max(info.min, own.min), min(info.max, own.max)
    inside: Array = (values >= low) & (values <= high)
    return inside


def flattened(rows: Array) -> Array:
    """A 2-D float64 array with the time in column 0; of a level: time, means, minima, maxima.

    Raises:
        InvalidInput: a time or value that float64 does not hold exactly.
    """
    names = [name for name in rows.dtype.names or () if name != TIMESTAMP]
    parts = [rows[name] for name in names]
    for part in (rows[TIMESTAMP], *(part for part in parts if part.dtype.kind in "iu" and part.dtype.itemsize == 8)):
        if part.size and (int(part.max()) > EXACT or int(part.min()) < -EXACT):
            raise InvalidInput("float64 does not hold these integers exactly", hint="read without flatten")
    width = sum(part.shape[1] for part in parts)
    out = np.empty((len(rows), 1 + width))
    out[:, 0] = rows[TIMESTAMP]
    at = 1
    for part in parts:
        out[:, at : at + part.shape[1]] = part
        at += part.shape[1]
    return out
