"""Lanes: every bit comes back, whatever the numbers, and damage is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kymograph.errors import Corrupt
from kymograph.local.streams.chunk import Chunk, Folded, encode_rows
from kymograph.local.streams.lanes import Orders, best_order, decode, encode
from kymograph.local.streams.pyramid import Runs
from kymograph.model.stream import TYPES, Layout

COUNTS = [0, 1, 2, 3, 15, 16, 17, 31, 32, 100, 1000]


def kinds_of_numbers(kind: np.dtype[Any], count: int, seed: int) -> list[Any]:
    """Noise, constants, ramps, alternations of the extremes."""
    dice = np.random.default_rng(seed)
    noise = np.frombuffer(dice.bytes(count * kind.itemsize), kind)
    ramp = np.arange(count).astype(kind)
    edge = np.iinfo(f"u{kind.itemsize}").max
    flipping = np.where(np.arange(count) % 2, 0, edge).astype(f"<u{kind.itemsize}").view(kind)
    return [noise, np.zeros(count, kind), np.full(count, 7, kind), ramp, ramp[::-1], flipping]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("count", COUNTS)
def test_every_bit_comes_back(kind: str, count: int) -> None:
    dtype = np.dtype(kind).newbyteorder("<")
    for values in kinds_of_numbers(dtype, count, count):
        for order in (0, 1, 2):
            data = memoryview(encode(values, order))
            assert decode(data, count, dtype).tobytes() == values.tobytes()
            out = np.zeros((count, 3), dtype)
            decode(data, count, dtype, out[:, 1])
            assert out[:, 1].tobytes() == values.tobytes()
            assert not out[:, [0, 2]].any()


def test_regular_times_cost_next_to_nothing() -> None:
    times = 1_772_409_600_000_000 + 125 * np.arange(32_768)
    assert best_order(times) >= 1
    assert len(encode(times, 2)) < 30
    # a clock of 8,000.13 Hz, rounded to µs
    rounded = (np.arange(32_768) * (10**6 / 8000.13)).round().astype(np.int64)
    assert len(encode(rounded, best_order(rounded))) < 32_768


def test_the_order_is_looked_at_again() -> None:
    orders = Orders()
    smooth = (np.sin(np.arange(20_000) / 50) * 10_000).astype("<i2")
    noise = np.random.default_rng(1).integers(-30_000, 30_000, 20_000).astype("<i2")
    assert orders.of(0, smooth) > 0
    assert 0 in {orders.of(0, noise) for _ in range(100)}


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(0, 7))
def test_a_flipped_bit_is_told(at: int, bit: int) -> None:
    layout = Layout.parse("int16_2")
    rows = np.zeros(300, layout.rows)
    rows["timestamp"] = np.arange(300)
    rows["data"] = np.random.default_rng(1).integers(-99, 99, (300, 2))
    data = bytearray(encode_rows(Folded(rows), Runs.single(0, False), Orders()))
    assert Chunk(bytes(data), layout).structured(range(2), np.arange(300), 0, 300).tobytes() == rows.tobytes()
    data[at % len(data)] ^= 1 << bit
    with pytest.raises(Corrupt):
        Chunk(bytes(data), layout)


@pytest.mark.parametrize("size", [0, 1, 5, 20, 60])
def test_a_cut_lane_is_told(size: int) -> None:
    data = encode(np.random.default_rng(1).integers(0, 2**40, 100), 1)
    with pytest.raises(Corrupt):
        decode(memoryview(data)[:size], 100, np.dtype("<i8"))
    with pytest.raises(Corrupt):
        Chunk(data[:size], Layout.parse("int8_1"))
