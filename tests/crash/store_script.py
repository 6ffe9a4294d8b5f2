"""What a store is set up with and told to do, each a verb of its own, and everything of it that can be seen."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kymograph import Retention
from kymograph.engine.interface import SNAPSHOTS
from kymograph.model.matcher import Matcher
from kymograph.model.schema import SERIES_ID
from kymograph.model.time import HOUR, SECOND
from kymograph.store import dashboards, tokens
from kymograph.store.store import Store

BASE = 400_000 * HOUR


def _fill(store: Store) -> None:
    ids = store.series_ids([("m", {"host": host}) for host in "ab"])
    store.append_samples(np.repeat(ids, 40), np.tile(BASE + np.arange(40) * 10 * SECOND, 2), np.arange(80.0))


def _slots(store: Store) -> None:
    (number,) = store.series_ids([("r", {})])
    store.append_samples(np.full(50, number), BASE + np.arange(50) * SECOND, np.arange(50.0))


def _delete(store: Store) -> None:
    """Samples of one series that no summary stands for."""
    ids = store.series_ids([("m", {"host": "b"})]).tolist()
    store.delete("samples", [Matcher(SERIES_ID, "in", frozenset(ids))], BASE, BASE + 100 * SECOND)


def _snapshot(store: Store) -> None:
    target = Path(store.path) / SNAPSHOTS / "one"
    if target.exists():  # done, and killed before it was told
        shutil.rmtree(target)
    store.snapshot(target)


SCRIPT: list[tuple[str, Callable[[Store], Any]]] = [
    ("samples", _fill),
    ("metadata", lambda store: store.describe("m", unit="V", help="text")),
    ("dashboard", lambda store: dashboards.save(store.engine, {"slug": "a"})),
    ("token", lambda store: tokens.list(store.engine) or tokens.create(store.engine, "read")),
    ("rollup", lambda store: store.create_rollup("m_1m", "samples", "1m")),
    ("summaries", lambda store: store.run_rollups()),
    ("sealed", lambda store: store.seal()),
    ("downsampled", lambda store: store.downsample("1h", "1m", "m", {"host": "a"})),
    ("late", lambda store: store.gauge("m", 1000.0, {"host": "a"}, time=BASE + SECOND)),
    ("merged", lambda store: store.run_rollups()),
    ("ring", lambda store: store.ring("r", "1s", 60)),
    ("slots", _slots),
    ("resized", lambda store: store.resize_ring("r", "2s", 10)),
    ("bounds", lambda store: store.set_retention("samples", Retention(age="90y"))),
    ("deleted", _delete),
    ("snapshot", _snapshot),
    ("dropped", lambda store: [store.drop_rollup(one["name"]) for one in store.rollups()]),
    ("revoked", lambda store: [tokens.revoke(store.engine, one["id"]) for one in tokens.list(store.engine)]),
]


def state(store: Store) -> dict[str, Any]:
    """What a user sees; sums and counts are the same from samples and from summaries of them."""

    def asked(query: str) -> list[Any]:
        found = store.promql(query, time=BASE + HOUR - 1)
        return sorted(zip(found.series, found.values.tolist(), strict=True))

    return {
        "counts": asked("sum by (host) (count_over_time({__name__=~'m|r'}[1h]))"),
        "sums": asked("sum by (host) (sum_over_time({__name__=~'m|r'}[1h]))"),
        "metadata": [(one["name"], one["unit"], one["help"]) for one in store.metrics()],
        "dashboards": [one["slug"] for one in dashboards.list(store.engine)],
        "tokens": [one["role"] for one in tokens.list(store.engine)],
        "rollups": [one["name"] for one in store.rollups()],
        "rings": [(one.name, one.ring) for one in store.rings()],
        "bounds": [schema.retention for schema in store.tables().values() if schema.retention != Retention()],
        "snapshots": sorted(each.name for each in (Path(store.path) / SNAPSHOTS).glob("*")),
    }
