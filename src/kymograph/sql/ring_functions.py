"""The functions of the ring face, which SQL has everywhere: whole columns at a time, and null where there is no answer.

Any null argument makes the result null. Times are whole seconds (or any other whole unit, kept throughout one call).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
from datafusion import ScalarUDF, SessionContext, WindowUDF, udf, udwf
from datafusion.user_defined import WindowEvaluator

from kymograph.errors import QueryError
from kymograph.model.time import TIME_TYPE

_Ints = np.ndarray[Any, np.dtype[np.int64]]
_Floats = np.ndarray[Any, np.dtype[np.float64]]
_Mask = np.ndarray[Any, np.dtype[np.bool_]]
_INT, _FLOAT = pa.int64(), pa.float64()
# what stands behind counter_rate(value, time) OVER (…); the rewriter writes it
COUNTER_STEP = "__counter_rate_step"


def _split(columns: tuple[pa.Array, ...]) -> tuple[list[Any], _Mask]:
    """The columns as NumPy arrays, and a mask of the rows in which one is null."""
    nothing = np.zeros(len(columns[0]), np.bool_)
    for column in columns:
        if column.null_count:
            nothing |= column.is_null().to_numpy(zero_copy_only=False)
    filled = [column.fill_null(0) if column.null_count else column for column in columns]
    return [column.to_numpy(zero_copy_only=False) for column in filled], nothing


def _floored(times: _Ints, step: _Ints, origin: _Ints | int, nothing: _Mask) -> pa.Array:
    nothing = nothing | (step <= 0)
    width = np.where(nothing, 1, step)
    # by remainders, which cannot overflow where a difference of far times could
    begin = times - (times % width - origin % width) % width
    return pa.array(begin, _INT, mask=nothing | (begin > times))


def ts_bucket(ts: pa.Array, step: pa.Array) -> pa.Array:
    """The start of the bucket of `step` that a time falls in, floored; null where the step is 0 or negative."""
    (times, width), nothing = _split((ts, step))
    return _floored(times, width, 0, nothing)


def align_time(ts: pa.Array, step: pa.Array, origin: pa.Array) -> pa.Array:
    """As `ts_bucket`, with buckets that begin at `origin`."""
    (times, width, begin), nothing = _split((ts, step, origin))
    return _floored(times, width, begin, nothing)


def shift_ts(ts: pa.Array, by: pa.Array) -> pa.Array:
    """`ts + by`; null beyond the range of int64."""
    (times, shift), nothing = _split((ts, by))
    moved = times + shift
    return pa.array(moved, _INT, mask=nothing | ((moved < times) != (shift < 0)))


def bucket_rate(current: pa.Array, previous: pa.Array, seconds: pa.Array) -> pa.Array:
    """`(current - previous) / seconds`; null where the seconds are not positive, or a counter has been reset."""
    (now, before, span), nothing = _split((current, previous, seconds))
    nothing = nothing | ~(span > 0) | (now < before)
    with np.errstate(all="ignore"):
        return pa.array((now - before) / span, _FLOAT, mask=nothing)


def clamp(value: pa.Array, low: pa.Array, high: pa.Array) -> pa.Array:
    """The value, or the bound that it is beyond; null where low is above high. NaN stays NaN."""
    (values, least, most), nothing = _split((value, low, high))
    return pa.array(np.minimum(np.maximum(values, least), most), _FLOAT, mask=nothing | (least > most))


def null_if_outside(value: pa.Array, low: pa.Array, high: pa.Array) -> pa.Array:
    """The value where it lies in [low, high], else null."""
    (values, least, most), nothing = _split((value, low, high))
    return pa.array(values, _FLOAT, mask=nothing | ~((values >= least) & (values <= most)))


def _both(work: Callable[[_Floats, _Floats], _Floats], left: pa.Array, right: pa.Array) -> pa.Array:
    (a, b), nothing = _split((left, right))
    with np.errstate(all="ignore"):
        return pa.array(work(a, b), _FLOAT, mask=nothing)


def series_div(left: pa.Array, right: pa.Array) -> pa.Array:
    """`left / right`; null where right is 0."""
    (a, b), nothing = _split((left, right))
    with np.errstate(all="ignore"):
        return pa.array(a / b, _FLOAT, mask=nothing | (b == 0))


def _before(values: Any) -> tuple[Any, Any]:
    """Each row but the first, and the one before it."""
    return values[1:], values[:-1]


def _stepped(values: Any, nothing: _Mask) -> pa.Array:
    """A column of which the first row is null."""
    return pa.array(np.concatenate([[0.0], values]), _FLOAT, mask=np.concatenate([[True], nothing]))


class _Window(WindowEvaluator):
    """A window function over the rows of a partition in their order; it takes no notice of a frame."""

    def evaluate_all(self, values: list[pa.Array], num_rows: int) -> pa.Array:
        if num_rows == 0:
            return pa.nulls(0, _FLOAT)
        with np.errstate(all="ignore"):
            return self.over(*values)

    def over(self, *columns: pa.Array) -> pa.Array:
        raise NotImplementedError


class Diff(_Window):
    """The value less that of the row before."""

    def over(self, *columns: pa.Array) -> pa.Array:
        (values,), nothing = _split(columns)
        now, before = _before(values)
        return _stepped(now - before, nothing[1:] | nothing[:-1])


class PctChange(_Window):
    """The change since the row before as a part of that row's value; null where that is 0."""

    def over(self, *columns: pa.Array) -> pa.Array:
        (values,), nothing = _split(columns)
        now, before = _before(values)
        return _stepped((now - before) / before, nothing[1:] | nothing[:-1] | (before == 0))


