"""What the server counts about itself, and the families it shows at `/metrics`."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

# upper bounds of the latency histogram, seconds
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass
class _Latency:
    """Answers by latency: `counts[i]` took at most `BUCKETS[i]`, the last one longer."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0


class Meter:
    """Counts of requests by method, route and status, and their latency by route."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._latency: dict[str, _Latency] = {}

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer. `route` is a path template, so that the number of series stays bounded."""
        with self._lock:
            self._requests[method, route, status] += 1
            latency = self._latency.setdefault(route, _Latency())
            latency.counts[bisect_left(BUCKETS, seconds)] += 1
            latency.total += seconds

    def requests(self) -> dict[tuple[str, str, int], int]:
        with self._lock:
            return dict(self._requests)

    def latencies(self) -> dict[str, tuple[list[int], float]]:
        """Per route: cumulative counts per bucket with the whole at the end, and the sum of seconds."""
        with self._lock:
            found = {route: (list(latency.counts), latency.total) for route, latency in self._latency.items()}
        for counts, _ in found.values():
            for place in range(1, len(counts)):
                counts[place] += counts[place - 1]
        return found
