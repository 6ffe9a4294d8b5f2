"""Metadata of metrics as remote write sends it: kind, help and unit."""

from __future__ import annotations

from dataclasses import dataclass

from kymograph.wire.protobuf import BYTES, VARINT, Malformed, fields, text

# prometheus.MetricMetadata.MetricType and io.prometheus.write.v2.Metadata.MetricType number alike
_KINDS = ("untyped", "counter", "gauge", "histogram", "histogram", "summary", "gauge", "gauge")
_SUFFIXES = {"histogram": ("_bucket", "_count", "_sum"), "summary": ("_count", "_sum")}


@dataclass(frozen=True)
class About:
    """What is said about a metric; "" where nothing is."""

    kind: str = "untyped"
    help: str = ""
    unit: str = ""


def metadata_v1(data: bytes, at: int, end: int) -> tuple[str, About]:
    """Family name and metadata of the MetricMetadata in [at, end). Raises Malformed."""
    kind, texts = 0, {2: "", 4: "", 5: ""}
    for number, wire, first, last in fields(data, at, end):
        if number == 1:
            _must_be(wire, VARINT, number)
            kind = first
        elif number in texts:
            _must_be(wire, BYTES, number)
            texts[number] = text(data, first, last)
    return texts[2], About(_kind(kind), texts[4], texts[5])


def metadata_v2(data: bytes, at: int, end: int, symbols: list[str]) -> About:
    """The Metadata in [at, end). Raises Malformed."""
    numbers = {1: 0, 3: 0, 4: 0}
    for number, wire, first, _ in fields(data, at, end):
        if number in numbers:
            _must_be(wire, VARINT, number)
            numbers[number] = first
    told, unit = numbers[3], numbers[4]
    if max(told, unit) >= max(1, len(symbols)):
        raise Malformed(f"metadata refers to the symbol {max(told, unit)}, and there are {len(symbols)}")
    return About(_kind(numbers[1]), symbols[told] if symbols else "", symbols[unit] if symbols else "")


def family(name: str, kind: str) -> str:
    """The metric family that a series called `name` belongs to."""
    for suffix in _SUFFIXES.get(kind, ()):
        if name.endswith(suffix) and len(name) > len(suffix):
            return name.removesuffix(suffix)
    return name


def _kind(number: int) -> str:
    return _KINDS[number] if number < len(_KINDS) else "untyped"


def _must_be(kind: int, wanted: int, number: int) -> None:
    if kind != wanted:
        raise Malformed(f"metadata's field {number} has the wire type {kind}")
