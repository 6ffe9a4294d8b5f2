"""What a node exporter on a small Linux host gives: 507 series per scrape, most of them constant.

The mix follows 137 real scrapes, one second apart: two series in three never move, one in ten is a duration with
nanosecond noise, the rest are counters in ticks of 10 ms, byte gauges in pages, and values that move once in a while.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

START = 1_772_409_600_000_000  # 2026-03-02T00:00:00Z in µs
INTERVAL = 1_000_000

Floats = np.ndarray[Any, Any]
Times = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Series:
    """One scalar series of the scrape: its name, labels, kind, and how it moves."""

    name: str
    labels: dict[str, str]
    kind: str
    behaviour: str


_MODES = ("idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user")
_FAST_MODES = ("idle", "system", "user")


def series() -> list[Series]:
    """The 507 series, always in the same order."""
    found = []
    for cpu in "01":
        for mode in _MODES:
            behaviour = "ticks" if mode in _FAST_MODES else "slow ticks"
            found.append(Series("node_cpu_seconds_total", {"cpu": cpu, "mode": mode}, "counter", behaviour))
    for collector in range(46):
        labels = {"collector": f"collector{collector:02d}"}
        found.append(Series("node_scrape_collector_duration_seconds", labels, "gauge", "duration"))
    found += _numbered(29, "node_memory_{:02d}_bytes", "gauge", "pages")
    found += _numbered(21, "node_netstat_{:02d}_total", "counter", "busy")
    found += _numbered(17, "node_sockstat_{:02d}", "gauge", "level")
    found += _numbered(14, "node_vmstat_{:02d}_total", "counter", "rare")
    found += _numbered(7, "process_cpu_{:02d}_seconds_total", "counter", "ticks")
    found += _numbered(3, "node_disk_time_{:02d}_seconds_total", "counter", "slow ticks")
    found += [Series(f"node_load{minutes}", {}, "gauge", "load") for minutes in (1, 5, 15)]
    found += _numbered(3, "node_pressure_{:02d}_ratio", "gauge", "load")
    for disk in range(348):
        family, device = divmod(disk, 6)
        labels = {"device": f"dev{device}"}
        found.append(Series(f"node_filesystem_{family:02d}_bytes", labels, "gauge", "constant"))
    return found


def _numbered(count: int, name: str, kind: str, behaviour: str) -> list[Series]:
    return [Series(name.format(i), {}, kind, behaviour) for i in range(count)]


def scrapes(count: int = 600, seed: int = 1) -> tuple[Times, Floats]:
    """`count` scrapes, one second apart: their times (µs, with the jitter of a real timer) and (count, 507) values."""
    rng = np.random.default_rng(seed)
    times = START + INTERVAL * np.arange(count) + np.abs(rng.normal(0, 400, count)).astype(np.int64)
    columns = [_move(one.behaviour, count, rng) for one in series()]
    return times, np.stack(columns, axis=1)


def _move(behaviour: str, count: int, rng: np.random.Generator) -> Floats:
    start = float(rng.integers(10, 10**7))
    if behaviour == "constant":
        return np.full(count, start * rng.choice([1, 4096]))
    if behaviour == "duration":
        return np.round(10 ** rng.uniform(-5, -3) * np.exp(0.3 * rng.standard_normal(count)), 9)
    if behaviour == "pages":
        return 4096 * (start + np.cumsum(np.round(rng.normal(0, 40, count))))
    if behaviour == "busy":
        return start + np.cumsum(rng.poisson(rng.choice([5, 40, 900]), count))
    if behaviour == "level":
        return start % 500 + np.cumsum((rng.random(count) < 0.05) * rng.integers(-3, 4, count))
    if behaviour == "rare":
        return start + np.cumsum((rng.random(count) < 0.08) * rng.integers(1, 30, count))
    if behaviour == "ticks":
        return np.round((start + np.cumsum(rng.poisson(rng.choice([3, 12, 95]), count))) / 100, 2)
    if behaviour == "slow ticks":
        return np.round((start + np.cumsum(rng.random(count) < 0.05)) / 100, 2)
    # a load average is renewed every five seconds
    return np.round(np.abs(1 + np.repeat(np.cumsum(rng.normal(0, 0.05, -(-count // 5))), 5)[:count]), 2)
