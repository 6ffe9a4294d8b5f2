"""A GPU fleet as its collectors report it: 17 fields per GPU every 10 s, believable in value, resolution and memory.

What decides compression is kept as the drivers report it: whole degrees and percents, power in mW, clocks in steps of
15 MHz, framebuffer in MiB that stay put during a job, energy as a counter in mJ, activity ratios with six decimals,
PCIe throughput in kB/s, ECC counters that hardly ever move and start again at 0 when a driver is reloaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from bench.data.jobs import IDLE, INTERACTIVE, TRAINING, Floats, Ints, Jobs, Loads

START = 1_772_409_600_000_000  # 2026-03-02T00:00:00Z in µs
STEP = 10_000_000
STEPS_PER_PIECE = 360
BATCH = 10_000
GPUS_PER_HOST = 8

TABLE = "gpu_metrics"
SCORES = "gpu_scores"
LABELS = ("gpu_uuid", "hostname")
FIELDS: dict[str, pa.DataType] = {
    "gpu_temp": pa.float32(),
    "memory_temp": pa.float32(),
    "power_usage": pa.float32(),
    "energy_mj": pa.int64(),
    "sm_clock_mhz": pa.int32(),
    "mem_clock_mhz": pa.int32(),
    "gpu_utilization": pa.float32(),
    "mem_copy_utilization": pa.float32(),
    "fb_used_bytes": pa.int64(),
    "throttle_reasons": pa.int64(),
    "ecc_sbe_volatile": pa.int64(),
    "ecc_dbe_volatile": pa.int64(),
    "pcie_tx_bytes_per_sec": pa.int64(),
    "pcie_rx_bytes_per_sec": pa.int64(),
    "sm_active": pa.float32(),
    "tensor_active": pa.float32(),
    "dram_active": pa.float32(),
}
_LABEL = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [("time", pa.timestamp("us", tz="UTC")), *((label, _LABEL) for label in LABELS), *FIELDS.items()],
)

_LIMIT_W = 700.0
_TOP_MHZ = 1980
# NVML clocks event reasons
_GPU_IDLE, _SW_POWER_CAP, _SW_THERMAL = 0x1, 0x4, 0x20


class Fleet:
    """Generates a fleet piece by piece; state carries over, so pieces join without a seam.

    Args:
        gpus: how many.
        seed: same seed, same data, whatever the number of pieces taken.
        start: time of the first step, µs.
    """

    def __init__(self, gpus: int = 1000, seed: int = 1, start: int = START) -> None:
        self.gpus, self._start, self._done = gpus, start, 0
        rng = self._rng = np.random.default_rng(seed)
        self._jobs = Jobs(gpus, GPUS_PER_HOST, rng)
        self._drift = rng.standard_normal(gpus)
        self._inlet = rng.normal(27, 2, gpus)
        # kelvin per watt; one GPU in a hundred is badly cooled
        self._resistance = rng.normal(0.052, 0.003, gpus) + 0.03 * (rng.random(gpus) < 0.01)
        self._temperature = self._inlet + self._resistance * 75
        self._idle_w = rng.normal(72, 3, gpus)
        self._energy = rng.integers(10**9, 10**12, gpus)
        self._sbe_rate = np.where(rng.random(gpus) < 0.02, 10 ** rng.uniform(-4, -2.3, gpus), 1e-7)
        self._dbe_rate = np.where(rng.random(gpus) < 0.01, 1e-4, 0.0)
        self._ecc = np.zeros((2, gpus), np.int64)
        self._base_mib = rng.integers(450, 620, gpus)
        host = np.arange(gpus) // GPUS_PER_HOST
        self.uuids = [
            f"GPU-{a:08x}-{b:04x}-{i:04x}" for i, (a, b) in enumerate(rng.integers(0, [2**32, 2**16], (gpus, 2)))
        ]
        self._uuids = pa.array(self.uuids)
        self._hosts = pa.array([f"node-{h:04d}" for h in range(int(host[-1]) + 1)])
        self._host = host.astype(np.int32)

    def piece(self, steps: int = STEPS_PER_PIECE) -> pa.RecordBatch:
        """The next `steps` steps of all GPUs, in the order they are collected: by time, then by GPU."""
        loads = self._jobs.advance(steps)
        columns = self._columns(loads, steps)
        times = self._start + STEP * (self._done + np.arange(steps, dtype=np.int64))
        self._done += steps
        arrays = [pa.array(np.repeat(times, self.gpus), pa.timestamp("us")).cast(SCHEMA.field("time").type)]
        gpu = np.tile(np.arange(self.gpus, dtype=np.int32), steps)
        arrays.append(pa.DictionaryArray.from_arrays(pa.array(gpu), self._uuids))
        arrays.append(pa.DictionaryArray.from_arrays(pa.array(np.tile(self._host, steps)), self._hosts))
        for name, kind in FIELDS.items():
            arrays.append(pa.array(columns[name].ravel().astype(kind.to_pandas_dtype())))
        return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)

    def _columns(self, loads: Loads, steps: int) -> dict[str, Any]:
        rng, shape = self._rng, (steps, self.gpus)
        active = loads.kind != IDLE
        activity = self._activity(loads, shape)
        sm = _ratio(loads.sm * activity * (1 + 0.01 * rng.standard_normal(shape)))
        tensor = _ratio(loads.tensor * activity * (1 + 0.015 * rng.standard_normal(shape)))
        dram = _ratio(loads.dram * activity * (1 + 0.01 * rng.standard_normal(shape)))
        wanted = self._idle_w + 45 * active + 420 * sm + 330 * tensor + 150 * dram
        capped = wanted > _LIMIT_W
        noise = rng.standard_normal(shape) * np.where(active, 0.012 * wanted, 0.15)
        power = np.round((np.minimum(wanted, _LIMIT_W) + noise) * 1000)
        temperature = self._warm(power / 1000)
        thermal = temperature > 84
        slower = np.where(capped, (wanted - _LIMIT_W) * 1.5, 0) + np.where(thermal, 90, 0)
        energy, ecc = self._counters(power, shape)
        busy = np.where(loads.kind == TRAINING, np.minimum(1, activity * 1.04), np.minimum(1, sm * 1.5))
        return {
            "gpu_temp": np.round(temperature),
            "memory_temp": np.round(temperature + 5 + 9 * dram),
            "power_usage": power / 1000,
            "energy_mj": energy,
            "sm_clock_mhz": np.where(active, _TOP_MHZ - 15 * np.round(slower / 15), 345),
            "mem_clock_mhz": np.full(shape, 2619),
            "gpu_utilization": np.round(100 * np.where(active, busy, 0)),
            "mem_copy_utilization": np.round(80 * dram),
            "fb_used_bytes": self._memory(loads) << 20,
            "throttle_reasons": np.where(active, 0, _GPU_IDLE) + _SW_POWER_CAP * capped + _SW_THERMAL * thermal,
            "ecc_sbe_volatile": ecc[0],
            "ecc_dbe_volatile": ecc[1],
            "pcie_tx_bytes_per_sec": self._transfer(loads, activity, 0.2),
            "pcie_rx_bytes_per_sec": self._transfer(loads, activity, 1.0),
            "sm_active": sm,
            "tensor_active": tensor,
            "dram_active": dram,
        }

    def _activity(self, loads: Loads, shape: tuple[int, int]) -> Floats:
        """How much of its usual load each job runs, 0 to 1.3: slow drift, checkpoints, and bursts of typing people."""
        shocks = self._rng.standard_normal(shape) * np.sqrt(1 - 0.9**2)
        drift = np.empty(shape)
        for step in range(shape[0]):
            self._drift = drift[step] = 0.9 * self._drift + shocks[step]
        activity = np.clip(1 + loads.unrest * drift, 0, 1.3)
        activity[(loads.kind == INTERACTIVE) & (drift < 0.4)] = 0
        paused = (loads.age % loads.pause_every) < loads.pause_for
        return np.where(paused, 0.08 * activity, activity)

    def _warm(self, watts: Floats) -> Floats:
        """Temperature in °C: a first-order lag of about 80 s behind the power."""
        out = np.empty_like(watts)
        for step in range(len(watts)):
            target = self._inlet + self._resistance * watts[step]
            self._temperature = out[step] = self._temperature + 0.12 * (target - self._temperature)
        return out

    def _memory(self, loads: Loads) -> Ints:
        """MiB in use: constant during a job after a short ramp while it loads."""
        ramp = np.minimum(loads.age + 1, 4) / 4
        ramped: Ints = (loads.memory_mib * ramp).astype(np.int64)
        return self._base_mib + ramped

    def _transfer(self, loads: Loads, activity: Floats, share: float) -> Ints:
        """Bytes per second over PCIe, in whole kB as the driver samples them."""
        spread = np.exp(0.25 * self._rng.standard_normal(activity.shape))
        quiet = self._rng.integers(200, 900, activity.shape)
        thousands: Ints = np.round(loads.host_bytes * share * activity * spread / 1000 + quiet).astype(np.int64)
        return thousands * 1000

    def _counters(self, milliwatts: Floats, shape: tuple[int, int]) -> tuple[Ints, Ints]:
        """Energy in mJ and the two ECC counters; a driver reload (rare, per host) starts all three again at 0."""
        rng = self._rng
        # 10 s at the mean power between two readings, which is not quite the power read
        joules = np.round(milliwatts * 10 * (1 + 0.003 * rng.standard_normal(shape))).astype(np.int64)
        hits = [rng.random(shape) < self._sbe_rate, rng.random(shape) < self._dbe_rate]
        errors = np.stack(hits).astype(np.int64)
        energy = self._energy + np.cumsum(joules, axis=0)
        ecc = self._ecc[:, None, :] + np.cumsum(errors, axis=1)
        for host in np.flatnonzero(rng.random(len(self._hosts)) < 0.004 * shape[0] / STEPS_PER_PIECE):
            at, gpus = int(rng.integers(shape[0])), self._host == host
            energy[at:, gpus] -= energy[at, gpus]
            ecc[:, at:, gpus] -= ecc[:, at, gpus][:, None, :]
        self._energy, self._ecc = energy[-1].copy(), ecc[:, -1].copy()
        return energy, ecc


def _ratio(values: Floats) -> Floats:
    return np.round(np.clip(values, 0, 1), 6)


def batches(hours: int, gpus: int = 1000, seed: int = 1) -> Iterator[pa.RecordBatch]:
    """The fleet in batches of 10,000 rows (the last of a piece may be smaller), an hour in memory at a time."""
    fleet = Fleet(gpus, seed)
    for _ in range(hours):
        piece = fleet.piece()
        for at in range(0, piece.num_rows, BATCH):
            yield piece.slice(at, BATCH)


def scores(hours: int, gpus: int = 1000, seed: int = 1) -> pa.Table:
    """A health score per GPU every 15 minutes: what `worst10` asks. Columns time, gpu_uuid, score (float64, 0 to 100)."""
    rng = np.random.default_rng(seed + 1)
    steps = 4 * hours
    level = 100 - np.abs(rng.normal(0, 8, gpus))
    values = np.clip(np.round(level + rng.normal(0, 0.4, (steps, gpus)), 3), 0, 100)
    times = START + 900_000_000 * np.repeat(np.arange(steps, dtype=np.int64), gpus)
    uuids = pa.array(Fleet(gpus, seed).uuids)
    gpu = pa.array(np.tile(np.arange(gpus, dtype=np.int32), steps))
    return pa.table(
        {
            "time": pa.array(times, pa.timestamp("us")).cast(SCHEMA.field("time").type),
            "gpu_uuid": pa.DictionaryArray.from_arrays(gpu, uuids),
            "score": values.ravel(),
        }
    )
