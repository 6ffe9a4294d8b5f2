"""Float64 values as small integers, exactly: the arithmetic behind blocks of `samples` (docs/format/block.md).

Most measured values are decimals with few digits, multiples of a page or a tick, or counters. The values of a series are
mantissas over one divisor, and mantissas are kept as what is left of them when the least one or the one before is taken
away: small numbers, which compress well. A value that does not come back from that with the very same 64
bits (NaN with its payload, an infinity, -0.0, noise of 53 bits) does not take part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kymograph.local.rows import Bools, Ints

Floats = np.ndarray[Any, np.dtype[np.float64]]
Orders = np.ndarray[Any, np.dtype[np.int8]]
_EXACT = 2.0**53  # integers up to here are float64 without a gap, and quotients of two of them are rounded once
_POWERS = 10.0 ** np.arange(16)
_NEGATIVE_ZERO = np.float64(-0.0).view(np.int64)
_PROBES = 8  # values of a series on which a divisor is tried before all of them are
_NOISE = 44.0  # mean bits of a step above which a binary scale saves nothing over the float itself


@dataclass(frozen=True)
class Scaled:
    """Values of S series as numbers.

    Attributes:
        numbers: int64 of shape (rows,), none negative; 0 where a row does not take part.
        order: int8 of shape (S,): numbers are distances from the base (0) or steps from one to the next (1).
        base, factor: int64 of shape (S,).
        divisor: float64 of shape (S,).
    """

    numbers: Ints
    order: Orders
    base: Ints
    factor: Ints
    divisor: Floats


def unscaled(found: Scaled, offsets: Ints) -> Floats:
    """The values, float64 of shape (rows,); anything where a row does not take part."""
    starts, sizes = offsets[:-1], np.diff(offsets)
    mantissas = found.numbers >> 1
    signs = found.numbers & 1
    np.negative(signs, out=signs)
    mantissas ^= signs
    # sums over all series at once; each begins with what takes the sum of the one before away
    totals = np.add.reduceat(mantissas, starts)
    mantissas[starts[1:]] -= totals[:-1]
    np.cumsum(mantissas, out=mantissas)
    if (found.order == 0).any():
        np.copyto(mantissas, found.numbers, where=np.repeat(found.order == 0, sizes))
    if (found.factor != 1).any():
        mantissas *= np.repeat(found.factor, sizes)
    mantissas += np.repeat(found.base, sizes)
    values: Floats = mantissas.astype(np.float64)
    if (found.divisor != 1).any():
        values /= np.repeat(found.divisor, sizes)
    return values


def scale(values: Floats, there: Bools, offsets: Ints) -> tuple[Scaled, Bools]:
    """Choose order, base, factor and divisor of each series. Also returns which rows take part: come back to the bit.

    Args:
        values: float64 of all series, one after the other.
        there: which of them are there (not null).
        offsets: int64 of shape (S + 1,), strictly ascending; series i is [offsets[i], offsets[i + 1]).
    """
    plain = there & np.isfinite(values) & (values.view(np.int64) != _NEGATIVE_ZERO)
    with np.errstate(all="ignore"):
        numbers, divisor, chosen = _decimal(values, plain, offsets)
        _binary(values, plain, offsets, numbers, divisor, chosen)
        fits = plain & np.repeat(chosen, np.diff(offsets))
        order, base, factor = _narrow(numbers, fits, offsets)
        found = Scaled(numbers, order, base, factor, divisor)
        wrong = fits & (unscaled(found, offsets).view(np.int64) != values.view(np.int64))
    if wrong.any():  # it cannot be, but what is written here is the only copy
        fits &= ~np.repeat(np.logical_or.reduceat(wrong, offsets[:-1]), np.diff(offsets))
    return found, fits


def _rows(low: Ints, sizes: Ints, series: Ints) -> Ints | slice:
    """Positions of the rows of some series."""
    if len(series) == len(low):
        return slice(None)
    low, sizes = low[series], sizes[series]
    ends = np.cumsum(sizes)
    return np.repeat(low - (ends - sizes), sizes) + np.arange(ends[-1])


def _starts(sizes: Ints) -> Ints:
    return np.cumsum(sizes) - sizes


def _decimal(values: Floats, plain: Bools, offsets: Ints) -> tuple[Ints, Floats, Bools]:
    """Per row the mantissa; per series the least power of ten that makes integers of its plain values, if one does."""
    low, sizes = offsets[:-1], np.diff(offsets)
    mantissas, divisor, chosen = np.zeros(len(values), np.int64), np.ones(len(low)), np.zeros(len(low), np.bool_)
    probes = low[:, None] + (sizes[:, None] - 1) * np.arange(_PROBES) // (_PROBES - 1)
    probed = np.where(plain[probes], values[probes], 0.0)
    for power in _POWERS:
        left = np.flatnonzero(~chosen)
        likely = left[_integral(probed[left], power).all(axis=1)]
        if not len(likely):
            continue
        rows = _rows(low, sizes, likely)
        one = np.where(plain[rows], values[rows], 0.0)
        good = np.logical_and.reduceat(_integral(one, power), _starts(sizes[likely]))
        kept = np.repeat(good, sizes[likely])
        where = np.flatnonzero(kept) if isinstance(rows, slice) else rows[kept]
        mantissas[where] = np.rint(one[kept] * power).astype(np.int64)
        divisor[likely[good]], chosen[likely[good]] = power, True
        if chosen.all():
            break
    return mantissas, divisor, chosen


def _integral(values: Floats, power: float) -> Bools:
    mantissas = np.rint(values * power)
    found: Bools = (np.abs(mantissas) <= _EXACT) & (mantissas / power == values)
    return found


def _binary(values: Floats, plain: Bools, offsets: Ints, mantissas: Ints, divisor: Floats, chosen: Bools) -> None:
    """For the series left: a power of two as divisor, where the values need few bits or move by few."""
    left = np.flatnonzero(~chosen)
    if not len(left):
        return
    sizes = np.diff(offsets)[left]
    rows, starts = _rows(offsets[:-1], np.diff(offsets), left), _starts(sizes)
    numbers = np.where(plain[rows], values[rows], 0.0)
    fractions, exponents = np.frexp(numbers)
    wide = (fractions * _EXACT).astype(np.int64)
    trailing = np.frexp((wide & -wide).astype(np.float64))[1] - 1
    lowest = np.minimum.reduceat(np.where(wide == 0, 2000, exponents - 53 + trailing), starts)
    highest = np.maximum.reduceat(np.where(wide == 0, -2000, exponents), starts)
    able = (highest - lowest <= 53) & (np.abs(lowest) <= 1000)
    power = np.ldexp(1.0, -np.where(able, lowest, 0).astype(np.int32))
    scaled = np.where(np.repeat(able, sizes), numbers * np.repeat(power, sizes), 0.0).astype(np.int64)
    steps = np.log2(np.abs(np.diff(scaled, prepend=scaled[:1])) + 1.0)
    steps[starts] = 0.0
    good = able & (np.add.reduceat(steps, starts) / np.maximum(sizes - 1, 1) < _NOISE)
    kept = np.repeat(good, sizes)
    where = np.flatnonzero(kept) if isinstance(rows, slice) else rows[kept]
    mantissas[where] = scaled[kept]
    divisor[left[good]], chosen[left[good]] = power[good], True


def _narrow(mantissas: Ints, fits: Bools, offsets: Ints) -> tuple[Orders, Ints, Ints]:
    """Order, base and factor of each series; `mantissas` become numbers in place."""
    low, sizes = offsets[:-1], np.diff(offsets)
    whole = np.logical_and.reduceat(fits, low)
    if not whole.all():
        _fill(mantissas, fits, low, sizes)
    base, factor = mantissas[low], np.ones(len(low), np.int64)
    order = np.ones(len(low), np.int8)
    mantissas -= np.repeat(base, sizes)
    moving = np.flatnonzero(np.logical_or.reduceat(mantissas != 0, low))
    if not len(moving):
        return order, base, factor
    rows, sizes = _rows(low, sizes, moving), sizes[moving]
    starts, numbers = _starts(sizes), mantissas[rows]
    factor[moving] = _factors(numbers, starts, sizes)
    if (factor != 1).any():
        numbers //= np.repeat(factor[moving], sizes)
    least = np.minimum.reduceat(numbers, starts)
    steps = np.diff(numbers, prepend=0)
    steps[starts] = 0
    forms = [numbers - np.repeat(least, sizes), (steps << 1) ^ (steps >> 63)]  # 0, -1, 1, -2 … as 0, 1, 2, 3 …
    # bits in all, by the exponents of floats
    costs = [np.add.reduceat((np.abs(one) + 1.0).view(np.int64) >> 52, starts) for one in (numbers, steps)]
    order[moving] = costs[1] <= costs[0]
    base[moving] += np.where(order[moving] == 0, factor[moving] * least, 0)
    mantissas[rows] = np.where(np.repeat(order[moving] == 1, sizes), forms[1], forms[0])
    mantissas[~fits] = 0
    return order, base, factor


def _fill(mantissas: Ints, fits: Bools, low: Ints, sizes: Ints) -> None:
    """Where there is no mantissa the one before stands, or the first one of the series."""
    place = np.arange(len(fits))
    first = np.minimum.reduceat(np.where(fits, place, len(fits)), low)
    first = np.where(first == len(fits), low, first)
    known = np.maximum.accumulate(np.where(fits, place, -1))
    mantissas[:] = mantissas[np.maximum(known, np.repeat(first, sizes))]


def _factors(numbers: Ints, starts: Ints, sizes: Ints) -> Ints:
    """The greatest common divisor of each series' numbers, some of which are not 0."""
    probes = starts[:, None] + (sizes[:, None] - 1) * np.arange(_PROBES) // (_PROBES - 1)
    found: Ints = np.gcd.reduce(numbers[probes], axis=1)
    likely = np.flatnonzero(found != 1)
    if len(likely):
        found[likely] = np.gcd.reduceat(numbers[_rows(starts, sizes, likely)], _starts(sizes[likely]))
    return found
