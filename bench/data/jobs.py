"""What the GPUs of a fleet are doing: jobs that hold whole hosts or single GPUs for minutes to hours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Floats = np.ndarray[Any, Any]
Ints = np.ndarray[Any, Any]

IDLE, TRAINING, INFERENCE, INTERACTIVE = range(4)
# median length in steps of 10 s, and the spread of its logarithm
_LENGTH = {IDLE: (120, 1.0), TRAINING: (900, 1.0), INFERENCE: (2160, 0.8), INTERACTIVE: (240, 0.9)}


@dataclass(frozen=True)
class Loads:
    """Per-job constants, gathered to one value per (step, GPU) of a piece; each array is (steps, gpus)."""

    kind: Ints
    sm: Floats
    tensor: Floats
    dram: Floats
    unrest: Floats
    memory_mib: Ints
    host_bytes: Floats
    age: Ints
    pause_every: Ints
    pause_for: Ints


class Jobs:
    """The schedule of a fleet; `advance` gives the next piece and remembers where it stopped.

    Seven hosts in ten run one job on all their GPUs, the others one job per GPU.
    """

    def __init__(self, gpus: int, per_host: int, rng: np.random.Generator) -> None:
        hosts = -(-gpus // per_host)
        whole = rng.random(hosts) < 0.7
        host = np.arange(gpus) // per_host
        slot = np.where(whole[host], host, hosts + np.arange(gpus))
        _, self._unit = np.unique(slot, return_inverse=True)
        units = int(self._unit.max()) + 1
        self._rng = rng
        self._running = [self._job(self._next_kind(IDLE)) for _ in range(units)]
        # start in the middle of things
        self._left = (np.array([job["length"] for job in self._running]) * rng.random(units)).astype(np.int64) + 1
        self._age = np.array([job["length"] for job in self._running]) - self._left

    def _next_kind(self, kind: int) -> int:
        if kind != IDLE and self._rng.random() < 0.6:
            return IDLE
        return int(self._rng.choice([TRAINING, INFERENCE, INTERACTIVE], p=[0.55, 0.3, 0.15]))

    def _job(self, kind: int) -> dict[str, float]:
        rng = self._rng
        median, spread = _LENGTH[kind]
        job: dict[str, float] = {"kind": kind, "length": max(6, int(median * np.exp(spread * rng.standard_normal())))}
        low, high, unrest = {
            IDLE: (0.0, 0.0, 0.0),
            TRAINING: (0.55, 0.9, 0.02),
            INFERENCE: (0.15, 0.6, 0.25),
            INTERACTIVE: (0.05, 0.5, 0.6),
        }[kind]
        sm = rng.uniform(low, high)
        job |= {"sm": sm, "tensor": sm * rng.uniform(0.25, 0.7), "dram": sm * rng.uniform(0.3, 0.8), "unrest": unrest}
        job["memory_mib"] = 0 if kind == IDLE else int(rng.uniform(4_000, 78_000))
        job["host_bytes"] = 0.0 if kind == IDLE else float(np.exp(rng.normal(20.0, 1.2)))
        # checkpoints: training stops computing for a moment every quarter of an hour or so
        job["pause_every"] = int(rng.integers(60, 240)) if kind == TRAINING else 1 << 30
        job["pause_for"] = int(rng.integers(1, 6)) if kind == TRAINING else 0
        return job

    def advance(self, steps: int) -> Loads:
        """The next `steps` steps of all GPUs."""
        units = len(self._running)
        table = list(self._running)
        which = np.empty((steps, units), np.int64)
        which[:] = np.arange(units)
        age = self._age + np.arange(steps)[:, None]
        for unit in np.flatnonzero(self._left < steps):
            at = int(self._left[unit])
            while at < steps:
                job = self._job(self._next_kind(int(self._running[unit]["kind"])))
                self._running[unit] = job
                table.append(job)
                which[at:, unit] = len(table) - 1
                age[at:, unit] = np.arange(steps - at)
                at += int(job["length"])
            self._left[unit] = at
        self._left -= steps
        self._age = age[-1] + 1
        index, ages = which[:, self._unit], age[:, self._unit]
        columns = {
            name: np.array([job[name] for job in table])[index] for name in Loads.__annotations__ if name != "age"
        }
        return Loads(age=ages, **columns)
