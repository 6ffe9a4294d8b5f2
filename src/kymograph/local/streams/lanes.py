"""A lane is one column of numbers as bytes: differences, zigzag, byte planes, zstd (docs/format/stream.md).

Waveforms are smooth: the second differences of a mains voltage are hardly more than the noise of its converter, and the
byte planes of such numbers shrink to their entropy with zstd's Huffman stage alone, at memory speed.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kymograph.errors import Corrupt

Array = np.ndarray[Any, Any]

MAX_ORDER = 2
_LEVEL = 1
_RAW = 1 << 31
FOLD = 16
_SAMPLE = 1 << 14
# what another difference has to save, because it costs a pass when read
_GAIN = 0.97
# chunks after which the order is looked at again
_KEPT = 64


class Orders:
    """Which difference suits each lane, found by looking at a sample of it now and then.

    Threads may share it: what they overwrite of each other is only when to look again.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, int]] = {}

    def of(self, lane: int, values: Array) -> int:
        """How often to take differences of this lane's values."""
        order, left = self._known.get(lane, (0, 0))
        if left == 0:
            order, left = best_order(values), _KEPT
        self._known[lane] = (order, left - 1)
        return order


def best_order(values: Array) -> int:
    """The order of differences that makes a sample from the middle of the values shortest."""
    middle = max(0, (len(values) - _SAMPLE) // 2)
    sample = np.ascontiguousarray(values[middle : middle + _SAMPLE])
    order, best = 0, float(len(encode(sample, 0)))
    for candidate in range(1, MAX_ORDER + 1):
        size = len(encode(sample, candidate))
        if size < best * _GAIN:
            order, best = candidate, size
    return order


def encode(values: Array, order: int) -> bytes:
    """One lane; `values` of any number type and stride, at most 2**31 of them."""
    return encode_folded(*_folded(values), order)


def encode_folded(body: Array, tail: Array, order: int) -> bytes:
    """A lane of values that are folded already: `body` of shape [16, m], `tail` of less than 16."""
    dtype = tail.dtype
    body, tail = _bytes(body), _bytes(tail)
    order = min(order, body.size + len(tail))
    for _ in range(order):
        body, tail = _differences(body, tail)
    # the first of the differences are the values themselves, and would make wide what is narrow
    opening = body[:, 0] if body.shape[1] else tail
    seeds = opening[:order].tolist()
    if order:
        opening[:order] = 0
    numbers = np.concatenate([body.ravel(), tail]) if len(tail) else body.ravel()
    numbers = _zigzag(numbers, order, dtype)
    top = int(numbers.max()) if len(numbers) else 0
    width = (top.bit_length() + 7) // 8
    if numbers.itemsize > 2 and width <= 2:
        numbers = numbers.astype(np.uint16)
    planes = [_compressed(_plane(numbers, at)) for at in range(width)]
    sizes = [len(data) | (_RAW if raw else 0) for data, raw in planes]
    head = struct.pack(f"<BB{len(seeds)}Q{width}I", len(seeds), width, *seeds, *sizes)
    return b"".join([head, *(data for data, _ in planes)])


def _folded(values: Array) -> tuple[Array, Array]:
    """The values as [16, n // 16] with each sixteen that follow one another below one another, and the rest; a copy.

    So sums over what follows one another are additions of long rows, which processors do many at a time.
    """
    whole = len(values) // FOLD
    body = np.ascontiguousarray(values[: whole * FOLD].reshape(whole, FOLD).T)
    return body, np.ascontiguousarray(values[whole * FOLD :])


def _differences(body: Array, tail: Array) -> tuple[Array, Array]:
    """What is added to each value to get the next one; before the first one is 0."""
    out = np.empty_like(body)
    np.subtract(body[1:], body[:-1], out=out[1:])
    out[0, :1] = body[0, :1]
    np.subtract(body[0, 1:], body[-1, :-1], out=out[0, 1:])
    rest = tail.copy()
    rest[1:] -= tail[:-1]
    if body.shape[1]:
        rest[:1] -= body[-1, -1]
    return out, rest


def _sums(body: Array, tail: Array) -> None:
    """Undo `_differences`, in place."""
    for row in range(1, FOLD):
        np.add(body[row], body[row - 1], out=body[row])
    if body.shape[1]:
        before = np.zeros_like(body[-1])
        np.add.accumulate(body[-1, :-1], out=before[1:])
        np.add(body, before, out=body)
        tail[:1] += body[-1, -1]
    np.add.accumulate(tail, out=tail)


def _plane(numbers: Array, at: int) -> Array:
    # the cast to one byte drops what is above
    plane: Array = (numbers >> (8 * at) if at else numbers).astype(np.uint8)
    return plane


def _compressed(plane: Array) -> tuple[bytes, bool]:
    data = _local.codec.compress(plane, asbytes=True)
    return (plane.tobytes(), True) if len(data) >= len(plane) else (data, False)


def decode(data: memoryview, count: int, dtype: np.dtype[Any], out: Array | None = None) -> Array:
    """The `count` values of a lane, in `out` (of any stride) when it is given; the array belongs to the caller.

    Raises:
        Corrupt: these bytes are no lane of so many values.
    """
    out = np.empty(count, dtype) if out is None else out
    try:
        _decode(data, count, dtype, out)
    except (struct.error, pa.ArrowException, OSError, ValueError, IndexError) as problem:
        raise Corrupt(f"a lane of {count} values cannot be decoded: {problem}") from problem
    return out


def _decode(data: memoryview, count: int, dtype: np.dtype[Any], out: Array) -> None:
    order, width = data[0], data[1]
    seeds = struct.unpack_from(f"<{order}Q", data, 2)
    at = 2 + 8 * order + 4 * width
    unsigned = np.dtype(f"<u{dtype.itemsize}")
    if width == 0:
        out[:] = _regular(seeds, count, unsigned).view(dtype)
        return
    numbers, scratch = _local.scratch(count, unsigned)
    for place, size in enumerate(struct.unpack_from(f"<{width}I", data, 2 + 8 * order)):
        piece = data[at : at + (size & ~_RAW)]
        at += len(piece)
        raw = piece if size & _RAW else _local.codec.decompress(piece, count)
        plane = np.frombuffer(raw, np.uint8, count)
        if place == 0:
            np.copyto(numbers, plane)
        else:
            np.copyto(scratch, plane)
            np.left_shift(scratch, unsigned.type(8 * place), out=scratch)
            np.bitwise_or(numbers, scratch, out=numbers)
    if order or dtype.kind == "i":
        np.bitwise_and(numbers, unsigned.type(1), out=scratch)
        signed = scratch.view(np.dtype(f"<i{dtype.itemsize}"))
        np.negative(signed, out=signed)
        np.right_shift(numbers, unsigned.type(1), out=numbers)
        np.bitwise_xor(numbers, scratch, out=numbers)
    whole = count // FOLD
    body, tail = numbers[: whole * FOLD].reshape(FOLD, whole), numbers[whole * FOLD :]
    opening = body[:, 0] if whole else tail
    opening[:order] = seeds
    for _ in range(order):
        _sums(body, tail)
    out[: whole * FOLD].reshape(whole, FOLD)[:] = body.T.view(dtype)
    out[whole * FOLD :] = tail.view(dtype)


def _regular(seeds: Sequence[int], count: int, unsigned: np.dtype[Any]) -> Array:
    """Values whose differences of this order are all 0: a constant, or steps of one length."""
    if not seeds:
        return np.zeros(count, unsigned)
    # of one value the second seed was never taken
    step = seeds[0] + (seeds[1] if len(seeds) > 1 else -seeds[0])
    values = np.arange(count, dtype=unsigned)
    values *= np.array(step % 2**64, np.uint64).astype(unsigned)
    values += np.array(seeds[0], np.uint64).astype(unsigned)
    return values


def _bytes(values: Array) -> Array:
    """The values as unsigned integers of their size, the same memory."""
    unsigned: Array = values.view(np.dtype(f"<u{values.dtype.itemsize}"))
    return unsigned


def _zigzag(body: Array, order: int, dtype: np.dtype[Any]) -> Array:
    """Small numbers of either sign as small numbers, where the sign is worth a bit."""
    if order == 0 and dtype.kind != "i":
        return body
    signed = body.view(np.dtype(f"<i{body.itemsize}"))
    folded = signed >> (8 * body.itemsize - 1)
    folded ^= signed << 1
    unsigned: Array = folded.view(body.dtype)
    return unsigned


class _Local(threading.local):
    """A codec and a scratch array of each thread: neither is safe to share, and fresh memory costs more than the work."""

    def __init__(self) -> None:
        self.codec = pa.Codec("zstd", compression_level=_LEVEL)
        self._scratch = np.empty((2, 0), np.uint64)

    def scratch(self, count: int, dtype: np.dtype[Any]) -> tuple[Array, Array]:
        """Two arrays of this thread's, until it asks again."""
        needed = (count * dtype.itemsize + 7) // 8
        if self._scratch.shape[1] < needed:
            self._scratch = np.empty((2, needed), np.uint64)
        one, other = self._scratch.view(dtype)[:, :count]
        return one, other


_local = _Local()
