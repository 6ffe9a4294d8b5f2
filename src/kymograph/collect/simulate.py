"""Simulated GPUs, for demonstrations and load: same tables as real ones, labelled `source="simulated"`."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa

from kymograph.collect.batch import Batch
from kymograph.collect.gpu import GPU_FIELDS, GPU_LABELS, GPU_SCHEMA
from kymograph.collect.interface import checked_interval
from kymograph.collect.workload import CLOCK_BASE, CLOCK_IDLE, CLOCK_MAX, MEMORY, POWER_LIMIT, Workload
from kymograph.errors import InvalidInput
from kymograph.model.schema import FIELD_TYPES, LABEL_TYPE
from kymograph.model.time import TIME_TYPE

GPUS_PER_HOST = 8
GPUS_MOST = 100_000
NAME = "NVIDIA H100 80GB HBM3"


class SimulateCollector:
    """`count` GPUs on hosts of eight; seeded, so the same seed and times give the same rows.

    `device_index` counts through all GPUs, so that it names one GPU of a demonstration.
    """

    def __init__(self, count: int, interval: int = 1_000_000, *, seed: int = 0) -> None:
        """
        Args:
            count: GPUs, 1 to 100,000.
            interval: µs between rows.
            seed: of everything random.

        Raises:
            InvalidInput: a count or interval out of range.
        """
        if not 1 <= count <= GPUS_MOST:
            raise InvalidInput(f"cannot simulate {count} GPUs", hint=f"1 to {GPUS_MOST:,}")
        self.name = "simulate"
        self.interval = checked_interval(interval)
        self._count, self._seed = count, seed
        self._workload: Workload | None = None
        self._labels: dict[str, pa.Array] = {}

    def collect(self, now: int) -> Batch:
        """One row per GPU in `gpu_metrics`, columns and types of `GPU_SCHEMA`."""
        began = time.perf_counter()
        if self._workload is None:
            self._workload = Workload(self._count, self._seed, now / 1e6)
            self._labels = _labels(self._count, self._seed)
        else:
            self._workload.advance(now / 1e6)
        values = _values(self._workload)
        values["collection_latency_ms"] = np.full(self._count, (time.perf_counter() - began) * 1000)
        columns = [pa.array(np.full(self._count, now, np.int64)).view(TIME_TYPE)]
        columns += [self._labels[label] for label in GPU_LABELS]
        for field, kind in GPU_FIELDS.items():
            columns.append(_column(values.get(field), FIELD_TYPES[kind], self._count))
        return Batch(self.name, now, {GPU_SCHEMA.name: pa.Table.from_arrays(columns, schema=GPU_SCHEMA.arrow)})

    def close(self) -> None:
        self._workload = None


def _column(values: Any, kind: pa.DataType, count: int) -> pa.Array:
    if values is None:
        return pa.nulls(count, kind)
    return pa.array(np.asarray(values).astype(kind.to_pandas_dtype(), copy=False))


def _labels(count: int, seed: int) -> dict[str, pa.Array]:
    index = np.arange(count, dtype=np.int32)
    hosts = -(-count // GPUS_PER_HOST)
    uuids = [f"GPU-51300000-{seed & 0xFFFF:04x}-4000-8000-{i:012x}" for i in range(count)]
    # the slots of an eight-GPU board
    slots = [f"00000000:{bus:02X}:00.0" for bus in (0x1B, 0x43, 0x52, 0x61, 0x9D, 0xC3, 0xD1, 0xDF)]
    one = np.zeros(count, np.int32)
    return {
        "gpu_uuid": _dictionary(index, uuids),
        "hostname": _dictionary(index // GPUS_PER_HOST, [f"sim-{i:04d}" for i in range(hosts)]),
        "pci_bus_id": _dictionary(index % GPUS_PER_HOST, slots),
        "name": _dictionary(one, [NAME]),
        "source": _dictionary(one, ["simulated"]),
    }


def _dictionary(indices: Any, values: list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(values)).cast(LABEL_TYPE)


def _values(state: Workload) -> dict[str, Any]:
    """Every field but those this board has not: fans."""
    count = len(state.power)
    used = np.minimum(state.memory, MEMORY)
    return {
        "device_index": np.arange(count),
        "gpu_temp": np.round(state.temperature),
        "memory_temp": np.round(state.memory_temperature),
        "power_usage": np.round(np.clip(state.power, 0, POWER_LIMIT), 2),
        "power_limit": np.full(count, POWER_LIMIT),
        "energy_mj": state.energy,
        "sm_clock_mhz": state.clock,
        "mem_clock_mhz": np.where(state.clock > CLOCK_IDLE, 2619, 1593),
        "base_clock_mhz": np.full(count, CLOCK_BASE),
        "max_clock_mhz": np.full(count, CLOCK_MAX),
        "boost_active": state.clock > CLOCK_BASE,
        "gpu_utilization": state.utilization,
        "mem_copy_utilization": np.round(100 * state.dram),
        "fb_used_bytes": used,
        "fb_free_bytes": MEMORY - used.astype(np.int64),
        "fb_total_bytes": np.full(count, MEMORY),
        "memory_utilization": 100 * used / MEMORY,
        "throttle_reasons": state.reasons,
        "ecc_sbe_volatile": state.sbe,
        "ecc_dbe_volatile": state.dbe,
        "ecc_sbe_aggregate": state.sbe_before + state.sbe,
        "ecc_dbe_aggregate": state.dbe,
        "retired_pages_dbe": state.dbe,
        "pcie_tx_bytes_per_sec": state.sent,
        "pcie_rx_bytes_per_sec": state.received,
        "sm_active": state.sm_active,
        "sm_occupancy": state.occupancy,
        "tensor_active": state.tensor,
        "dram_active": state.dram,
    }
