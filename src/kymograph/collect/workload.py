"""A model of what a GPU cluster does: jobs with phases, and the power, heat and clocks they cause."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kymograph.collect.gpu import REASON_IDLE, REASON_POWER_CAP, REASON_SW_THERMAL

Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

GIB = 2**30
MEMORY = 80 * GIB
POWER_IDLE, POWER_LIMIT = 72.0, 700.0
CLOCK_IDLE, CLOCK_BASE, CLOCK_MAX, CLOCK_STEP = 345, 1590, 1980, 15
# Above the first a GPU slows down, below the second it recovers, °C.
HOT, COOL = 87.0, 84.0
# Time constants, s: power supply filtering, heat sink, memory stack.
_TAU_POWER, _TAU_HEAT, _TAU_MEMORY = 1.5, 22.0, 40.0
_IDLE, _TRAIN, _SERVE = 0, 1, 2
_DAY = 86_400.0
# Seconds of a training job spent reading data and filling memory before the first step.
_LOADING = 45.0


class Jobs:
    """What each gang of GPUs works on. A gang is a set of GPUs that run the same job."""

    def __init__(self, gangs: int, random: np.random.Generator, now: float) -> None:
        self._random = random
        self.kind: Ints = np.full(gangs, _IDLE, np.int64)
        self.start, self.end, self.memory, self.effort, self.pause_every, self.pause = (
            np.zeros(gangs, np.float64) for _ in range(6)
        )
        everyone = np.arange(gangs)
        # most are at work when the simulation starts, each somewhere in the middle
        self._draw(everyone, now, np.where(random.random(gangs) < 0.85, _TRAIN, _IDLE))
        passed = random.random(gangs) * (self.end - self.start)
        self.start -= passed
        self.end -= passed

    def advance(self, now: float) -> None:
        """Replace the jobs that ended by `now`, s since the epoch."""
        ended = np.flatnonzero(now >= self.end)
        if len(ended):
            rest = (self.kind[ended] != _IDLE) & (self._random.random(len(ended)) < 0.6 - 0.35 * daytime(now))
            chosen = np.where(self._random.random(len(ended)) < 0.65, _TRAIN, _SERVE)
            self._draw(ended, now, np.where(rest, _IDLE, chosen))

    def _draw(self, gangs: Ints, now: float, kind: Ints) -> None:
        size = len(gangs)
        median = np.choose(kind, [240.0, 2400.0, 5400.0])
        self.kind[gangs] = kind
        self.start[gangs] = now
        self.end[gangs] = now + np.clip(median * self._random.lognormal(0.0, 0.7, size), 60.0, 86_400.0)
        # frameworks take memory in large blocks
        blocks = self._random.integers(12, 39, size)
        self.memory[gangs] = np.choose(kind, [np.zeros(size), blocks * 2.0, blocks * 1.5]) * GIB
        self.effort[gangs] = self._random.uniform(0.72, 1.0, size)
        self.pause_every[gangs] = self._random.uniform(240.0, 900.0, size)
        self.pause[gangs] = self._random.uniform(8.0, 25.0, size)

    def demand(self, now: float) -> tuple[Floats, Floats, Bools]:
        """Per gang: utilisation 0…1, memory bytes held, and whether it loads or saves data."""
        age = now - self.start
        training = self.kind == _TRAIN
        loading = training & (age < _LOADING)
        saving = training & ~loading & (np.mod(age, self.pause_every) < self.pause)
        # every fifth stretch ends in an evaluation, which is less regular work
        judging = training & (np.mod(age, 5 * self.pause_every) > 4.8 * self.pause_every)
        serving = 0.15 + 0.65 * daytime(now) + 0.08 * np.sin(2 * math.pi * age / 337.0)
        busy = np.where(training, np.where(judging, 0.72, 0.97), np.where(self.kind == _SERVE, serving, 0.0))
        busy = np.where(loading | saving, 0.1, busy)
        filled = np.where(training, np.minimum(1.0, np.ceil(8 * age / _LOADING) / 8), 1.0)
        return busy, self.memory * filled, loading | saving


def daytime(now: float) -> float:
    """How much of the day's load there is, 0 at 02:00 UTC to 1 at 14:00 UTC."""
    return 0.5 - 0.5 * math.cos(2 * math.pi * (now % _DAY - 7200.0) / _DAY)


