"""NVIDIA GPUs through NVML: a row per GPU and interval, and every power sample of the driver's buffer."""

from __future__ import annotations

import importlib
import logging
import socket
import time
from typing import Any

import pyarrow as pa

from kymograph.collect.batch import Batch
from kymograph.collect.gpu import GPU_FIELDS, GPU_SCHEMA, POWER_SCHEMA
from kymograph.collect.interface import checked_interval
from kymograph.collect.nvml_ask import check_gone
from kymograph.collect.nvml_device import Device
from kymograph.errors import MissingDependency, NotFound

log = logging.getLogger("kymograph.collect")

# Share of the interval that measuring PCIe traffic may take; the driver listens 20 ms per direction.
_PCIE_SHARE = 0.25
# Pause before looking for lost GPUs again, s; doubled each time up to the second.
_LOOK_FIRST, _LOOK_MOST = 30.0, 600.0


class NvmlCollector:
    """All GPUs of this machine. One that is lost leaves the others alone and comes back when the driver
    finds it again; meanwhile `Batch.problem` names it, until the collector is made anew.

    PCIe traffic is measured in turns when all GPUs together would take more than a quarter of the
    interval, and null for those whose turn it is not.
    """

    def __init__(self, interval: int = 1_000_000, *, host: str | None = None, api: Any = None) -> None:
        """
        Args:
            interval: µs between rows.
            host: the label `hostname`; None is the machine's name.
            api: what has NVML's functions and constants under the names of pynvml; None is pynvml.
        """
        self.name = "nvml"
        self.interval = checked_interval(interval)
        self._host = host or socket.gethostname()
        self._api = api
        self._ready = False
        self._devices: list[Device] = []
        self._power_seen: dict[str, int] = {}
        self._known: set[str] = set()
        self._lost: dict[str, str] = {}
        self._look_at = 0.0
        self._look_pause = _LOOK_FIRST
        self._credit = 0.0
        self._turn = 0

    def collect(self, now: int) -> Batch:
        """Rows of `gpu_metrics` and `gpu_power`.

        Raises:
            MissingDependency: no driver, no library or no GPU.
        """
        rows: list[tuple[Device, dict[str, Any]]] = []
        power: list[tuple[Device, list[tuple[int, float]]]] = []
        try:
            if not self._ready or (self._lost and time.monotonic() >= self._look_at):
                self._discover()
            measured = self._pcie_turns()
            for device in list(self._devices):
                try:
                    rows.append((device, device.read(pcie=device in measured)))
                    power.append((device, device.power_samples()))
                except NotFound as lost:
                    self._lose(device, str(lost))
        except MissingDependency:
            self.close()
            raise
        problem = "; ".join(f"{gpu}: {why}" for gpu, why in self._lost.items())
        return Batch(self.name, now, self._tables(now, rows, power), problem=problem)

    def close(self) -> None:
        """Let go of the driver."""
        for device in self._devices:
            self._power_seen[device.uuid] = device.power_seen
            device.close()
        self._devices = []
        if self._ready:
            self._ready = False
            try:
                self._api.nvmlShutdown()
            except self._api.NVMLError as problem:
                log.debug("nvmlShutdown: %s", problem)

    def _discover(self) -> None:
        """Start the driver's library anew, which is what makes it look again, and list its GPUs."""
        self.close()
        if self._api is None:
            try:
                self._api = importlib.import_module("pynvml")
            except ImportError as problem:
                raise MissingDependency(f"no NVIDIA bindings: {problem}", hint="pip install nvidia-ml-py") from None
        try:
            self._api.nvmlInit()
        except self._api.NVMLError as problem:
            raise MissingDependency(f"no NVIDIA driver: {problem}") from None
        self._ready = True
        try:
            count = self._api.nvmlDeviceGetCount()
        except self._api.NVMLError as problem:
            raise MissingDependency(f"no working NVIDIA driver: {problem}") from None
        silent = {f"GPU {index}": why for index in range(count) if (why := self._open(index))}
        missing = self._known - {device.uuid for device in self._devices}
        # a GPU that does not answer cannot be told apart; the ones missed have names
        why = "; ".join(f"{gpu}: {why}" for gpu, why in silent.items()) or "not found by the driver"
        self._lost = dict.fromkeys(sorted(missing), why) or silent
        if not count and not missing:
            raise MissingDependency("the NVIDIA driver finds no GPU")
        self._look_pause = min(2 * self._look_pause, _LOOK_MOST) if self._lost else _LOOK_FIRST
        self._look_at = time.monotonic() + self._look_pause

    def _open(self, index: int) -> str:
        """Start observing a GPU; what is wrong with it, or ""."""
        try:
            try:
                handle = self._api.nvmlDeviceGetHandleByIndex(index)
            except self._api.NVMLError as problem:
                check_gone(problem)
                raise NotFound(str(problem)) from None
            device = Device(self._api, handle, index)
        except NotFound as lost:
            return str(lost)
        device.power_seen = self._power_seen.get(device.uuid, 0)
        self._known.add(device.uuid)
        self._devices.append(device)
        return ""

    def _lose(self, device: Device, why: str) -> None:
        log.warning("GPU %s is lost: %s", device.uuid, why)
        self._devices.remove(device)
        self._power_seen[device.uuid] = device.power_seen
        device.close()
        if not self._lost:
            self._look_pause = _LOOK_FIRST
            self._look_at = time.monotonic() + self._look_pause
        self._lost[device.uuid] = why

    def _pcie_turns(self) -> list[Device]:
        """The GPUs whose traffic to measure now: as many as the time saved up allows, in turns."""
        if not self._devices:
            return []
        share = self.interval / 1e6 * _PCIE_SHARE
        cost = 0.04
        self._credit = min(self._credit + share, max(share, cost * len(self._devices)))
        turns = min(len(self._devices), int(self._credit / cost))
        chosen = [self._devices[(self._turn + each) % len(self._devices)] for each in range(turns)]
        self._credit -= turns * cost
        self._turn += turns
        return chosen

    def _tables(
        self,
        now: int,
        rows: list[tuple[Device, dict[str, Any]]],
        power: list[tuple[Device, list[tuple[int, float]]]],
    ) -> dict[str, pa.Table]:
        tables = {}
        if rows:
            columns: dict[str, Any] = {
                "time": [now] * len(rows),
                "gpu_uuid": [device.uuid for device, _ in rows],
                "hostname": [self._host] * len(rows),
                "pci_bus_id": [device.bus for device, _ in rows],
                "name": [device.name for device, _ in rows],
                "source": ["nvml"] * len(rows),
            }
            columns |= {field: [row[field] for _, row in rows] for field in GPU_FIELDS}
            tables[GPU_SCHEMA.name] = pa.table(columns, schema=GPU_SCHEMA.arrow)
        taken = [(device.uuid, at, watts) for device, samples in power for at, watts in samples]
        if taken:
            columns = {
                "time": [at for _, at, _ in taken],
                "gpu_uuid": [uuid for uuid, _, _ in taken],
                "hostname": [self._host] * len(taken),
                "power": [watts for _, _, watts in taken],
            }
            tables[POWER_SCHEMA.name] = pa.table(columns, schema=POWER_SCHEMA.arrow)
        return tables
