"""A ramp of samples to sum up, and the rows of a table."""

from __future__ import annotations

from typing import Any

import numpy as np

from kymograph.model.time import HOUR, SECOND
from kymograph.store.store import Store

BASE = 1_790_000_000 * SECOND // HOUR * HOUR


def ramp(store: Store, minutes: int = 10, host: str = "a", start: int = BASE) -> None:
    """0, 1, 2, … every 10 s."""
    number = store.series_ids([("m", {"host": host})])[0]
    times = start + np.arange(minutes * 6) * 10 * SECOND
    store.append_samples(np.full(len(times), number), times, np.arange(len(times), dtype=np.float64))


def rows(store: Store, table: str) -> list[dict[str, Any]]:
    return store.scan(table).to_pylist()
