"""Listens for Graphite's plaintext protocol over TCP and UDP."""

from __future__ import annotations

from kymograph.collect.batch import Batch
from kymograph.collect.interface import checked_interval
from kymograph.collect.listening import LineListener, parse_address
from kymograph.store.metrics import Sample
from kymograph.wire.graphite import read_line

PORT = 2003


class GraphiteCollector:
    """Every line is a sample of the series that its path and tags name; times of any age are kept.

    Attributes:
        listener: the port, from the first turn on.
    """

    def __init__(self, address: str, interval: int = 1_000_000) -> None:
        """
        Args:
            address: `HOST:PORT`; without a host loopback, without a port 2003.
            interval: µs between two looks at what came.

        Raises:
            InvalidInput: no address, or an interval out of range.
        """
        self._place = parse_address(address, PORT)
        self.interval = checked_interval(interval)
        self.name = "graphite {}:{}".format(*self._place)
        self.listener: LineListener | None = None

    def collect(self, now: int) -> Batch:
        if self.listener is None:
            listener = LineListener(*self._place)
            listener.open()
            self.listener = listener
        lines, dropped = self.listener.take()
        samples: list[Sample] = []
        broken, example = 0, ""
        for line in lines:
            try:
                name, labels, value, time = read_line(line)
            except ValueError as problem:
                broken, example = broken + 1, example or f"{line[:80]!r}: {problem}"
                continue
            samples.append(Sample(name, value, dict(labels), now if time is None else time))
        return Batch(self.name, now, samples=samples, problem=complaint(broken, example, dropped))

    def finish(self, now: int) -> Batch:
        return self.collect(now)

    def close(self) -> None:
        if self.listener is not None:
            self.listener.close()


def complaint(broken: int, example: str, dropped: int) -> str:
    """What a batch says of lines that could not be read, or were not kept."""
    told = [f"{broken} lines could not be read, such as {example}"] if broken else []
    return "; ".join(told + ([f"{dropped} lines were dropped: too long, or too many at once"] if dropped else []))
