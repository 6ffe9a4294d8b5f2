"""Values and times as Prometheus' JSON writes them: one by one where they are few, otherwise by columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.promql.result import number

# the four digits of each number below 10,000, as one uint32
_FOUR = np.array([f"{each:04d}" for each in range(10_000)], "S4").view(np.uint32)

# bytes of a text or of each of n, [n, k], and which of them are there: all, those of some of the n, or [n, k]
_Piece = tuple[Any, Any]


def shown(value: float) -> str:
    """One value as `numbers` has it."""
    size = abs(value)
    if 1e-4 <= size < 1e16 or not size:
        return repr(value).removesuffix(".0")
    if 1e-6 <= size < 1e21 or not math.isfinite(value):
        return number(value)
    return repr(value)


def numbers(values: Any) -> pa.Array:
    """Large strings of float64: the shortest text that reads back the same; an exponent below 1e-6 and from 1e21 on."""
    sizes = np.abs(values)
    # below 2^53 the digits of an integer are the shortest text, too, and quicker made
    with np.errstate(invalid="ignore"):  # NaN may be a signalling one
        whole = (np.trunc(sizes) == sizes) & (sizes < 2.0**53) & ~((values == 0) & np.signbit(values))
    if not whole.any():
        return _others(values, sizes)
    counts = _counts(values[whole].astype(np.int64))
    if whole.all():
        return counts
    order = np.empty(len(values), np.int64)
    order[whole], order[~whole] = np.arange(len(counts)), np.arange(len(counts), len(values))
    return pa.concat_arrays([counts, _others(values[~whole], sizes[~whole])]).take(pa.array(order))


def _others(values: Any, sizes: Any) -> pa.Array:
    texts = pc.cast(pa.array(values, pa.float64()), pa.string())
    # Arrow writes exponents from 1e10 on, with as many digits as they have, and has other words for what is no number
    plain = (sizes < 1e10) & ((sizes >= 1e-6) | (sizes == 0))
    if plain.all():
        return texts.cast(pa.large_string())
    small, large = (sizes < 1e-6) & ~plain, (sizes >= 1e10) & (sizes < 1e21)
    texts = _replaced(texts, small, lambda some: pc.replace_substring_regex(some, r"e-(\d)$", r"e-0\1"))
    texts = _replaced(texts, large, _positional)
    for word, where in (("NaN", np.isnan(values)), ("+Inf", values == np.inf), ("-Inf", values == -np.inf)):
        if where.any():
            texts = pc.if_else(pa.array(where), word, texts)
    return texts.cast(pa.large_string())


def _replaced(texts: pa.Array, where: Any, change: Callable[[pa.Array], pa.Array]) -> pa.Array:
    places = np.flatnonzero(where)
    return pc.replace_with_mask(texts, pa.array(where), change(texts.take(pa.array(places)))) if len(places) else texts


def _positional(texts: pa.Array) -> pa.Array:
    """`-1.25e+17` as `-125000000000000000`, of exponents from 10 to 20; others stay."""
    parts = pc.extract_regex(texts, r"^(?P<sign>-?)(?P<first>\d)\.?(?P<rest>\d*)e\+(?P<power>\d+)$")
    sign, first, rest, power = (parts.field(name) for name in ("sign", "first", "rest", "power"))
    digits = pc.binary_join_element_wise(first, rest, "")
    found = texts
    for places in range(10, 21):
        whole = pc.utf8_rpad(pc.utf8_slice_codeunits(digits, 0, places + 1), places + 1, "0")
        fraction = pc.utf8_slice_codeunits(digits, places + 1)
        point = pc.if_else(pc.equal(fraction, ""), "", ".")
        text = pc.binary_join_element_wise(sign, whole, point, fraction, "")
        found = pc.if_else(pc.fill_null(pc.equal(power, str(places)), False), text, found)
    return found


def second(micros: int) -> str:
    """µs as seconds with three digits of fraction, six where they are needed, none where it is zero."""
    whole, rest = divmod(abs(micros), 10**6)
    fraction = "" if not rest else f".{rest // 1000:03d}" if rest % 1000 == 0 else f".{rest:06d}"
    return f"{'-' if micros < 0 else ''}{whole}{fraction}"


def seconds(times: Any, before: str = "", after: str = "") -> pa.Array:
    """Large strings of int64 µs, each as `second` has it and between two texts."""
    sizes = np.abs(times)
    whole, rest = _divided(sizes, 10**6)
    pieces = [_constant(before), (_constant("-")[0], times < 0), _digits(whole)]
    if rest.any():
        thousandths, last = _divided(rest, 1000)
        pieces += [(_constant(".")[0], rest != 0), (_digits(thousandths + 1000)[0][:, 1:], rest != 0)]
        if last.any():
            pieces.append((_digits(last + 1000)[0][:, 1:], last != 0))
    pieces.append(_constant(after))
    return _laid(len(times), pieces)


def _counts(values: Any) -> pa.Array:
    """Large strings of int64."""
    return _laid(len(values), [(_constant("-")[0], values < 0), _digits(np.abs(values))])


def _constant(text: str) -> _Piece:
    return np.frombuffer(text.encode(), np.uint8)[None, :], True


def _digits(counts: Any) -> _Piece:
    """Digits of int64 from 0 on; there are no zeros before the first."""
    most = counts.max(initial=0)
    width, least = len(str(most)), len(str(counts.min(initial=most)))
    fours = np.empty((len(counts), -(-width // 4)), np.uint32)
    rest = counts
    for place in range(fours.shape[1] - 1, 0, -1):
        rest, four = _divided(rest, 10_000)
        fours[:, place] = _FOUR[four]
    fours[:, 0] = _FOUR[rest]
    digits = fours.view(np.uint8)[:, -width:]
    if least == width:
        return digits, True
    return digits, counts[:, None] >= np.array([*(10**place for place in range(width - 1, 0, -1)), 0])


def _divided(counts: Any, by: int) -> tuple[Any, Any]:
    """Quotients and remainders; NumPy divides by one number several times as fast as it finds what is left."""
    quotients = counts // by
    return quotients, counts - quotients * by


def _laid(count: int, pieces: Sequence[_Piece]) -> pa.Array:
    """Large strings, each of the pieces that are there for it, side by side."""
    some = [(data, there) for data, there in pieces if data.size and np.any(there)]
    width = sum(data.shape[1] for data, _ in some)
    row = np.empty((count, width), np.uint8)
    kept = None if all(np.all(there) for _, there in some) else np.empty((count, width), np.bool_)
    low = 0
    for data, there in some:
        row[:, low : low + data.shape[1]] = data
        if kept is not None:
            kept[:, low : low + data.shape[1]] = there[:, None] if np.ndim(there) == 1 else there
        low += data.shape[1]
    offsets = np.zeros(count + 1, np.int64)
    np.cumsum(np.full(count, width) if kept is None else kept.sum(axis=1), out=offsets[1:])
    laid = row if kept is None else row[kept]
    return pa.LargeStringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(laid))