class Workload:
    """State of `count` GPUs; `advance` moves it to a time. The same seed and times give the same states.

    All arrays have shape (count,); percentages are 0…100, temperatures °C, power W, energy mJ.
    """

    def __init__(self, count: int, seed: int, now: float) -> None:
        random = np.random.default_rng(seed)
        size = 1 if count <= 4 else 2 if count <= 16 else 8
        self._random, self._now = random, now
        self.gang: Ints = np.arange(count) // size
        self.jobs = Jobs(int(self.gang[-1]) + 1, random, now)
        node = np.arange(count) // 8
        self._ambient: Floats = random.uniform(23.0, 30.0, node[-1] + 1)[node]
        # kelvin per watt; a few heat sinks sit badly, and those GPUs throttle under full load
        badly = random.random(count) < 0.03
        self._resistance: Floats = np.where(
            badly, random.uniform(0.088, 0.1, count), random.normal(0.066, 0.003, count)
        )
        self._weak: Bools = random.random(count) < 0.01
        self.sbe_before: Ints = random.poisson(np.where(self._weak, 40.0, 0.3)).astype(np.int64)
        self.sbe: Ints = np.zeros(count, np.int64)
        self.dbe: Ints = np.zeros(count, np.int64)
        self.energy: Floats = np.floor(random.uniform(0, 4e12, count))
        self._wobble: Floats = np.zeros(count)
        self._slowed: Floats = np.zeros(count)
        self._step(0.0)
        # begin settled, so that the first minutes are no warm-up
        self.power: Floats = self._wanted.copy()
        self.temperature: Floats = np.minimum(self._ambient + self._resistance * self.power, HOT)
        self.memory_temperature: Floats = self.temperature + 7.0
        self._heat(0.0)

    def advance(self, now: float) -> None:
        """Move to `now`, s since the epoch; going back in time leaves the state as it is."""
        passed = max(0.0, now - self._now)
        self._now = max(now, self._now)
        self.jobs.advance(self._now)
        self._step(passed)
        self._heat(passed)

    def _step(self, passed: float) -> None:
        random, gang = self._random, self.gang
        busy, memory, moving = self.jobs.demand(self._now)
        busy, memory, moving = busy[gang], memory[gang], moving[gang]
        fade = math.exp(-passed / 5.0)
        self._wobble = fade * self._wobble + math.sqrt(1 - fade * fade) * random.standard_normal(len(gang))
        working = busy > 0
        load = np.where(working, np.clip(busy + 0.015 * self._wobble, 0.01, 1.0), 0.0)
        self.utilization: Floats = np.round(100 * load)
        effort = self.jobs.effort[gang] * load
        self.moving: Bools = moving
        self.memory: Floats = memory + 0.6 * GIB
        self.sm_active: Floats = np.clip(load * 0.88 + 0.01 * self._wobble * working, 0, 1)
        self.occupancy: Floats = self.sm_active * 0.42
        self.tensor: Floats = effort * 0.52
        self.dram: Floats = np.clip(effort * 0.46 + 0.008 * self._wobble * working, 0, 1)
        self._wanted: Floats = POWER_IDLE + (POWER_LIMIT * 1.06 - POWER_IDLE) * effort * (1 - 0.35 * self._slowed)
        self.capped: Bools = self._wanted > POWER_LIMIT * 0.985
        self._wanted = np.minimum(self._wanted, POWER_LIMIT) + 1.5 * self._wobble
        flow = np.where(moving, 9e9, 6e8) * np.where(working, 0.6 + 0.4 * load, 0.001)
        self.received: Floats = flow * (1 + 0.05 * random.random(len(gang)))
        self.sent: Floats = flow * 0.4 * (1 + 0.05 * random.random(len(gang)))
        self.sbe += random.poisson(np.where(self._weak, 2e-3, 5e-8) * passed)
        self.dbe += random.poisson(np.where(self._weak, 2e-6, 1e-10) * passed)

    def _heat(self, passed: float) -> None:
        before = self.power
        self.power = before + (self._wanted - before) * (1 - math.exp(-passed / _TAU_POWER))
        self.energy += 500.0 * (before + self.power) * passed
        room = self._ambient + 2.5 * daytime(self._now)
        target = room + self._resistance * self.power
        self.temperature = self.temperature + (target - self.temperature) * (1 - math.exp(-passed / _TAU_HEAT))
        stack = self.temperature + 5.0 + 14.0 * self.dram
        self.memory_temperature += (stack - self.memory_temperature) * (1 - math.exp(-passed / _TAU_MEMORY))
        change = np.where(self.temperature > HOT, 0.08, np.where(self.temperature < COOL, -0.03, 0.0))
        self._slowed = np.clip(self._slowed + change * passed, 0.0, 1.0)
        idle = self.utilization == 0
        slow = self._slowed > 0
        clock = CLOCK_MAX - 240.0 * self.capped * (0.5 + 0.1 * self._wobble) - 700.0 * self._slowed
        clock = np.clip(clock, CLOCK_IDLE, CLOCK_MAX) // CLOCK_STEP * CLOCK_STEP
        self.clock: Ints = np.where(idle, CLOCK_IDLE, clock).astype(np.int64)
        self.reasons: Ints = (
            REASON_IDLE * idle + REASON_POWER_CAP * (self.capped & ~idle) + REASON_SW_THERMAL * (slow & ~idle)
        ).astype(np.int64)
