"""The protobuf wire format: varints and fields of a message, read and written without a schema.

Source: "Protocol Buffers Encoding". Messages are `bytes`; a place is an offset into one, and a message inside another
is a pair of places. Whatever runs over its end is refused, so that a cut-off message is never half understood.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from kymograph.errors import InvalidInput

VARINT, FIXED64, BYTES, GROUP, GROUP_END, FIXED32 = 0, 1, 2, 3, 4, 5
_WORD = 2**64
# deeper groups than anybody writes; each costs one level of recursion elsewhere
_DEPTH = 64


class Malformed(InvalidInput):
    """Bytes that are no message of the format they claim to be."""

    code = "malformed_message"


def varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The unsigned 64-bit number at `at`, and the place behind it. Raises Malformed when it is cut off or too long."""
    number = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            if number >= _WORD:
                raise Malformed(f"the number before byte {at} has more than 64 bits")
            return number, at
        shift += 7
        if shift > 63:
            raise Malformed(f"the number before byte {at} has more than ten bytes")
    raise Malformed(f"the message is cut off at byte {end}, inside a number")


def signed(number: int) -> int:
    """int64 of an unsigned varint, as the types int32 and int64 use it."""
    return number - _WORD if number >= _WORD // 2 else number


def fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of the message in [at, end): (number, wire type, first, last).

    VARINT: `first` is the number and `last` the place behind it. BYTES, FIXED64 and FIXED32: the content is in
    [first, last). Groups, which no schema of today uses, are checked and passed over.

    Raises:
        Malformed: cut off, a field number of 0, or a wire type that does not exist.
    """
    while at < end:
        tag, at = tag_at(data, at, end)
        kind = tag & 7
        if kind == VARINT:
            number, at = varint(data, at, end)
            yield tag >> 3, kind, number, at
        elif kind == GROUP:
            at = _behind_group(data, at, end, tag >> 3)
        else:
            first, last = span(data, at, end, kind)
            yield tag >> 3, kind, first, last
            at = last


def tag_at(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The tag (field number << 3 | wire type) at `at`, and the place behind it."""
    tag, at = varint(data, at, end)
    if not 0 < tag >> 3 < 2**29:
        raise Malformed(f"the field before byte {at} has the number {tag >> 3}")
    return tag, at


def behind(data: bytes, at: int, end: int, tag: int) -> int:
    """The place behind the content, which begins at `at`, of a field that is passed over."""
    if tag & 7 == VARINT:
        return varint(data, at, end)[1]
    if tag & 7 == GROUP:
        return _behind_group(data, at, end, tag >> 3)
    return span(data, at, end, tag & 7)[1]


def span(data: bytes, at: int, end: int, kind: int) -> tuple[int, int]:
    """[first, last) of the content of a field whose tag ends at `at`; see `fields`."""
    if kind == BYTES:
        size, at = varint(data, at, end)
    elif kind in (FIXED64, FIXED32):
        size = 8 if kind == FIXED64 else 4
    else:
        raise Malformed(f"the field before byte {at} has the wire type {kind}")
    if at + size > end:
        raise Malformed(f"the message is cut off: the field at byte {at} has {size} bytes and {end - at} are left")
    return at, at + size


def _behind_group(data: bytes, at: int, end: int, number: int) -> int:
    opened = [number]
    while opened:
        tag, at = tag_at(data, at, end)
        kind = tag & 7
        if kind == GROUP:
            opened.append(tag >> 3)
            if len(opened) > _DEPTH:
                raise Malformed(f"more than {_DEPTH} groups inside each other at byte {at}")
        elif kind == GROUP_END:
            if opened.pop() != tag >> 3:
                raise Malformed(f"the group that ends at byte {at} was not begun")
        elif kind == VARINT:
            _, at = varint(data, at, end)
        else:
            _, at = span(data, at, end, kind)
    return at


def packed(data: bytes, at: int, end: int) -> list[int]:
    """Numbers of a packed field of uint32. Raises Malformed."""
    numbers = []
    while at < end:
        number, at = varint(data, at, end)
        numbers.append(number & 0xFFFFFFFF)
    return numbers


def must_be(kind: int, wanted: int, what: str, number: int) -> None:
    """Raises Malformed where a field of a message called `what` has another wire type than it should."""
    if kind != wanted:
        raise Malformed(f"a {what}'s field {number} has the wire type {kind}")


def text(data: bytes, first: int, last: int) -> str:
    """UTF-8 of [first, last). Raises Malformed."""
    try:
        return str(data[first:last], "utf-8")
    except UnicodeDecodeError as problem:
        raise Malformed(f"the text at byte {first + problem.start} is not UTF-8") from None


def double(data: bytes, first: int) -> float:
    """The float64 in the eight bytes at `first`."""
    found: float = struct.unpack_from("<d", data, first)[0]
    return found


def put_varint(number: int) -> bytes:
    """A number as varint; negative ones as 64-bit two's complement, in ten bytes."""
    number %= _WORD
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def put_bytes(number: int, content: bytes) -> bytes:
    """A field of bytes, text or a message."""
    return put_varint(number << 3 | BYTES) + put_varint(len(content)) + content


def put_int(number: int, value: int) -> bytes:
    """A field of an integer, left out when it is 0 as proto3 does."""
    return put_varint(number << 3 | VARINT) + put_varint(value) if value else b""
