"""The protobuf wire format beside Google's: numbers, fields, and what is cut off or made up."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from kymograph.errors import InvalidInput
from kymograph.wire import snappy
from kymograph.wire.protobuf import (
    BYTES,
    VARINT,
    Malformed,
    double,
    fields,
    put_bytes,
    put_int,
    put_varint,
    signed,
    varint,
)
from tests.unit.wire import messages


@given(st.integers(-(2**63), 2**64 - 1))
def test_numbers_come_back(number: int) -> None:
    data = put_varint(number)
    found, at = varint(data, 0, len(data))
    assert at == len(data)
    assert found == number % 2**64
    assert signed(found) == (number if number < 2**63 else number - 2**64)


@given(st.integers(-(2**63), 2**63 - 1), st.floats())
def test_samples_are_those_of_google_s(time: int, value: float) -> None:
    data = messages.V1["Sample"](timestamp=time, value=value).SerializeToString()
    found = {number: (kind, first) for number, kind, first, _ in fields(data, 0, len(data))}
    if time:
        assert found[2] == (VARINT, time % 2**64)
        assert put_int(2, time) in data
    if 1 in found:
        assert double(data, found[1][1]) == value or value != value


@pytest.mark.parametrize(
    "data",
    [
        b"\x80",
        b"\x80" * 10 + b"\x01",
        b"\xff" * 9 + b"\x02",  # 65 bits
        b"\x00\x00",  # field 0
        b"\x0a\x05abc",
        b"\x09\x00",
        b"\x0d\x00",
        b"\x0e",  # wire type 6
        b"\x0f",
        b"\x0c",  # the end of a group that has no beginning
        b"\x0b",
        b"\x0b\x14",  # the end of another group
        b"\x0b" * 100 + b"\x0c" * 100,
    ],
)
def test_what_is_no_message(data: bytes) -> None:
    with pytest.raises(Malformed):
        list(fields(data, 0, len(data)))


def test_groups_are_passed_over() -> None:
    group = put_varint(3 << 3 | 3) + put_int(1, 5) + put_bytes(2, b"x") + put_varint(4 << 3 | 3)
    group += put_varint(4 << 3 | 4) + put_varint(3 << 3 | 4)
    data = put_int(1, 7) + group + put_bytes(2, b"ab")
    found = [(number, kind) for number, kind, _, _ in fields(data, 0, len(data))]
    assert found == [(1, VARINT), (2, BYTES)]


@given(st.binary(max_size=60))
def test_garbage_is_refused_or_read_as_google_does(data: bytes) -> None:
    try:
        list(fields(data, 0, len(data)))
    except InvalidInput:
        return
    try:
        # a message that knows no field sees nothing but the format
        messages.V1["ReadHints"].FromString(data)
    except DecodeError:
        known = {number for number, *_ in fields(data, 0, len(data))}
        assert known & {1, 2}, "refused by Google's, though no field is known"


@given(st.binary(max_size=5000))
def test_snappy_round_trip(data: bytes) -> None:
    packed = snappy.pack(data)
    assert snappy.size(packed) == len(data)
    assert snappy.unpack(packed) == data
    assert snappy.unpack(packed, 16) == data + bytes(16)


@given(st.binary(max_size=100))
def test_snappy_garbage(data: bytes) -> None:
    try:
        found = snappy.unpack(data)
    except Malformed:
        return
    assert len(found) == snappy.size(data)


def test_snappy_says_how_much_it_becomes() -> None:
    for times in (1, 10**3, 10**6):
        assert snappy.size(snappy.pack(b"x" * times)) == times
    for lie in (b"\xff\xff\xff\xff\x0f\x00a", b"\x80\x80\x80\x01\x00a", b"\xff" * 8):
        with pytest.raises(Malformed):
            snappy.size(lie)


def test_snappy_cut_off_anywhere() -> None:
    packed = snappy.pack(bytes(range(256)) * 20)
    for end in range(len(packed)):
        with pytest.raises(Malformed):
            snappy.unpack(packed[:end])
