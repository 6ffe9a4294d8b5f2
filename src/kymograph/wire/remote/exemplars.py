"""Exemplars of remote write, of either version: few among many samples, so that they are read field by field.

A message whose exemplar is cut off or has fields of other types is none, as Prometheus has it. What can be read but
makes no exemplar (text that is not UTF-8, a label twice, symbols that are not there) costs that exemplar alone.
"""

from __future__ import annotations

from collections.abc import Callable

from kymograph.wire.protobuf import BYTES, FIXED64, VARINT, double, fields, must_be, packed, signed

# labels, value, time in ms since 1970
Told = tuple[dict[str, str], float, int]


def exemplar_v1(data: bytes, at: int, end: int) -> Told | None:
    """The prometheus.Exemplar in [at, end), None where it makes none. Raises Malformed."""
    labels: list[tuple[bytes, bytes]] = []

    def take(kind: int, first: int, last: int) -> None:
        must_be(kind, BYTES, "Exemplar", 1)
        labels.append(_label(data, first, last))

    value, milliseconds = _read(data, at, end, take)
    try:
        found = {str(name, "utf-8"): str(text, "utf-8") for name, text in labels}
    except UnicodeDecodeError:
        return None
    return (found, value, milliseconds) if len(found) == len(labels) else None


def exemplar_v2(data: bytes, at: int, end: int, symbols: list[str]) -> Told | None:
    """The io.prometheus.write.v2.Exemplar in [at, end), None where it makes none. Raises Malformed."""
    refs: list[int] = []

    def take(kind: int, first: int, last: int) -> None:
        if kind == VARINT:
            refs.append(first & 0xFFFFFFFF)
            return
        must_be(kind, BYTES, "Exemplar", 1)
        refs.extend(packed(data, first, last))

    value, milliseconds = _read(data, at, end, take)
    if len(refs) % 2 or max(refs, default=-1) >= len(symbols):
        return None
    texts = [symbols[ref] for ref in refs]
    found = dict(zip(texts[::2], texts[1::2], strict=True))
    return (found, value, milliseconds) if 2 * len(found) == len(texts) else None


def _read(data: bytes, at: int, end: int, take: Callable[[int, int, int], None]) -> tuple[float, int]:
    """Value and time of an exemplar in [at, end), which both versions have alike; `take` is given each of its labels."""
    value, milliseconds = 0.0, 0
    for number, kind, first, last in fields(data, at, end):
        if number == 1:
            take(kind, first, last)
        elif number == 2:
            must_be(kind, FIXED64, "Exemplar", number)
            value = double(data, first)
        elif number == 3:
            must_be(kind, VARINT, "Exemplar", number)
            milliseconds = signed(first)
    return value, milliseconds


def _label(data: bytes, at: int, end: int) -> tuple[bytes, bytes]:
    name = value = b""
    for number, kind, first, last in fields(data, at, end):
        if number in (1, 2):
            must_be(kind, BYTES, "Label", number)
            if number == 1:
                name = data[first:last]
            else:
                value = data[first:last]
    return name, value
