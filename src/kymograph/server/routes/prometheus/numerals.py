"""Values and times as Prometheus' JSON writes them, made in Arrow by columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def numbers(values: Any) -> pa.Array:
    """float64 as the shortest text that reads back the same; an exponent below 1e-6 and from 1e21 on."""
    sizes = np.abs(values)
    # below 2^53 the digits of an integer are the shortest text, too, and quicker made
    with np.errstate(invalid="ignore"):  # NaN may be a signalling one
        whole = (np.trunc(sizes) == sizes) & (sizes < 2.0**53) & ~((values == 0) & np.signbit(values))
    if not whole.any():
        return _others(values, sizes)
    counts = pc.cast(pa.array(values[whole].astype(np.int64)), pa.string())
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
        return texts
    small, large = (sizes < 1e-6) & ~plain, (sizes >= 1e10) & (sizes < 1e21)
    texts = _replaced(texts, small, lambda some: pc.replace_substring_regex(some, r"e-(\d)$", r"e-0\1"))
    texts = _replaced(texts, large, _positional)
    for word, where in (("NaN", np.isnan(values)), ("+Inf", values == np.inf), ("-Inf", values == -np.inf)):
        if where.any():
            texts = pc.if_else(pa.array(where), word, texts)
    return texts


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


def seconds(times: Any) -> pa.Array:
    """The same of int64 µs."""
    if len(times) == 1:  # as in every instant answer; ten calls of Arrow would take longer than the rest of a short one
        return pa.array([second(int(times[0]))])
    sizes = np.abs(times)
    rest = sizes % 10**6
    digits = pc.utf8_lpad(pc.cast(pa.array(sizes, pa.int64()), pa.string()), 7, "0")
    texts = pc.utf8_slice_codeunits(digits, 0, -6)
    for where, last in ((rest % 1000 != 0, None), ((rest % 1000 == 0) & (rest != 0), -3)):
        if where.any():
            fraction = pc.utf8_slice_codeunits(digits, -6, last)
            texts = pc.if_else(pa.array(where), pc.binary_join_element_wise(texts, fraction, "."), texts)
    negative = times < 0
    return (
        pc.if_else(pa.array(negative), pc.binary_join_element_wise("-", texts, ""), texts) if negative.any() else texts
    )
