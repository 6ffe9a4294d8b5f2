"""Host metrics: CPU, memory, disks, network, load, processes, temperatures.

Series of the machine as a whole carry the label `host`; those of one part carry `host` and `device`:
`cpu0`, a mount point, a disk, a network interface, a sensor. No metric mixes the two, so a sum over
`device` counts nothing twice. Left out because they come and go or repeat others: loopback, the
container ends of virtual Ethernet pairs, loop and RAM disks, partitions of a disk.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from kymograph.collect.batch import Batch
from kymograph.collect.interface import checked_interval
from kymograph.store.metrics import Sample
from kymograph.store.naming import Kind

log = logging.getLogger("kymograph.collect")

# name: kind, unit, help
METRICS: dict[str, tuple[Kind, str, str]] = {
    "cpu_percent": ("gauge", "percent", "Share of all cores' time not idle since the last sample"),
    "cpu_core_percent": ("gauge", "percent", "Share of one core's time not idle since the last sample"),
    "load1": ("gauge", "", "Load average over 1 minute"),
    "load5": ("gauge", "", "Load average over 5 minutes"),
    "load15": ("gauge", "", "Load average over 15 minutes"),
    "mem_used_percent": ("gauge", "percent", "Share of memory not available to new work"),
    "mem_used_bytes": ("gauge", "bytes", "Memory in use"),
    "mem_available_bytes": ("gauge", "bytes", "Memory available to new work without swapping"),
    "mem_total_bytes": ("gauge", "bytes", "Memory of the machine"),
    "swap_used_percent": ("gauge", "percent", "Share of swap space in use"),
    "disk_used_percent": ("gauge", "percent", "Share of a file system in use, as df shows it"),
    "disk_used_bytes": ("gauge", "bytes", "Bytes of a file system in use"),
    "disk_total_bytes": ("gauge", "bytes", "Size of a file system"),
    "disk_bytes_read": ("counter", "bytes", "Bytes read from a disk"),
    "disk_bytes_written": ("counter", "bytes", "Bytes written to a disk"),
    "disk_reads": ("counter", "", "Reads a disk completed"),
    "disk_writes": ("counter", "", "Writes a disk completed"),
    "net_bytes_sent": ("counter", "bytes", "Bytes sent by a network interface"),
    "net_bytes_recv": ("counter", "bytes", "Bytes received by a network interface"),
    "net_packets_sent": ("counter", "", "Packets sent by a network interface"),
    "net_packets_recv": ("counter", "", "Packets received by a network interface"),
    "net_errors_sent": ("counter", "", "Errors while sending"),
    "net_errors_recv": ("counter", "", "Errors while receiving"),
    "processes": ("gauge", "", "Processes that exist"),
    "temperature_celsius": ("gauge", "celsius", "Reading of a temperature sensor"),
    "uptime_seconds": ("gauge", "seconds", "Time since the machine was started"),
}

DESCRIBE = {
    name: {key: text for key, text in (("kind", kind), ("unit", unit), ("help", about)) if text}
    for name, (kind, unit, about) in METRICS.items()
}

# (metric, device or "", value)
Reading = tuple[str, str, float]


class HostCollector:
    """This machine through psutil. What the machine does not show (sensors in a container) is left out;
    one part that fails takes no other with it and is logged once."""

    def __init__(self, interval: int = 1_000_000, *, host: str | None = None) -> None:
        """`host` is the label; None is the machine's name."""
        self.name = "host"
        self.interval = checked_interval(interval)
        self._host = host or socket.gethostname()
        self._cpu: np.ndarray[Any, np.dtype[np.float64]] | None = None
        self._broken: set[str] = set()
        self._labels: dict[str, dict[str, str]] = {"": {"host": self._host}}
        self._parts: tuple[Callable[[], Iterator[Reading]], ...] = (
            self._processors,
            _load,
            _memory,
            _swap,
            _filesystems,
            _disks,
            _network,
            _processes,
            _temperatures,
            _uptime,
        )

    def collect(self, now: int) -> Batch:
        """One sample per metric and device; CPU shares from the second turn on."""
        samples = []
        for part in self._parts:
            try:
                for metric, device, value in part():
                    samples.append(Sample(metric, float(value), self._label(device), now, METRICS[metric][0]))
            except Exception as problem:
                if part.__name__ not in self._broken:
                    log.warning("host metrics without %s: %s", part.__name__.lstrip("_"), problem)
                self._broken.add(part.__name__)
        return Batch(self.name, now, samples=samples, describe=DESCRIBE)

    def close(self) -> None:
        self._cpu = None

    def _label(self, device: str) -> dict[str, str]:
        labels = self._labels.get(device)
        if labels is None:
            labels = self._labels[device] = {"host": self._host, "device": device}
        return labels

    def _processors(self) -> Iterator[Reading]:
        # not psutil.cpu_percent: its memory of the last call is per thread and process-wide
        spent = np.array([_busy_total(core) for core in psutil.cpu_times(percpu=True)], np.float64)
        before, self._cpu = self._cpu, spent
        if before is None or before.shape != spent.shape:
            return
        busy, total = np.maximum(spent - before, 0.0).T
        if total.sum() > 0:
            yield "cpu_percent", "", _share(busy.sum(), total.sum())
        for core in np.flatnonzero(total > 0):
            yield "cpu_core_percent", f"cpu{core}", _share(busy[core], total[core])


