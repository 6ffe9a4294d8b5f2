"""Exemplars of remote write messages: what they say, and what a broken one costs."""

from __future__ import annotations

from typing import Any

import pytest

from kymograph.wire.protobuf import Malformed, put_bytes, put_int, put_varint
from kymograph.wire.remote.decoder import V1, V2, Decoder
from kymograph.wire.remote.layout import PAD
from tests.unit.wire import messages

NOW = 1_772_409_600_000
SYMBOLS = ["", "__name__", "up", "trace_id", "abc", "é", "ü"]


def exemplars(decoder: Decoder, message: bytes, version: str = V1) -> list[tuple[str, Any]]:
    found = decoder.read(message + bytes(PAD), version)
    return [(decoder.series[slot][0], told) for slot, told in found.exemplars]


def v1(*given: tuple[dict[bytes, bytes], float, int], sample: bool = True) -> bytes:
    request = messages.V1["WriteRequest"]()
    one = request.timeseries.add()
    one.labels.add(name="__name__", value="up")
    if sample:
        one.samples.add(value=1.0, timestamp=NOW)
    for labels, value, time in given:
        exemplar = one.exemplars.add(value=value, timestamp=time)
        for name, text in labels.items():
            exemplar.labels.add(name=name, value=text)
    found: bytes = request.SerializeToString()
    return found


def v2(*given: tuple[list[int], float, int]) -> bytes:
    request = messages.V2["Request"](symbols=SYMBOLS)
    one = request.timeseries.add(labels_refs=[1, 2])
    one.samples.add(value=1.0, timestamp=NOW)
    for refs, value, time in given:
        one.exemplars.add(labels_refs=refs, value=value, timestamp=time)
    found: bytes = request.SerializeToString()
    return found


@pytest.mark.parametrize("sample", [True, False])
def test_version_1(sample: bool) -> None:
    decoder = Decoder()
    message = v1(({b"trace_id": b"abc", "é".encode(): "ü".encode()}, 1.5, NOW), ({}, -0.0, -1), sample=sample)
    told = [("up", ({"trace_id": "abc", "é": "ü"}, 1.5, NOW)), ("up", ({}, 0.0, -1))]
    for _ in range(3):  # never met, met, met often: a message that is sent again says the same
        assert exemplars(decoder, message) == told
        assert len(decoder.read(message + bytes(PAD)).slots) == sample


def test_version_2() -> None:
    decoder = Decoder()
    message = v2(([3, 4, 5, 6], 1.5, NOW), ([], 2.0, 0))
    for _ in range(3):
        assert exemplars(decoder, message, V2) == [
            ("up", ({"trace_id": "abc", "é": "ü"}, 1.5, NOW)),
            ("up", ({}, 2.0, 0)),
        ]


def test_what_makes_no_exemplar_costs_nothing_else() -> None:
    good = ({b"a": b"1"}, 1.0, NOW)
    message = v1(({b"a": b"\xff"}, 1.0, NOW), good)
    assert exemplars(Decoder(), message) == [("up", ({"a": "1"}, 1.0, NOW))]
    assert len(Decoder().read(message + bytes(PAD)).slots) == 1
    for refs in ([3], [3, 99], [3, 4, 3, 4]):
        decoder = Decoder()
        assert exemplars(decoder, v2((refs, 1.0, NOW), ([3, 4], 2.0, NOW)), V2) == [
            ("up", ({"trace_id": "abc"}, 2.0, NOW))
        ]


def test_a_label_twice() -> None:
    request = messages.V1["WriteRequest"].FromString(v1())
    exemplar = request.timeseries[0].exemplars.add(value=1.0)
    exemplar.labels.add(name=b"a", value=b"1")
    exemplar.labels.add(name=b"a", value=b"2")
    assert exemplars(Decoder(), request.SerializeToString()) == []


@pytest.mark.parametrize(
    "exemplar",
    [
        put_int(1, 5),  # labels that are a number
        put_bytes(1, put_int(1, 5)),  # a label's name that is a number
        put_bytes(2, b"12345678"),
        put_bytes(3, b"1"),
        put_varint(1 << 3 | 2) + put_varint(9) + b"cut",
    ],
)
def test_what_is_no_message_is_refused_whole(exemplar: bytes) -> None:
    name = put_bytes(1, put_bytes(1, b"__name__") + put_bytes(2, b"up"))
    with pytest.raises(Malformed):
        Decoder().read(put_bytes(1, name + put_bytes(3, exemplar)) + bytes(PAD))
