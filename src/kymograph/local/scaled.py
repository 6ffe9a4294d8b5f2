"""Values of scalar series as small integers: how blocks of `samples` hold float64 (docs/format/block.md).

Most measured values are decimals with few digits, multiples of a page or a tick, or counters. Per series the values are
    (base + factor * number) / divisor
with int64 numbers that move little and compress well. A value for which that does not give the very same 64 bits (NaN
with its payload, an infinity, -0.0, noise of 53 bits) stays a float64 beside it. What was chosen is checked value by value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from kymograph.local.encoding import DICTIONARY
from kymograph.local.rows import Bools, Ints
from kymograph.model.schema import SERIES_ID
from kymograph.model.time import TIME, TIME_TYPE

VALUE, NUMBER, BASE, FACTOR, DIVISOR = "value", "number", "base", "factor", "divisor"
PARTS = (NUMBER, BASE, FACTOR, DIVISOR, VALUE)
STORED = pa.schema(
    [
        pa.field(TIME, TIME_TYPE, nullable=False),
        pa.field(SERIES_ID, pa.int64()),
        pa.field(NUMBER, pa.int64()),
        pa.field(BASE, pa.int64(), nullable=False),
        pa.field(FACTOR, pa.int64(), nullable=False),
        pa.field(DIVISOR, pa.float64(), nullable=False),
        pa.field(VALUE, pa.float64()),
    ]
)
ENCODINGS = {
    SERIES_ID: "DELTA_BINARY_PACKED",
    NUMBER: "DELTA_BINARY_PACKED",
    **dict.fromkeys((BASE, FACTOR, DIVISOR), DICTIONARY),
    VALUE: "BYTE_STREAM_SPLIT",
}

Floats = np.ndarray[Any, np.dtype[np.float64]]
_EXACT = 2.0**53  # integers up to here are float64 without a gap, and quotients of two of them are rounded once
_DIVISORS = 10.0 ** np.arange(16)
_NEGATIVE_ZERO = np.float64(-0.0).view(np.int64)
_PROBES = 8  # values of a series on which a divisor is tried before all of them are
_NOISE = 44.0  # mean bits of a step above which a binary scale saves nothing over the float itself
_FAR = 2.0**60


@dataclass(frozen=True)
class Scaled:
    """Values of S series as numbers.

    Attributes:
        numbers: int64 of shape (rows,); meaningless where not `fits`.
        fits: which rows the formula gives back to the bit.
        base, factor: int64 of shape (S,). divisor: float64 of shape (S,).
    """

    numbers: Ints
    fits: Bools
    base: Ints
    factor: Ints
    divisor: Floats


def unscaled(numbers: Ints, base: Ints, factor: Ints, divisor: Floats) -> Floats:
    """The values, element by element; what `scale` has checked its choice with."""
    found: Floats = (base + factor * numbers) / divisor
    return found


def scale(values: Floats, there: Bools, offsets: Ints) -> Scaled:
    """Choose base, factor and divisor of each series.

    Args:
        values: float64 of all series, one after the other.
        there: which of them are there (not null).
        offsets: int64 of shape (S + 1,), strictly ascending; series i is [offsets[i], offsets[i + 1]).
    """
    plain = there & np.isfinite(values) & (values.view(np.int64) != _NEGATIVE_ZERO)
    with np.errstate(all="ignore"):
        mantissas, divisor, chosen = _decimal(values, plain, offsets)
        _binary(values, plain, offsets, mantissas, divisor, chosen)
        sizes = np.diff(offsets)
        fits = plain & np.repeat(chosen, sizes)
        numbers, base, factor = _narrowed(mantissas, fits, offsets)
        back = unscaled(numbers, np.repeat(base, sizes), np.repeat(factor, sizes), np.repeat(divisor, sizes))
        fits &= back.view(np.int64) == values.view(np.int64)
    return Scaled(numbers, fits, base, factor, divisor)


def _decimal(values: Floats, plain: Bools, offsets: Ints) -> tuple[Ints, Floats, Bools]:
    """Per row the integer mantissa, per series the least power of ten that makes all its plain values integers."""
    count = len(offsets) - 1
    mantissas, divisor, chosen = np.zeros(len(values), np.int64), np.ones(count), np.zeros(count, np.bool_)
    low, sizes = offsets[:-1], np.diff(offsets)
    probes = low[:, None] + (sizes[:, None] - 1) * np.arange(_PROBES) // (_PROBES - 1)
    probed = np.where(plain[probes], values[probes], 0.0)
    for power in _DIVISORS:
        open_ = np.flatnonzero(~chosen)
        likely = open_[_integral(probed[open_], power).all(axis=1)]
        if not len(likely):
            continue
        rows = _rows(low[likely], sizes[likely])
        one = np.where(plain[rows], values[rows], 0.0)
        starts = np.cumsum(sizes[likely]) - sizes[likely]
        good = np.logical_and.reduceat(_integral(one, power), starts)
        kept = np.repeat(good, sizes[likely])
        mantissas[rows[kept]] = np.rint(one[kept] * power).astype(np.int64)
        divisor[likely[good]], chosen[likely[good]] = power, True
        if chosen.all():
            break
    return mantissas, divisor, chosen


def _integral(values: Floats, power: float) -> Bools:
    mantissas = np.rint(values * power)
    found: Bools = (np.abs(mantissas) <= _EXACT) & (mantissas / power == values)
    return found


def _rows(low: Ints, sizes: Ints) -> Ints:
    ends = np.cumsum(sizes)
    return np.repeat(low - (ends - sizes), sizes) + np.arange(ends[-1])


def _binary(values: Floats, plain: Bools, offsets: Ints, mantissas: Ints, divisor: Floats, chosen: Bools) -> None:
    """For the series left: a power of two as divisor, where the values need few bits or move by few."""
    left = np.flatnonzero(~chosen)
    if not len(left):
        return
    sizes = np.diff(offsets)[left]
    rows = _rows(offsets[:-1][left], sizes)
    starts = np.cumsum(sizes) - sizes
    numbers = np.where(plain[rows], values[rows], 0.0)
    fractions, exponents = np.frexp(numbers)
    wide = (fractions * _EXACT).astype(np.int64)
    trailing = np.frexp((wide & -wide).astype(np.float64))[1] - 1
    lowest = np.where(wide == 0, 2000, exponents - 53 + trailing)
    highest = np.where(wide == 0, -2000, exponents)
    low = np.minimum.reduceat(lowest, starts)
    high = np.maximum.reduceat(highest, starts)
    able = (high - low <= 53) & (np.abs(low) <= 1000)
    power = np.ldexp(1.0, -np.where(able, low, 0).astype(np.int32))
    scaled = np.where(np.repeat(able, sizes), numbers * np.repeat(power, sizes), 0.0).astype(np.int64)
    steps = np.log2(np.abs(np.diff(scaled, prepend=scaled[:1])) + 1.0)
    steps[starts] = 0.0
    good = able & (np.add.reduceat(steps, starts) / np.maximum(sizes - 1, 1) < _NOISE)
    kept = np.repeat(good, sizes)
    mantissas[rows[kept]] = scaled[kept]
    divisor[left[good]], chosen[left[good]] = power[good], True


def _narrowed(mantissas: Ints, fits: Bools, offsets: Ints) -> tuple[Ints, Ints, Ints]:
    """Numbers, base and factor of mantissas: steps in units of their common divisor, and each series begins with the
    number the one before ended with, because DELTA_BINARY_PACKED pays for every jump."""
    low, sizes = offsets[:-1], np.diff(offsets)
    place = np.arange(len(mantissas))
    first = np.minimum.reduceat(np.where(fits, place, len(mantissas)), low)
    last = np.maximum.reduceat(np.where(fits, place, -1), low)
    some = last >= 0
    first, last = np.where(some, first, low), np.where(some, last, low)
    base = mantissas[first]
    steps = np.where(fits, mantissas - np.repeat(base, sizes), 0)
    factor = np.ones(len(base), np.int64)
    probes = low[:, None] + (sizes[:, None] - 1) * np.arange(_PROBES) // (_PROBES - 1)
    likely = np.flatnonzero(np.gcd.reduce(steps[probes], axis=1) != 1)
    if len(likely):
        rows = _rows(low[likely], sizes[likely])
        factor[likely] = np.maximum(np.gcd.reduceat(steps[rows], np.cumsum(sizes[likely]) - sizes[likely]), 1)
        steps[rows] //= np.repeat(factor[likely], sizes[likely])
    start = np.cumsum(steps[last]) - steps[last]
    start = np.where(np.abs(start * factor.astype(np.float64)) < _FAR, start, 0)
    return steps + np.repeat(start, sizes), base - factor * start, factor


def stored(data: pa.Table) -> pa.Table:
    """Sorted rows of `samples` (time, series_id, value) in the columns of a block."""
    ids = data.column(SERIES_ID).combine_chunks()
    series = ids.fill_null(-1).to_numpy()
    offsets = np.concatenate(([0], np.flatnonzero(series[1:] != series[:-1]) + 1, [len(series)]))
    values = data.column(VALUE).combine_chunks()
    there = values.is_valid().to_numpy(zero_copy_only=False)
    found = scale(values.fill_null(0.0).to_numpy(), there, offsets)
    sizes = np.diff(offsets)
    return pa.Table.from_arrays(
        [
            data.column(TIME),
            ids,
            pa.array(found.numbers, mask=~found.fits),
            *(pa.array(np.repeat(one, sizes)) for one in (found.base, found.factor, found.divisor)),
            _masked(values, found.fits | ~there),
        ],
        schema=STORED,
    )


def _masked(values: pa.Array, hidden: Bools) -> pa.Array:
    """`values`, null where hidden; the bits of the others untouched."""
    if hidden.all():
        return pa.nulls(len(values), values.type)
    return pa.array(values.fill_null(0.0).to_numpy(), mask=hidden, from_pandas=False)


def restored(parts: pa.Table | pa.RecordBatch) -> pa.Array:
    """The values of rows in the columns `PARTS`, null where they were null."""
    number, base, factor, divisor, value = (_flat(parts.column(name)) for name in PARTS)
    if value.null_count == len(value) and not number.null_count:
        return pa.array(unscaled(number.to_numpy(), base.to_numpy(), factor.to_numpy(), divisor.to_numpy()))
    numbers = number.fill_null(0).to_numpy()
    found = unscaled(numbers, base.to_numpy(), factor.to_numpy(), divisor.to_numpy())
    scaled = number.is_valid().to_numpy(zero_copy_only=False)
    # chosen as integers, so that no payload of a NaN is touched on the way
    bits = np.where(scaled, found.view(np.int64), value.fill_null(0.0).to_numpy().view(np.int64))
    missing = ~scaled & value.is_null().to_numpy(zero_copy_only=False)
    return pa.array(bits.view(np.float64), mask=missing if missing.any() else None, from_pandas=False)


def _flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column
