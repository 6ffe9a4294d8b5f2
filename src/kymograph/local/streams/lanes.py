"""A lane is one column of numbers as bytes: differences, zigzag, byte planes, zstd (docs/format/stream.md).

Waveforms are smooth: the second differences of a mains voltage are hardly more than the noise of its converter, and the
byte planes of such numbers shrink to their entropy with zstd's Huffman stage alone, at memory speed.
"""

from __future__ import annotations

import struct
import threading
from typing import Any

import numpy as np
import pyarrow as pa

from kymograph.errors import Corrupt

Array = np.ndarray[Any, Any]

MAX_ORDER = 2
_LEVEL = 1
_RAW = 1 << 31
_SAMPLE = 4096
# what another difference has to save, because it costs a pass when read
_GAIN = 0.97
# chunks after which the order is looked at again
_KEPT = 32


class Orders:
    """Which difference suits each lane, found by looking at a sample of it now and then. One per encoding thread."""

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
    """The order of differences with the fewest bits, by the entropy of the byte planes of a sample."""
    middle = max(0, (len(values) - _SAMPLE) // 2)
    sample = np.ascontiguousarray(values[middle : middle + _SAMPLE])
    best, order = _bits(_zigzag(_bytes(sample), 0, sample.dtype)), 0
    body = _bytes(sample)
    for candidate in range(1, MAX_ORDER + 1):
        body = body[1:] - body[:-1]
        if len(body) == 0:
            break
        bits = _bits(_zigzag(body, candidate, sample.dtype))
        if bits < best * _GAIN:
            best, order = bits, candidate
    return order


def _bits(numbers: Array) -> float:
    total = 0.0
    for plane in numbers.view(np.uint8).reshape(-1, numbers.itemsize).T:
        counts = np.bincount(plane, minlength=256)
        share = counts[counts > 0] / len(plane)
        total -= float((share * np.log2(share)).sum())
    return total


def encode(values: Array, order: int) -> bytes:
    """One lane; `values` contiguous, of any number type, at most 2**31 of them."""
    body = _bytes(values)
    seeds = []
    for _ in range(min(order, len(values))):
        seeds.append(int(body[0]))
        body = body[1:] - body[:-1]
    numbers = _zigzag(body, order, values.dtype)
    top = int(numbers.max()) if len(numbers) else 0
    width = (top.bit_length() + 7) // 8
    if numbers.itemsize > 2 and width <= 2:
        numbers = numbers.astype(np.uint16)
    planes = [_compressed(_plane(numbers, at)) for at in range(width)]
    sizes = [len(data) | (_RAW if raw else 0) for data, raw in planes]
    head = struct.pack(f"<BB{len(seeds)}Q{width}I", len(seeds), width, *seeds, *sizes)
    return b"".join([head, *(data for data, _ in planes)])


def _plane(numbers: Array, at: int) -> Array:
    # the cast to one byte drops what is above
    plane: Array = (numbers >> (8 * at) if at else numbers).astype(np.uint8)
    return plane


def _compressed(plane: Array) -> tuple[bytes, bool]:
    data = _local.codec.compress(plane, asbytes=True)
    return (plane.tobytes(), True) if len(data) >= len(plane) else (data, False)


def decode(data: memoryview, count: int, dtype: np.dtype[Any]) -> Array:
    """The `count` values of a lane; the array belongs to the caller.

    Raises:
        Corrupt: these bytes are no lane of so many values.
    """
    try:
        return _decode(data, count, dtype)
    except (struct.error, pa.ArrowException, OSError, ValueError, IndexError) as problem:
        raise Corrupt(f"a lane of {count} values cannot be decoded: {problem}") from problem


def _decode(data: memoryview, count: int, dtype: np.dtype[Any]) -> Array:
    order, width = data[0], data[1]
    seeds = struct.unpack_from(f"<{order}Q", data, 2)
    sizes = struct.unpack_from(f"<{width}I", data, 2 + 8 * order)
    at = 2 + 8 * order + 4 * width
    body = count - order
    unsigned = np.dtype(f"<u{dtype.itemsize}")
    out = np.empty(count, unsigned)
    numbers = out[order:]
    if width == 0:
        numbers[:] = 0
    scratch = _local.scratch(body, unsigned)
    for place in range(width):
        size = sizes[place] & ~_RAW
        piece = data[at : at + size]
        at += size
        raw = piece if sizes[place] & _RAW else _local.codec.decompress(piece, body)
        plane = np.frombuffer(raw, np.uint8, body)
        if place == 0:
            np.copyto(numbers, plane)
        else:
            np.copyto(scratch, plane)
            np.left_shift(scratch, unsigned.type(8 * place), out=scratch)
            np.bitwise_or(numbers, scratch, out=numbers)
    if width and (order or dtype.kind == "i"):
        np.bitwise_and(numbers, unsigned.type(1), out=scratch)
        signed = scratch.view(np.dtype(f"<i{dtype.itemsize}"))
        np.negative(signed, out=signed)
        np.right_shift(numbers, unsigned.type(1), out=numbers)
        np.bitwise_xor(numbers, scratch, out=numbers)
    for place in reversed(range(order)):
        out[place] = seeds[place]
        np.add.accumulate(out[place:], out=out[place:])
    return out.view(dtype)


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
        self._scratch = np.empty(0, np.uint64)

    def scratch(self, count: int, dtype: np.dtype[Any]) -> Array:
        needed = (count * dtype.itemsize + 7) // 8
        if len(self._scratch) < needed:
            self._scratch = np.empty(needed, np.uint64)
        array: Array = self._scratch.view(dtype)[:count]
        return array


_local = _Local()