def _busy_total(core: Any) -> tuple[float, float]:
    """Seconds busy and seconds in all of one core; guest time is already part of user time."""
    total = sum(core) - getattr(core, "guest", 0.0) - getattr(core, "guest_nice", 0.0)
    return total - core.idle - getattr(core, "iowait", 0.0), total


def _share(busy: float, total: float) -> float:
    # the kernel counts in hundredths of a second; digits beyond are noise of the subtraction
    return round(min(100.0, 100.0 * float(busy) / float(total)), 2)


def _load() -> Iterator[Reading]:
    for name, value in zip(("load1", "load5", "load15"), psutil.getloadavg(), strict=True):
        yield name, "", value


def _memory() -> Iterator[Reading]:
    memory = psutil.virtual_memory()
    yield "mem_used_percent", "", memory.percent
    yield "mem_used_bytes", "", memory.used
    yield "mem_available_bytes", "", memory.available
    yield "mem_total_bytes", "", memory.total


def _swap() -> Iterator[Reading]:
    yield "swap_used_percent", "", psutil.swap_memory().percent


def _filesystems() -> Iterator[Reading]:
    """Local file systems, each once; asking a network file system may never return."""
    mounts: dict[str, str] = {}
    for part in psutil.disk_partitions(all=False):
        if part.device.startswith("/dev/loop"):
            continue
        # containers mount single files from the same device; the shortest path is its real place
        if part.device not in mounts or len(part.mountpoint) < len(mounts[part.device]):
            mounts[part.device] = part.mountpoint
    # a container's root is an overlay, which is no device
    for mount in sorted({*mounts.values(), os.path.abspath(os.sep)}):
        try:
            usage = psutil.disk_usage(mount)
        except OSError:
            continue
        if usage.total:
            yield "disk_used_percent", mount, usage.percent
            yield "disk_used_bytes", mount, usage.used
            yield "disk_total_bytes", mount, usage.total


def _disks() -> Iterator[Reading]:
    whole = _whole_disks()
    for disk, count in (psutil.disk_io_counters(perdisk=True) or {}).items():
        if disk.startswith(("loop", "ram", "zram")) or (whole and disk not in whole):
            continue
        yield "disk_bytes_read", disk, count.read_bytes
        yield "disk_bytes_written", disk, count.write_bytes
        yield "disk_reads", disk, count.read_count
        yield "disk_writes", disk, count.write_count


def _whole_disks() -> set[str]:
    """Names of disks without their partitions; empty where the system does not say."""
    try:
        return set(os.listdir("/sys/block"))
    except OSError:
        return set()


def _network() -> Iterator[Reading]:
    for name, count in (psutil.net_io_counters(pernic=True) or {}).items():
        if name.startswith("veth") or _is_loopback(name):
            continue
        yield "net_bytes_sent", name, count.bytes_sent
        yield "net_bytes_recv", name, count.bytes_recv
        yield "net_packets_sent", name, count.packets_sent
        yield "net_packets_recv", name, count.packets_recv
        yield "net_errors_sent", name, count.errout
        yield "net_errors_recv", name, count.errin


def _is_loopback(name: str) -> bool:
    try:
        # 772 is ARPHRD_LOOPBACK
        return Path(f"/sys/class/net/{name}/type").read_text().strip() == "772"
    except OSError:
        return name in ("lo", "lo0")


def _processes() -> Iterator[Reading]:
    yield "processes", "", len(psutil.pids())


def _temperatures() -> Iterator[Reading]:
    read = getattr(psutil, "sensors_temperatures", dict)
    seen: set[str] = set()
    for chip, sensors in read().items():
        for index, sensor in enumerate(sensors):
            device = f"{chip}/{sensor.label or index}"
            if device in seen:
                device = f"{device} {index}"
            seen.add(device)
            if sensor.current is not None:
                yield "temperature_celsius", device, sensor.current


def _uptime() -> Iterator[Reading]:
    yield "uptime_seconds", "", round(time.time() - psutil.boot_time(), 2)
