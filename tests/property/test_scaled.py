"""Values of `samples` as blocks hold them: whatever was written comes back to the bit."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kymograph.engine.memory import MemoryEngine
from kymograph.local.engine import LocalEngine
from kymograph.local.samples import STORED, restored, series_offsets, stored
from kymograph.model.matcher import Matcher
from kymograph.model.schema import SAMPLES, SAMPLES_SCHEMA, SERIES_ID
from kymograph.options import StoreOptions
from tests.rows import batch_of, ordered, plain, rows_of, scanned

MANY = settings(max_examples=150)
FEW = settings(max_examples=25)

STALE = 0x7FF0_0000_0000_0002
ODD = [
    *(0.0, -0.0, 5e-324, -5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, float("inf"), float("-inf")),
    *(2.0**53, 2.0**53 + 2, -(2.0**53), 2.0**63, -(2.0**63), 2.0**64, 9.223372036854775807e18, 1e22, 1e23, 0.1 + 0.2),
]
ODD_BITS = [0x7FF8_0000_0000_0000, STALE, 0xFFF8_0000_0000_0001, 0x7FF4_DEAD_BEEF_0001, 2**64 - 1]


def bits_of(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


anything = st.integers(0, 2**64 - 1) | st.sampled_from([*map(bits_of, ODD), *ODD_BITS]) | st.none()


@st.composite
def decimals(draw: st.DrawFn) -> list[int | None]:
    """A gauge or counter of decimals, now and then something else."""
    digits, size = draw(st.integers(0, 17)), draw(st.integers(1, 40))
    unit = draw(st.sampled_from([1, 7, 4096, 10**9]))
    start = draw(st.integers(-(2**53), 2**53))
    steps = draw(st.lists(st.integers(0, draw(st.sampled_from([0, 3, 1000, 2**40]))), min_size=size, max_size=size))
    values: list[int | None] = [bits_of((start + unit * step) / 10**digits) for step in np.cumsum(steps).tolist()]
    for place in draw(st.lists(st.integers(0, size - 1), max_size=3)):
        values[place] = draw(anything)
    return values


@st.composite
def fractions(draw: st.DrawFn) -> list[int | None]:
    """Values of float32, or with an exponent of their own."""
    floats = draw(st.lists(st.floats(width=draw(st.sampled_from([16, 32]))), min_size=1, max_size=40))
    scale = draw(st.sampled_from([0, 1, -30, 900, -900]))
    return [bits_of(value * 2.0**scale) for value in floats]


series = decimals() | fractions() | st.lists(anything, min_size=1, max_size=40)


def rows(several: Sequence[Sequence[int | None]]) -> dict[str, pa.Array]:
    bits = pa.array([value for values in several for value in values], pa.uint64())
    return {
        "time": pa.array([15 * place for values in several for place in range(len(values))]),
        "series_id": pa.array([number for number, values in enumerate(several) for _ in values]),
        "value": bits.view(pa.float64()),
    }


@MANY
@given(st.lists(series, min_size=1, max_size=6))
def test_the_columns_of_a_row_group_give_back_every_bit(several: list[list[int | None]]) -> None:
    data = pa.Table.from_batches([batch_of(SAMPLES_SCHEMA, rows(several))])
    kept = pa.Table.from_arrays(stored(data), schema=STORED)
    assert plain(restored(kept.select, series_offsets(data["series_id"].chunk(0)))) == plain(data["value"])
    assert not any(
        n is not None and v is not None for n, v in zip(plain(kept["number"]), plain(kept["value"]), strict=True)
    )


@FEW
@given(st.lists(series, min_size=1, max_size=6))
def test_blocks_give_back_every_bit(several: list[list[int | None]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        engine = LocalEngine(Path(folder), StoreOptions(sync="off"))
        engine.create_table(SAMPLES_SCHEMA)
        given_rows = batch_of(SAMPLES_SCHEMA, rows(several))
        half = given_rows.num_rows // 2
        for piece in (given_rows.slice(0, half), given_rows.slice(half)):
            engine.append(SAMPLES, piece)
            engine.seal()
        assert sorted(rows_of(engine.scan(SAMPLES).table()), key=str) == sorted(rows_of(given_rows), key=str)
        engine.compact()
        assert sorted(rows_of(engine.scan(SAMPLES).table()), key=str) == sorted(rows_of(given_rows), key=str)
        assert not engine.check().damages
        engine.close()


@pytest.mark.parametrize(
    ("name", "values", "most"),
    [
        ("a value that never changes", np.full(20_000, 1234.5), 0.01),
        ("a limit beyond 2**53", np.full(20_000, 1.8446744073709552e19), 0.01),
        ("a counter that never changes", np.full(20_000, 7.0), 0.01),
        ("ticks of ten milliseconds", np.cumsum(np.random.default_rng(1).poisson(3, 20_000)) / 100, 0.6),
        ("pages", 4096.0 * (5000 + np.cumsum(np.random.default_rng(1).integers(-3, 4, 20_000))), 0.5),
        ("float32", np.random.default_rng(1).normal(50, 3, 20_000).astype(np.float32).astype(np.float64), 3.6),
        ("noise", np.random.default_rng(1).random(20_000), 8.1),
    ],
)
def test_a_sample_takes_little(tmp_path: Path, name: str, values: np.ndarray, most: float) -> None:
    engine = LocalEngine(tmp_path, StoreOptions(sync="off"))
    engine.create_table(SAMPLES_SCHEMA)
    sizes = []
    for count in (4000, 20_000):  # the difference is free of what a file costs
        columns = {"time": np.arange(count) * 1_000_000, "series_id": count, "value": values[:count]}
        engine.append(SAMPLES, batch_of(SAMPLES_SCHEMA, columns))
        engine.seal()
        sizes.append(engine.statistics(SAMPLES).sealed_bytes - sum(sizes))
    engine.close()
    assert (sizes[1] - sizes[0]) / 16_000 < most, name


@pytest.mark.parametrize("seed", range(3))
def test_samples_against_the_oracle(tmp_path: Path, seed: int) -> None:
    """Late, overwritten, deleted, merged and reopened: rows that meet in row groups that begin anew each time."""
    dice = np.random.default_rng(seed)
    local, oracle = LocalEngine(tmp_path, StoreOptions(sync="off")), MemoryEngine()
    for engine in (local, oracle):
        engine.create_table(SAMPLES_SCHEMA)
    odd = np.array([*map(bits_of, ODD), *ODD_BITS], np.uint64).view(np.float64)
    for step in range(15):
        many = int(dice.integers(1, 150))
        series = dice.integers(0, 5, many)
        # a float of its own kind for each series, now and then any
        plain_values = np.stack([dice.integers(0, 99, many) / 10.0**place for place in range(5)], axis=1)
        values = np.where(dice.random(many) < 0.1, dice.choice(odd, many), plain_values[np.arange(many), series])
        data = {
            "time": dice.integers(-300, 300, many) * 500_000_000,
            "series_id": series,
            "value": pa.array(values, mask=dice.random(many) < 0.05, from_pandas=False),
        }
        batch = batch_of(SAMPLES_SCHEMA, data)
        wanted = [Matcher(SERIES_ID, "in", frozenset(dice.choice(6, 2).tolist()))]
        start = int(dice.integers(-300, 300)) * 500_000_000
        if step % 5 == 4:
            gone = [engine.delete(SAMPLES, wanted, start, start + 10**10) for engine in (local, oracle)]
            assert gone[0] == gone[1]
        for engine in (local, oracle):
            engine.append(SAMPLES, batch)
        if dice.random() < 0.6:
            local.seal()
        if dice.random() < 0.3:
            local.compact()
        if dice.random() < 0.2:
            local.close()
            local = LocalEngine(tmp_path, StoreOptions(sync="off"))
        assert scanned(local, SAMPLES) == scanned(oracle, SAMPLES)
        assert scanned(local, SAMPLES, wanted, start) == scanned(oracle, SAMPLES, wanted, start)
        assert ordered(rows_of(local.latest(SAMPLES))) == ordered(rows_of(oracle.latest(SAMPLES)))
    assert not local.check().damages
    local.close()
