"""XXH64 of a label set as Prometheus hashes it, so that `limit_ratio` chooses the same series."""

from __future__ import annotations

from kymograph.promql.labels import Labels

_P1, _P2, _P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P4, _P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
_MASK = 2**64 - 1


def _turn(value: int, by: int) -> int:
    value &= _MASK
    return (value << by | value >> (64 - by)) & _MASK


def _round(state: int, lane: int) -> int:
    return _turn(state + lane * _P2, 31) * _P1 & _MASK


def xxh64(data: bytes) -> int:
    """The 64-bit hash with seed 0."""
    at, size = 0, len(data)
    if size >= 32:
        states = [(_P1 + _P2) & _MASK, _P2, 0, -_P1 & _MASK]
        while at + 32 <= size:
            lanes = [int.from_bytes(data[at + 8 * i : at + 8 * i + 8], "little") for i in range(4)]
            states = [_round(state, lane) for state, lane in zip(states, lanes, strict=True)]
            at += 32
        found = sum(_turn(state, by) for state, by in zip(states, (1, 7, 12, 18), strict=True)) & _MASK
        for state in states:
            found = ((found ^ _round(0, state)) * _P1 + _P4) & _MASK
    else:
        found = _P5
    found = (found + size) & _MASK
    while at + 8 <= size:
        found = (_turn(found ^ _round(0, int.from_bytes(data[at : at + 8], "little")), 27) * _P1 + _P4) & _MASK
        at += 8
    if at + 4 <= size:
        found = (_turn(found ^ int.from_bytes(data[at : at + 4], "little") * _P1, 23) * _P2 + _P3) & _MASK
        at += 4
    for byte in data[at:]:
        found = _turn(found ^ byte * _P5, 11) * _P1 & _MASK
    found = (found ^ found >> 33) * _P2 & _MASK
    found = (found ^ found >> 29) * _P3 & _MASK
    return found ^ found >> 32


def _sized(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    # one byte of length, or 255 and three bytes, lowest first
    return (bytes([len(raw)]) if len(raw) < 255 else b"\xff" + len(raw).to_bytes(3, "little")) + raw


def hash_of(labels: Labels) -> int:
    """Of all pairs sorted by name, each text with its length before it."""
    return xxh64(b"".join(_sized(name) + _sized(value) for name, value in sorted(labels)))
