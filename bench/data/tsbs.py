"""The cpu-only data of the Time Series Benchmark Suite: ten integer percentages per host every 10 s, ten tags per host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

START = 1_772_409_600_000_000  # 2026-03-02T00:00:00Z in µs
STEP = 10_000_000
BATCH = 10_000

TABLE = "cpu"

FIELDS = tuple(
    f"usage_{mode}"
    for mode in ("user", "system", "idle", "nice", "iowait", "irq", "softirq", "steal", "guest", "guest_nice")
)
_TAGS: dict[str, list[str]] = {
    "region": [f"region-{i}" for i in range(9)],
    "datacenter": [f"region-{i}{zone}" for i in range(9) for zone in "abc"],
    "rack": [str(i) for i in range(100)],
    "os": ["Ubuntu16.10", "Ubuntu16.04LTS", "Ubuntu15.10"],
    "arch": ["x64", "x86"],
    "team": ["SF", "NYC", "LON", "CHI"],
    "service": [str(i) for i in range(20)],
    "service_version": ["0", "1"],
    "service_environment": ["production", "staging", "test"],
}
LABELS = ("hostname", *_TAGS)
_LABEL = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        ("time", pa.timestamp("us", tz="UTC")),
        *((label, _LABEL) for label in LABELS),
        *((field, pa.int64()) for field in FIELDS),
    ]
)


def batches(hosts: int = 400, steps: int = 8640, seed: int = 1) -> Iterator[pa.RecordBatch]:
    """Rows by time, then by host, in batches of 10,000; every field a random walk of whole percents kept in 0 to 100."""
    rng = np.random.default_rng(seed)
    tags = {tag: rng.integers(0, len(values), hosts).astype(np.int32) for tag, values in _TAGS.items()}
    names = pa.array([f"host_{i}" for i in range(hosts)])
    state: np.ndarray[Any, Any] = rng.uniform(0, 100, (hosts, len(FIELDS)))
    together = max(1, BATCH // hosts)
    for first in range(0, steps, together):
        count = min(together, steps - first)
        walked = np.empty((count, hosts, len(FIELDS)))
        for step in range(count):
            state = walked[step] = np.clip(state + rng.standard_normal(state.shape), 0, 100)
        flat = walked.reshape(count * hosts, len(FIELDS)).astype(np.int64)
        times = START + STEP * np.repeat(np.arange(first, first + count, dtype=np.int64), hosts)
        arrays = [pa.array(times, pa.timestamp("us")).cast(SCHEMA.field("time").type)]
        host = np.tile(np.arange(hosts, dtype=np.int32), count)
        arrays.append(pa.DictionaryArray.from_arrays(pa.array(host), names))
        arrays += [pa.DictionaryArray.from_arrays(pa.array(tags[t][host]), pa.array(v)) for t, v in _TAGS.items()]
        arrays += [pa.array(np.ascontiguousarray(flat[:, i])) for i in range(len(FIELDS))]
        yield pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
