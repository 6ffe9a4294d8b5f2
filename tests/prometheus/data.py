"""One data set for a real Prometheus and for Kymograph: counters, gauges, histograms and floats that are hard to write.

Samples come every 15 s, 3.456 s after whole multiples, so that no window of a query begins or ends on one: Prometheus 2
closes windows at both ends, Prometheus 3 and Kymograph leave them open at the start. Counters begin high, because
Prometheus 2 extrapolates further than half a step towards a zero that is near.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

START = 1_750_000_200  # seconds, a multiple of 300
STEP = 15
COUNT = 480
END = START + STEP * COUNT
SHIFT_MS = 3456

Labels = dict[str, str]
Series = tuple[str, Labels, Any, Any]

DESCRIPTIONS = {
    "requests": ("counter", "Requests answered"),
    "temperature": ("gauge", "Temperature of a room"),
    "http_request_duration_seconds": ("histogram", "Time to the answer, with a \\ in its help"),
}


def series() -> list[Series]:
    """Name, labels, int64 ms and float64 of every series."""
    return list(_series(np.random.default_rng(42)))


def _series(random: np.random.Generator) -> Iterator[Series]:
    times = (START + STEP * np.arange(COUNT, dtype=np.int64)) * 1000 + SHIFT_MS
    for instance in ("a:9100", "b:9100"):
        for cpu in ("0", "1"):
            for mode, speed in (("user", 0.4), ("system", 0.1), ("idle", 0.5)):
                grown = np.cumsum(random.uniform(0, 2 * speed * STEP, COUNT)) + 1000
                yield "node_cpu_seconds_total", {"instance": instance, "cpu": cpu, "mode": mode}, times, grown
    for job in ("api", "web"):
        for code, most in (("200", 50), ("404", 5), ("500", 2)):
            grown = np.cumsum(random.integers(0, most, COUNT)) + 20_000.0
            grown[300:] -= grown[300] if job == "web" else 0.0
            yield "requests_total", {"job": job, "code": code, "instance": "a:9100"}, times, grown
    for place, instance in enumerate(("a:9100", "b:9100", "c:9100")):
        used = 2.0**30 * (place + 1) + np.cumsum(random.integers(-(2**20), 2**20, COUNT))
        yield "memory_used_bytes", {"instance": instance}, times, used
        yield "memory_total_bytes", {"instance": instance, "unit": "bytes"}, times[::4], np.full(COUNT // 4, 2.0**33)
        yield "build_info", {"instance": instance, "version": f"1.{place}"}, times, np.ones(COUNT)
        yield "up", {"instance": instance, "job": "node"}, times, (random.random(COUNT) > 0.1).astype(np.float64)
    for room, floor in (("kitchen", "0"), ("cellar", "-1"), ("attic", "2"), ('bad "room" \\ ö\n', "3")):
        values = 18 + float(floor) * 3 + np.sin(np.arange(COUNT) / 40) * 5 + random.normal(0, 0.3, COUNT)
        kept = np.ones(COUNT, np.bool_)
        kept[200:280] = room != "attic"
        yield "temperature_celsius", {"room": room, "floor": floor}, times[kept], np.round(values, 3)[kept]
    yield from _histogram(random, times)
    for kind, value in _HARD.items():
        yield "hard", {"kind": kind}, times[:40], np.full(40, value)
    # apart from the others: Go takes wrong logarithms of it
    yield "subnormal", {}, times[:40], np.full(40, 5e-324)
    yield "zero_based_total", {}, times[:40], np.arange(40) * 31.0 + 24
    yield "sparse", {"n": "1"}, times[[10, 11, 13, 400]], np.array([1.0, 5.0, 2.0, 7.0])
    yield "sparse", {"n": "2"}, times[[479]], np.array([3.0])


_HARD = {
    "nan": math.nan,
    "inf": math.inf,
    "minus_inf": -math.inf,
    "tiny": 1.5e-9,
    "small": 1e-6,
    "smaller": 9.99e-7,
    "third": 1 / 3,
    "large": 123_456_789_012_345_678.0,
    "huge": 1e21,
    "below_huge": 999_999_999_999_999_900_000.0,
    "max": 1.7976931348623157e308,
    "least": 2.2250738585072014e-308,
    "minus_zero": -0.0,
    "million": 1e6,
    "pi": math.pi,
    "minus": -273.15,
}


def _histogram(random: np.random.Generator, times: Any) -> Iterator[Series]:
    bounds = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
    for job in ("api", "web"):
        seconds = random.gamma(2.0, 0.15 if job == "api" else 0.4, (COUNT, 20))
        total = np.zeros(COUNT)
        # an hour's answers before the first sample
        before = seconds[:240]
        for bound in (*bounds, math.inf):
            total = np.cumsum((seconds <= bound).sum(axis=1)) + float((before <= bound).sum())
            le = "+Inf" if math.isinf(bound) else f"{bound:g}"
            yield "http_request_duration_seconds_bucket", {"job": job, "le": le}, times, total
        yield "http_request_duration_seconds_count", {"job": job}, times, total
        yield "http_request_duration_seconds_sum", {"job": job}, times, np.cumsum(seconds.sum(axis=1)) + before.sum()


def openmetrics() -> str:
    """The data set as OpenMetrics text with times, for `promtool tsdb create-blocks-from openmetrics`."""
    lines: list[str] = []
    seen = ""
    for name, labels, times, values in sorted(series(), key=lambda one: one[0]):
        if name != seen:
            lines.append(f"# TYPE {name} unknown")
            seen = name
        pairs = ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items())
        lines += [
            f"{name}{{{pairs}}} {_number(value)} {time / 1000:.3f}"
            for time, value in zip(times.tolist(), values.tolist(), strict=True)
        ]
    return "\n".join([*lines, "# EOF", ""])


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return "NaN" if math.isnan(value) else ("+Inf" if value > 0 else "-Inf") if math.isinf(value) else repr(value)
