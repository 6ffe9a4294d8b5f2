"""Snappy's block format, as remote write and remote read compress their bodies. Source: its format description."""

from __future__ import annotations

import cramjam

from kymograph.wire.protobuf import Malformed, varint

# a copy of 64 bytes takes three
_MOST_TIMES = 22


def size(data: bytes) -> int:
    """Bytes that `data` says it unpacks to. Raises Malformed when so few bytes cannot become so many."""
    claimed, at = varint(data, 0, min(len(data), 5))
    if claimed > 2**32 - 1 or claimed > _MOST_TIMES * (len(data) - at) + 64:
        raise Malformed(f"snappy: {len(data)} bytes cannot unpack to {claimed}")
    return claimed


def unpack(data: bytes, pad: int = 0) -> bytes:
    """The unpacked bytes, followed by `pad` zero bytes. Check `size` before. Raises Malformed."""
    size(data)
    try:
        found = cramjam.snappy.decompress_raw(data)
    except cramjam.DecompressionError as problem:
        raise Malformed(f"snappy: {problem}") from None
    return b"".join((found, bytes(pad)))


def pack(data: bytes) -> bytes:
    """`data` compressed."""
    return bytes(cramjam.snappy.compress_raw(data))