class CounterStep(_Window):
    """`counter_rate` over a row and the one before it: a step down means that the counter began again at 0."""

    def over(self, *columns: pa.Array) -> pa.Array:
        moments = columns[1].view(_INT)
        (values, times), nothing = _split((columns[0], moments))
        now, before = _before(values)
        span = np.diff(times) / 1e6
        risen = np.where(now < before, now, now - before)
        return _stepped(risen / span, nothing[1:] | nothing[:-1] | ~(span > 0))


class _Rolling(_Window):
    """Over the last n rows, this one among them; fewer at the beginning. Null rows are passed over."""

    def over(self, *columns: pa.Array) -> pa.Array:
        numbers = columns[1].unique()
        count = numbers[0].as_py() if len(numbers) == 1 else None
        if count is None or count < 1:
            raise QueryError(f"the number of rows must be one positive number, not {numbers.to_pylist()[:3]}")
        (values,), nothing = _split(columns[:1])
        count = min(count, len(values))
        total = _windowed(np.where(nothing, 0.0, values), count)
        seen = np.concatenate([np.zeros(count, np.int64), np.cumsum(~nothing)])
        rows = seen[count:] - seen[:-count]
        return pa.array(self.of(total, rows), _FLOAT, mask=rows == 0)

    def of(self, total: _Floats, rows: _Ints) -> _Floats:
        raise NotImplementedError


class RollingSum(_Rolling):
    def of(self, total: _Floats, rows: _Ints) -> _Floats:
        return total


class RollingMean(_Rolling):
    def of(self, total: _Floats, rows: _Ints) -> _Floats:
        found: _Floats = total / rows
        return found


def _windowed(values: _Floats, count: int) -> _Floats:
    """The sum of each value and the `count - 1` before it.

    Sums of 1, 2, 4, … values make up every length, so that only values of the window are ever added: a NaN, or a value
    much greater than the others, leaves no trace in the windows after it.
    """
    total = np.zeros(len(values))
    width, taken, sums = 1, 0, values
    while True:
        if count & width:
            total[taken:] += sums[: len(sums) - taken]
            taken += width
        if width * 2 > count:
            return total
        longer = sums.copy()
        longer[width:] += sums[:-width]
        sums, width = longer, width * 2


_SCALARS: dict[str, tuple[Callable[..., pa.Array], int, pa.DataType]] = {
    "ts_bucket": (ts_bucket, 2, _INT),
    "align_time": (align_time, 3, _INT),
    "shift_ts": (shift_ts, 2, _INT),
    "bucket_rate": (bucket_rate, 3, _FLOAT),
    "clamp": (clamp, 3, _FLOAT),
    "null_if_outside": (null_if_outside, 3, _FLOAT),
    "series_add": (partial(_both, np.add), 2, _FLOAT),
    "series_sub": (partial(_both, np.subtract), 2, _FLOAT),
    "series_mul": (partial(_both, np.multiply), 2, _FLOAT),
    "series_div": (series_div, 2, _FLOAT),
}
_WINDOWS: dict[str, tuple[Callable[[], WindowEvaluator], list[pa.DataType]]] = {
    "diff": (Diff, [_FLOAT]),
    "pct_change": (PctChange, [_FLOAT]),
    "rolling_mean": (RollingMean, [_FLOAT, _INT]),
    "rolling_sum": (RollingSum, [_FLOAT, _INT]),
    COUNTER_STEP: (CounterStep, [_FLOAT, TIME_TYPE]),
}
# what users write between the brackets
FORMS = {
    "ts_bucket": "ts, step",
    "align_time": "ts, step, origin",
    "shift_ts": "ts, by",
    "bucket_rate": "current, previous, seconds",
    "clamp": "value, lo, hi",
    "null_if_outside": "value, lo, hi",
    **dict.fromkeys(("series_add", "series_sub", "series_mul", "series_div"), "a, b"),
    "diff": "value",
    "pct_change": "value",
    "rolling_mean": "value, n",
    "rolling_sum": "value, n",
}
NAMES = frozenset(FORMS)
# those whose arguments are whole numbers
WHOLE = frozenset(("ts_bucket", "align_time", "shift_ts"))


@cache
def _functions() -> tuple[list[ScalarUDF], list[WindowUDF]]:
    scalars = [udf(run, [kind] * count, kind, "immutable", name) for name, (run, count, kind) in _SCALARS.items()]
    windows = [udwf(make, kinds, _FLOAT, "immutable", name) for name, (make, kinds) in _WINDOWS.items()]
    return scalars, windows


def add_to(context: SessionContext) -> None:
    """Make the functions known to a context, for as long as it lives."""
    scalars, windows = _functions()
    for scalar in scalars:
        context.register_udf(scalar)
    for window in windows:
        context.register_udwf(window)
