"""A small insertion as bytes of the hot log: packed rows where they are few, a chunk where encoding pays."""

from __future__ import annotations

import numpy as np

from kymograph.errors import Corrupt
from kymograph.local.streams.chunk import Chunk, Folded, chunk_rows, encode_rows
from kymograph.local.streams.lanes import Array, Orders
from kymograph.local.streams.pyramid import Runs
from kymograph.model.stream import Layout

_PACKED = b"\0"
_CHUNKS = b"\1"
_FEW = 256


def encode_hot(rows: Array, layout: Layout, orders: Orders) -> bytes:
    """Rows (not none) as one blob."""
    if len(rows) < _FEW:
        return _PACKED + rows.tobytes()
    step = chunk_rows(layout)
    parts = [_CHUNKS]
    for at in range(0, len(rows), step):
        part = rows[at : at + step]
        data = encode_rows(Folded(part), Runs.single(0, False), orders)
        parts += [len(data).to_bytes(4, "little"), data]
    return b"".join(parts)


def decode_hot(data: bytes, layout: Layout) -> Array:
    """The rows of a blob.

    Raises:
        Corrupt: it is none.
    """
    if data[:1] == _PACKED and (len(data) - 1) % layout.rows.itemsize == 0 and len(data) > 1:
        return np.frombuffer(data, layout.rows, offset=1)
    if data[:1] != _CHUNKS:
        raise Corrupt("this is no insertion")
    places = range(layout.count)
    parts, at = [], 1
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        chunk = Chunk(memoryview(data)[at + 4 : at + 4 + size], layout)
        parts.append(chunk.structured(places, chunk.times(), 0, chunk.rows))
        at += 4 + size
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
