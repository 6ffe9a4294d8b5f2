"""Listens for StatsD over TCP and UDP, sums up what comes and gives it out at every flush."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np

from kymograph.collect.batch import Batch
from kymograph.collect.graphite import complaint
from kymograph.collect.interface import checked_interval
from kymograph.collect.listening import LineListener, parse_address
from kymograph.collect.scrape import STALE
from kymograph.errors import InvalidInput
from kymograph.store.metrics import Sample
from kymograph.store.naming import Kind
from kymograph.wire.statsd import Labels, Update, read_line

PORT = 8125
QUANTILES = (0.5, 0.9, 0.95, 0.99)
MAX_SERIES = 100_000
# values of a timer, and members of a set, that one flush keeps; of more values a fair choice stays
MAX_KEPT = 10_000
# a series of which nothing was heard for so long is given up, µs
IDLE = 3600 * 10**6
_Key = tuple[str, Labels]


@dataclass
class _State:
    """One series between flushes; which of the numbers mean something depends on its kind."""

    kind: str
    heard: int
    total: float = 0.0
    count: float = 0.0
    values: list[float] = field(default_factory=list)
    seen: int = 0
    members: set[str] = field(default_factory=set)
    milliseconds: bool = False


class StatsdCollector:
    """Counters become totals that grow, gauges stay until they are changed, sets the number of their members.

    A timer `t` becomes `t_count` and `t_sum` (totals, sampled events weighed), `t_min`, `t_max`, and quantiles of the
    flush as `t{quantile="0.5"}`. A series that is silent for an hour ends with a staleness marker.

    Attributes:
        listener: the port, from the first turn on.
    """

    def __init__(self, address: str, flush: int = 10_000_000, *, max_series: int = MAX_SERIES) -> None:
        """
        Args:
            address: `HOST:PORT`; without a host loopback, without a port 8125.
            flush: µs between two samples of a series, a second at least.
            max_series: lines of further series are dropped.

        Raises:
            InvalidInput: no address, or a flush interval out of range.
        """
        self._place = parse_address(address, PORT)
        self._flush = checked_interval(flush)
        if flush < 10**6:
            raise InvalidInput(f"a flush interval of {flush} µs is too short", hint="1s or more")
        # more often than the flush, so that the port is open soon and lines do not pile up
        self.interval = min(flush, 1_000_000)
        self.name = "statsd {}:{}".format(*self._place)
        self.listener: LineListener | None = None
        self._max_series = max_series
        self._series: dict[_Key, _State] = {}
        self._flushed = 0
        # chooses which values of a busy timer stay, decides nothing that must not be guessed
        self._random = random.Random(1)  # noqa: S311
        self._problem = ""

    def collect(self, now: int) -> Batch:
        if self.listener is None:
            listener = LineListener(*self._place)
            listener.open()
            self.listener = listener
            self._flushed = now // self._flush
        lines, dropped = self.listener.take()
        samples: list[Sample] = []
        broken, example = 0, ""
        for line in lines:
            try:
                self._update(read_line(line), now, samples)
            except ValueError as problem:
                broken, example = broken + 1, example or f"{line[:80]!r}: {problem}"
        self._problem = complaint(broken, example, dropped) or self._problem
        told = self._problem
        if now // self._flush != self._flushed:
            self._flushed = now // self._flush
            samples += self._flushed_samples(now, now // self._flush * self._flush)
            self._problem = ""
        return Batch(self.name, now, samples=samples, describe=_about(samples), problem=told)

    def finish(self, now: int) -> Batch:
        # the moment itself, since the last multiple of the flush interval has its sample
        batch = self.collect(now)
        rest = [] if batch.time // self._flush != self._flushed else self._flushed_samples(now, now)
        return Batch(self.name, now, samples=[*batch.samples, *rest], describe=_about([*batch.samples, *rest]))

    def close(self) -> None:
        if self.listener is not None:
            self.listener.close()

    def _update(self, update: Update, now: int, samples: list[Sample]) -> None:
        if update.time is not None and update.kind in ("counter", "gauge"):
            # DogStatsD: summed up by the sender, of a time of its own
            kind: Kind = "counter" if update.kind == "counter" else "gauge"
            samples += [Sample(update.name, value, dict(update.labels), update.time, kind) for value in update.values]
            return
        key = update.name, update.labels
        state = self._series.get(key)
        if state is None:
            if len(self._series) >= self._max_series:
                raise ValueError(f"there are {self._max_series:,} series already")
            state = self._series[key] = _State(update.kind, now)
        elif state.kind != update.kind:
            raise ValueError(f"{update.name} is a {state.kind}")
        state.heard = now
        if update.kind == "counter":
            state.total += sum(update.values) / update.rate
        elif update.kind == "gauge":
            for value in update.values:
                state.total = state.total + value if update.relative else value
        elif update.kind == "timer":
            state.milliseconds = update.milliseconds
            for value in update.values:
                self._time(state, value, update.rate)
        elif len(state.members) < MAX_KEPT:
            state.members.update(update.texts)

    def _time(self, state: _State, value: float, rate: float) -> None:
        state.count += 1 / rate
        state.total += value / rate
        state.seen += 1
        if len(state.values) < MAX_KEPT:
            state.values.append(value)
        else:
            place = self._random.randrange(state.seen)
            if place < MAX_KEPT:
                state.values[place] = value

    def _flushed_samples(self, now: int, time: int) -> list[Sample]:
        samples: list[Sample] = []
        for (name, labels), state in list(self._series.items()):
            gone = now - state.heard > IDLE
            if gone:
                del self._series[name, labels]
            samples += self._told(name, dict(labels), state, time, gone)
            state.values.clear()
            state.members.clear()
            state.seen = 0
        return samples

    @staticmethod
    def _told(name: str, labels: dict[str, str], state: _State, time: int, gone: bool) -> list[Sample]:
        def one(suffix: str, value: float, kind: Kind, **more: str) -> Sample:
            return Sample(name + suffix, STALE if gone else value, {**labels, **more}, time, kind)

        if state.kind == "counter":
            return [one("", state.total, "counter")]
        if state.kind == "gauge":
            return [one("", state.total, "gauge")]
        if state.kind == "set":
            return [one("", float(len(state.members)), "gauge")]
        found = [one("_count", state.count, "counter"), one("_sum", state.total, "counter")]
        if state.values or gone:
            values = np.array(state.values or [0.0])
            found += [one("_min", float(values.min()), "gauge"), one("_max", float(values.max()), "gauge")]
            found += [
                one("", float(value), "summary", quantile=str(share))
                for share, value in zip(QUANTILES, np.quantile(values, QUANTILES).tolist(), strict=True)
            ]
        return found


def _about(samples: list[Sample]) -> dict[str, dict[str, str]]:
    return {sample.name: {"kind": sample.kind} for sample in samples}
