"""Lines sorted by what fields they have: names found by comparing bytes, columns converted type by type."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.wire.influx.values import Bools, Places, begin_with, count_of, kinds_of, pieces, typed

# sets of fields that are looked for in one body, and lines that are looked at for it, beside 16 times every line; the
# lines of any further set are read one by one
_SHAPES = 256
_LOOKS = 1_000_000

Ints = np.ndarray[Any, np.dtype[np.int64]]


class Fields:
    """The part of each line that holds its fields, by where it begins and ends."""

    def __init__(self, buffer: pa.Buffer, begins: Ints, ends: Ints) -> None:
        self._buffer, self._begins, self._ends = buffer, begins, ends

    def __len__(self) -> int:
        return len(self._begins)

    def text(self, row: int) -> bytes:
        return bytes(self._buffer[int(self._begins[row]) : int(self._ends[row])])

    @cached_property
    def _texts(self) -> pa.Array:
        return pieces(self._buffer, self._begins, self._ends)

    @cached_property
    def _commas(self) -> Ints:
        return np.asarray(count_of(self._texts, ","))

    def columns(self, rows: Ints, keys: dict[str, bytes]) -> tuple[Ints, dict[str, pa.Array]]:
        """Those of the rows that have exactly these field names, and their values as texts."""
        whole = len(rows) == len(self)
        if len(keys) == 1:
            begins, ends = (self._begins, self._ends) if whole else (self._begins[rows], self._ends[rows])
            columns, same = _columns(self._buffer, begins[:, None], ends[:, None], keys)
            rows = rows if same.all() else rows[same]
            # what follows a comma is another field
            (name, values), *_ = columns.items()
            more = count_of(values, ",") > 0
            return (rows[~more], {name: values.filter(pa.array(~more))}) if more.any() else (rows, columns)
        rows = rows[self._commas[rows] == len(keys) - 1]
        parts = pc.split_pattern(self._texts if len(rows) == len(self) else self._texts.take(pa.array(rows)), ",")
        offsets = np.frombuffer(parts.values.buffers()[1], np.int32)[: len(parts.values) + 1]
        shape = (-1, len(keys))
        columns, same = _columns(
            parts.values.buffers()[2], offsets[:-1].reshape(shape), offsets[1:].reshape(shape), keys
        )
        return rows if same.all() else rows[same], columns


def shapes(fields: Fields) -> Iterator[tuple[Ints, dict[str, pa.Array], Bools]]:
    """Rows with equal field names and types: their places, their columns, and which of them are good.

    Without columns, the rows are to be read one by one.
    """
    left = np.arange(len(fields))
    looks = _LOOKS + 16 * len(fields)
    for _ in range(_SHAPES):
        looks -= len(left)
        if not len(left) or looks < 0:
            break
        keys = _keys(fields.text(int(left[0])))
        if keys is None:
            yield left[:1], {}, np.zeros(1, np.bool_)
            left = left[1:]
            continue
        # the first row is among them
        picked, columns = fields.columns(left, keys)
        left = np.setdiff1d(left, picked, assume_unique=True) if len(picked) < len(left) else left[:0]
        yield from _by_type(picked, columns)
    if len(left):
        yield left, {}, np.zeros(len(left), np.bool_)


def _keys(text: bytes) -> dict[str, bytes] | None:
    """Field names of `a=1,b=2` with the bytes that begin each field; None where one has no value, is none or is there twice."""
    pairs = [piece.partition(b"=") for piece in text.split(b",")]
    try:
        keys = {key.decode(): key + equals for key, equals, value in pairs if value and 0 < len(key) <= 255}
    except UnicodeDecodeError:
        return None
    return None if len(keys) < len(pairs) or "__name__" in keys or "\0" in text.decode("latin-1") else keys


def _columns(
    data: pa.Buffer, begins: Places, ends: Places, keys: dict[str, bytes]
) -> tuple[dict[str, pa.Array], Bools]:
    """Texts of the values of fields (rows × fields) whose names are these, and the rows where all names are."""
    same = np.ones(len(begins), np.bool_)
    view = np.frombuffer(data, np.uint8)
    for place, key in enumerate(keys.values()):
        long = begins[:, place] + len(key) < ends[:, place]
        same &= long
        at = begins[:, place] if long.all() else np.where(long, begins[:, place], 0)
        same &= begin_with(view, at, key)
    if not same.all():
        begins, ends = begins[same], ends[same]
    columns = {
        name: pieces(data, begins[:, place] + len(key), ends[:, place])
        for place, (name, key) in enumerate(keys.items())
    }
    return columns, same


def _by_type(picked: Ints, columns: dict[str, pa.Array]) -> Iterator[tuple[Ints, dict[str, pa.Array], Bools]]:
    kinds = np.stack([kinds_of(column) for column in columns.values()])
    if (kinds == kinds[:, :1]).all():
        yield picked, *typed(columns, kinds[:, 0])
        return
    distinct, which = np.unique(kinds, axis=1, return_inverse=True)
    for place in range(distinct.shape[1]):
        rows = np.flatnonzero(which.reshape(-1) == place)
        some = {name: column.take(pa.array(rows)) for name, column in columns.items()}
        yield picked[rows], *typed(some, distinct[:, place])
