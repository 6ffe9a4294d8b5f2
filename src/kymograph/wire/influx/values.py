"""Pieces of a body as Arrow texts, and texts as the values of line protocol, a column at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.wire.influx.line import FALSE, TRUE
from kymograph.wire.words import view_of, words

# what a value is by its last character: a float, an integer, an unsigned one, something else
_KINDS = np.full(256, 3, np.int8)
_KINDS[list(b"0123456789.")] = 0
_KINDS[ord("i")] = 1
_KINDS[ord("u")] = 2
_FLOAT_TEXT = r"^-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_INTEGER_TEXT = r"^-?[0-9]+$"
_TRUTHS = pa.array([text.decode() for text in sorted(TRUE | FALSE)])
_TRUE = np.array([text in TRUE for text in sorted(TRUE | FALSE)])

Places = np.ndarray[Any, np.dtype[Any]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Ints = np.ndarray[Any, np.dtype[np.int64]]


def pieces(buffer: pa.Buffer, starts: Places, ends: Places) -> pa.Array:
    """The bytes between ascending places that do not overlap, as texts.

    Nothing checks here that they are UTF-8: they are only compared, hashed, and read as numbers.
    """
    if not len(starts):
        return pa.array([], pa.string())
    places = np.empty(2 * len(starts), np.int32)
    places[::2], places[1::2] = starts, ends
    # every second one is what lies between two of them
    both = pa.Array.from_buffers(pa.string(), len(places) - 1, [None, pa.py_buffer(places), buffer])
    return both.take(pa.array(np.arange(0, len(places) - 1, 2, dtype=np.int32)))


def begin_with(data: Any, places: Places, key: bytes) -> Bools:
    """Where the bytes from a place on are a key."""
    same = np.ones(len(places), np.bool_)
    if len(places) and int(places.max()) + len(key) + 8 <= len(data):
        view = view_of(data)
        for at in range(0, len(key), 8):
            part = key[at : at + 8]
            mask = np.uint64(2 ** (8 * len(part)) - 1)
            same &= (words(view, places + at) & mask) == np.uint64(int.from_bytes(part, "little"))
        return same
    for at, byte in enumerate(key):
        same &= data[places + at] == byte
    return same


def runs(data: Any, begins: Places, ends: Places) -> Ints | None:
    """Where each run of equal texts begins; None where texts are short, not all as long, or mostly differ.

    Args:
        begins, ends: of each text, at least one.
    """
    width = int(ends[0] - begins[0])
    if not 8 <= width <= 24 or not (ends - begins == width).all():
        return None
    new = np.ones(len(begins), np.bool_)
    new[1:] = False
    view = view_of(data)
    for places in (begins, begins + 8 if width > 16 else None, ends - 8):
        if places is not None:
            part = words(view, places)
            new[1:] |= part[1:] != part[:-1]
    heads = np.flatnonzero(new)
    return heads if 8 * len(heads) <= len(new) else None


def kinds_of(texts: pa.Array) -> np.ndarray[Any, np.dtype[np.int8]]:
    ends = np.frombuffer(texts.buffers()[1], np.int32)[1 : len(texts) + 1]
    return _KINDS[np.frombuffer(texts.buffers()[2], np.uint8)[ends - 1]]


def typed(columns: dict[str, pa.Array], kinds: Any) -> tuple[dict[str, pa.Array], Bools]:
    """Texts as values, and the rows where all of them could be read."""
    good = None
    values = {}
    for (name, texts), kind in zip(columns.items(), kinds.tolist(), strict=True):
        if kind == 0:
            values[name], fit = _floats(texts)
        elif kind == 3:
            values[name], fit = _truths(texts)
        else:
            values[name], fit = integers(_cut(texts), pa.int64() if kind == 1 else pa.uint64())
        good = fit if good is None else good & fit
    assert good is not None
    return values, good


def _bytes_of(texts: pa.Array) -> Any:
    """All characters of the texts, as uint8."""
    ends = np.frombuffer(texts.buffers()[1], np.int32)[: len(texts) + 1]
    return np.frombuffer(texts.buffers()[2], np.uint8)[ends[0] : ends[-1]]


def count_of(texts: pa.Array, character: str) -> Any:
    """How often a character is in each text."""
    if not (_bytes_of(texts) == ord(character)).any():
        return np.zeros(len(texts), np.int32)
    return pc.count_substring(texts, character).to_numpy()


def _cut(texts: pa.Array) -> pa.Array:
    """Without the last character."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[: len(texts) + 1]
    return pieces(texts.buffers()[2], offsets[:-1], offsets[1:] - 1)


def _floats(texts: pa.Array) -> tuple[pa.Array, Bools]:
    try:
        values = texts.cast(pa.float64())
        fit = np.isfinite(values.to_numpy())
    except pa.ArrowInvalid:
        fit = pc.match_substring_regex(texts, _FLOAT_TEXT).to_numpy(zero_copy_only=False)
        values = pc.if_else(pa.array(fit), texts, "0").cast(pa.float64())
        fit = fit & np.isfinite(values.to_numpy())
    return values, fit


def integers(texts: pa.Array, kind: pa.DataType) -> tuple[pa.Array, Bools]:
    fit = np.ones(len(texts), np.bool_)
    # Arrow would take 0x10 for sixteen; between and behind the texts there is nothing
    if len(texts) and bool((_bytes_of(texts) > ord("9")).any()):
        fit = pc.match_substring_regex(texts, _INTEGER_TEXT).to_numpy(zero_copy_only=False)
        texts = pc.if_else(pa.array(fit), texts, "0")
    try:
        return texts.cast(kind), fit
    except pa.ArrowInvalid:
        # 18 digits fit whatever they are; of longer ones only the careful reader knows
        short = pc.match_substring_regex(texts, r"^-?[0-9]{1,18}$" if kind == pa.int64() else r"^[0-9]{1,19}$")
        fit = fit & short.to_numpy(zero_copy_only=False)
        return pc.if_else(pa.array(fit), texts, "0").cast(kind), fit


def _truths(texts: pa.Array) -> tuple[pa.Array, Bools]:
    found = pc.index_in(texts, _TRUTHS)
    fit = found.is_valid().to_numpy(zero_copy_only=False)
    return pa.array(_TRUE[found.fill_null(0).to_numpy()]), fit
