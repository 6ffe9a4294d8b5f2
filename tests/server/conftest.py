"""Servers that several test files share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import httpx
import pytest

from kymograph.collect.host import HostCollector
from kymograph.collect.simulate import SimulateCollector
from kymograph.model.time import SECOND
from kymograph.server.state import ServerState
from kymograph.store.metrics import Sample
from tests.server.running import Running, eventually, running

GPUS = 2
ROWS = 300


def gpu_rows(state: ServerState) -> None:
    """Two GPUs, one row a second each for the last 300 s; values follow from the row's number."""
    now = time.time_ns() // 1000 // SECOND * SECOND
    store = state.slot.get()
    for gpu in range(GPUS):
        store.write(
            "gpu_metrics",
            {
                "time": [now - (ROWS - n) * SECOND for n in range(ROWS)],
                "gpu_uuid": f"GPU-{gpu}",
                "hostname": "demo",
                "pci_bus_id": f"0000:0{gpu}:00.0",
                "name": "Test GPU",
                "source": "nvml",
                "device_index": [gpu] * ROWS,
                "gpu_temp": [40.0 + n % 10 for n in range(ROWS)],
                "fan_speed": [30.0] * ROWS,
                "power_usage": [100.0 * (gpu + 1)] * ROWS,
                "sm_clock_mhz": [1500 + gpu] * ROWS,
                "mem_clock_mhz": [2000] * ROWS,
                "base_clock_mhz": [1000] * ROWS,
                "max_clock_mhz": [2500] * ROWS,
                "boost_active": [n == 0 for n in range(ROWS)],
                "gpu_utilization": [float(n % 100) for n in range(ROWS)],
                "fb_used_bytes": [n * 2**20 for n in range(ROWS)],
                "fb_total_bytes": [80 * 2**30] * ROWS,
            },
        )
    store.record([Sample("cpu_percent", float(n), {"host": "demo"}, now - n * SECOND) for n in range(10)])


@pytest.fixture(scope="module")
def recorded() -> Iterator[Running]:
    """A server over rows that are known; nothing is recorded meanwhile."""
    with running(prepare=gpu_rows) as server:
        yield server


@pytest.fixture(scope="module")
def living() -> Iterator[Running]:
    """A server that records three simulated GPUs and this machine five times a second."""
    collectors = [partial(SimulateCollector, 3, 200_000), partial(HostCollector, 200_000)]
    with running(collectors=collectors) as server:
        hub = server.state.hub
        assert eventually(lambda: '"gpus":[{' in hub.frame() and '"cpu_percent"' in hub.frame())
        assert eventually(lambda: server.state.slot.rows)  # what is shown is stored by another thread
        yield server


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server over a store in a folder that is empty at first."""
    with running(tmp_path_factory.mktemp("store")) as server:
        yield server


@pytest.fixture
def http(served: Running) -> Iterator[httpx.Client]:
    with served.client() as client:
        yield client
