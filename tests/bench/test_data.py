"""The reference data is what the pages say: seeded, seamless, and neither constant nor noise."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.data import fleet, host, tsbs


def bits(values: np.ndarray) -> float:
    """Entropy of the distribution of values, bits each."""
    _, counts = np.unique(values, return_counts=True)
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum())


def test_fleet_is_the_same_every_time() -> None:
    one, other = ([fleet.Fleet(64, seed=7).piece(120)] for _ in range(2))
    assert one == other
    assert fleet.Fleet(64, seed=8).piece(120) != one[0]


def test_fleet_pieces_join() -> None:
    made = fleet.Fleet(32, seed=3)
    rows = pa.Table.from_batches([made.piece(90), made.piece(90)])
    times = np.unique(rows["time"].cast(pa.int64()).to_numpy())
    assert times.tolist() == [fleet.START + fleet.STEP * i for i in range(180)]
    gpu = rows.filter(pc.equal(rows["gpu_uuid"].cast(pa.string()), made.uuids[5]))
    steps = np.diff(gpu["energy_mj"].to_numpy())
    # 10 s at 50 to 750 W, also across the seam; a reload of the driver starts again at 0
    assert np.all((steps < 0) | ((steps > 500_000) & (steps < 7_600_000)))
    assert np.abs(np.diff(gpu["gpu_temp"].to_numpy())).max() < 10


def test_fleet_has_the_resolution_of_drivers() -> None:
    rows = pa.Table.from_batches([fleet.Fleet(200).piece(360)])
    columns = {name: rows[name].to_numpy() for name in fleet.FIELDS}
    for name in ("gpu_temp", "memory_temp", "gpu_utilization", "mem_copy_utilization"):
        assert np.all(columns[name] == np.round(columns[name])), name
    assert np.all(columns["sm_clock_mhz"] % 15 == 0)
    assert np.all(columns["fb_used_bytes"] % 2**20 == 0)
    assert np.all(columns["pcie_tx_bytes_per_sec"] % 1000 == 0)
    for name in ("sm_active", "tensor_active", "dram_active"):
        assert columns[name].min() >= 0
        assert columns[name].max() <= 1
        assert 8 < bits(columns[name]) < 20, name
    assert 0.05 < np.mean(columns["throttle_reasons"] == 1) < 0.5
    assert bits(columns["ecc_sbe_volatile"]) < 0.5
    assert bits(np.diff(columns["fb_used_bytes"].reshape(360, 200), axis=0)) < 1
    assert 2 < bits(columns["gpu_utilization"]) < 6.7


def test_fleet_batches() -> None:
    made = list(fleet.batches(1, gpus=50))
    assert sum(batch.num_rows for batch in made) == 360 * 50
    assert max(batch.num_rows for batch in made) == fleet.BATCH
    assert made[0].schema == fleet.SCHEMA
    assert len(fleet.FIELDS) == 17


def test_host_mix() -> None:
    times, values = host.scrapes(120)
    assert values.shape == (120, 507)
    assert len({(one.name, *sorted(one.labels.items())) for one in host.series()}) == 507
    assert np.all(np.diff(times) > 900_000)
    constant = np.all(values == values[0], axis=0)
    assert 0.6 < constant.mean() < 0.8
    counters = np.array([one.kind == "counter" for one in host.series()])
    assert np.all(np.diff(values[:, counters], axis=0) >= 0)
    assert np.array_equal(values, host.scrapes(120)[1])


def test_tsbs_walks() -> None:
    rows = pa.Table.from_batches(tsbs.batches(hosts=20, steps=300))
    assert rows.num_rows == 6000
    assert rows.schema == tsbs.SCHEMA
    one = rows.filter(pc.equal(rows["hostname"].cast(pa.string()), "host_3"))
    for field in tsbs.FIELDS:
        values = one[field].to_numpy()
        assert values.min() >= 0
        assert values.max() <= 100
        assert np.abs(np.diff(values)).max() <= 6
