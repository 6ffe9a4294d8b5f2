"""Simulated GPUs: the same every time, and believable."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kymograph.collect.gpu import GPU_SCHEMA, REASON_IDLE, REASON_SW_THERMAL
from kymograph.collect.simulate import SimulateCollector
from kymograph.errors import InvalidInput

START = 1_795_000_000_000_000
SECOND = 1_000_000


def rows(collector: SimulateCollector, now: int) -> pa.Table:
    table = collector.collect(now).rows["gpu_metrics"]
    assert isinstance(table, pa.Table)
    return table


def column(table: pa.Table, name: str) -> Any:
    return table[name].to_numpy()


@pytest.fixture(scope="module")
def day() -> list[pa.Table]:
    """64 GPUs every 20 s for six hours."""
    collector = SimulateCollector(64, seed=5)
    return [rows(collector, START + step * 20 * SECOND) for step in range(1080)]


def matrix(day: list[pa.Table], name: str) -> Any:
    """Shape (times, GPUs)."""
    return np.array([column(table, name) for table in day])


def test_rows_have_exactly_the_schema() -> None:
    table = rows(SimulateCollector(20), START)
    assert table.schema == GPU_SCHEMA.arrow
    assert table.num_rows == 20
    table.validate(full=True)
    assert set(table["source"].to_pylist()) == {"simulated"}
    assert len(set(table["gpu_uuid"].to_pylist())) == 20
    assert table["hostname"].to_pylist()[7:9] == ["sim-0000", "sim-0001"]
    assert table["device_index"].to_pylist() == list(range(20))
    assert table["fan_speed"].null_count == 20
    assert [name for name in table.column_names if table[name].null_count] == ["fan_speed"]


def test_the_same_seed_gives_the_same_rows() -> None:
    def history(seed: int) -> list[pa.Table]:
        collector = SimulateCollector(9, seed=seed)
        return [rows(collector, START + step * SECOND).drop(["collection_latency_ms"]) for step in range(50)]

    assert history(1) == history(1)
    assert history(1) != history(2)


def test_load_power_and_heat_belong_together(day: list[pa.Table]) -> None:
    load, power, heat = (matrix(day, name) for name in ("gpu_utilization", "power_usage", "gpu_temp"))
    assert load.min() == 0
    assert load.max() <= 100
    assert 40 < load.mean() < 95
    assert np.corrcoef(load.ravel(), power.ravel())[0, 1] > 0.9
    assert np.corrcoef(power.ravel(), heat.ravel())[0, 1] > 0.8
    assert power.min() > 50
    assert power.max() <= 700
    assert heat.min() >= 22
    assert heat.max() < 95


def test_heat_follows_power_with_a_lag() -> None:
    collector = SimulateCollector(64, seed=5)
    tables = [rows(collector, START + step * SECOND) for step in range(1500)]
    power, heat = matrix(tables, "power_usage"), matrix(tables, "gpu_temp")
    drops = np.argwhere((power[:-40] > 450) & (power[4:-36] < 200))
    assert len(drops)
    at, gpu = drops[0]
    # five seconds into the pause most of the heat is still there, later it is gone
    assert heat[at + 4, gpu] > heat[at, gpu] - 12
    assert heat[at + 2 : at + 40, gpu].min() < heat[at, gpu] - 5


def test_jobs_have_phases_and_hold_memory_in_steps(day: list[pa.Table]) -> None:
    load, memory = matrix(day, "gpu_utilization"), matrix(day, "fb_used_bytes")
    assert ((load > 2) & (load < 25)).any()
    assert (load > 90).any()
    assert (load == 0).any()
    for gpu in range(0, 64, 8):
        changes = np.count_nonzero(np.diff(memory[:, gpu]))
        assert changes < len(day) / 10
    total = column(day[0], "fb_total_bytes")
    assert (memory + matrix(day, "fb_free_bytes") == total).all()


def test_counters_only_grow(day: list[pa.Table]) -> None:
    for name in ("energy_mj", "ecc_sbe_volatile", "ecc_dbe_volatile", "ecc_sbe_aggregate", "retired_pages_dbe"):
        assert (np.diff(matrix(day, name), axis=0) >= 0).all(), name
    grown = matrix(day, "energy_mj")[-1] - matrix(day, "energy_mj")[0]
    mean = matrix(day, "power_usage").mean(axis=0)
    assert np.allclose(grown / 1000 / (1079 * 20), mean, rtol=0.05)


def test_errors_are_rare_and_hot_gpus_slow_down() -> None:
    collector = SimulateCollector(4000, seed=1)
    tables = [rows(collector, START + step * 10 * SECOND) for step in range(120)]
    errors = column(tables[-1], "ecc_sbe_volatile")
    assert 0 < np.count_nonzero(errors) < 100
    heat, reasons, clock = (matrix(tables, name) for name in ("gpu_temp", "throttle_reasons", "sm_clock_mhz"))
    slowed = (reasons & REASON_SW_THERMAL) > 0
    assert 0 < slowed.any(axis=0).sum() < 400
    assert heat[slowed].mean() > heat[~slowed].mean() + 10
    busy = (reasons & REASON_IDLE) == 0
    assert clock[slowed].mean() < clock[busy & ~slowed].mean()
    assert ((reasons & REASON_IDLE > 0) == (matrix(tables, "gpu_utilization") == 0)).all()


def test_gaps_and_a_clock_that_goes_back_do_no_harm() -> None:
    collector = SimulateCollector(16)
    for now in (START, START + 10**12, START - 10**12, START + 10**13):
        table = rows(collector, now)
        assert set(table["time"].cast(pa.int64()).to_pylist()) == {now}
        assert np.isfinite(column(table, "gpu_temp")).all()


def test_bounds_of_the_count() -> None:
    assert rows(SimulateCollector(1), START).num_rows == 1
    for count in (0, -1, 100_001):
        with pytest.raises(InvalidInput, match="simulate"):
            SimulateCollector(count)
