"""`anchored` and `smoothed` selectors where samples are beside summaries, or replaced by them."""

from __future__ import annotations

import numpy as np
import pytest

import kymograph
from kymograph.model.time import DAY, HOUR, MINUTE, SECOND
from kymograph.store.jobs import now_micros
from kymograph.store.store import Store

BASE = now_micros() // HOUR * HOUR - 10 * DAY
COUNT = 1440
QUERIES = [
    "rate(energy_total[10m] anchored)",
    "increase(energy_total[10m] smoothed)",
    "delta(energy_total[10m] anchored)",
    "changes(energy_total[10m] anchored)",
    "energy_total smoothed",
]


def fill(store: Store) -> None:
    """Two hours at 5 s of two counters, of which one is between whole seconds."""
    random = np.random.default_rng(5)
    for place, host in enumerate("ab"):
        number = store.series_ids([("energy_total", {"host": host})])[0]
        times = BASE + np.arange(COUNT) * 5 * SECOND + place % 2
        store.append_samples(np.full(COUNT, number), times, np.cumsum(random.integers(1, 9, COUNT)).astype(np.float64))


@pytest.mark.parametrize("query", QUERIES)
def test_samples_are_read_where_they_are_there(query: str) -> None:
    with kymograph.connect("memory:") as store, kymograph.connect("memory:") as plain:
        fill(store)
        fill(plain)
        store.create_rollup("samples_1m")
        assert "samples_1m" in store.promql("increase(energy_total[1h])", time=BASE + 2 * HOUR).tiers
        span = {"start": BASE + 30 * MINUTE, "end": BASE + 2 * HOUR, "step": "7m"}
        found, wanted = (one.promql_range(query, **span) for one in (store, plain))
        assert found.labels == wanted.labels
        assert found.values.tolist() == wanted.values.tolist()
        assert (found.tiers, found.warnings) == (["raw"], [])


@pytest.mark.parametrize("query", [one for one in QUERIES if "changes" not in one])
def test_summaries_in_place_of_samples_give_a_warning(query: str) -> None:
    with kymograph.connect("memory:") as store, kymograph.connect("memory:") as plain:
        fill(store)
        fill(plain)
        store.downsample("9d", "1m")
        span = {"start": BASE + 30 * MINUTE, "end": BASE + 2 * HOUR, "step": "5m"}
        found, wanted = (one.promql_range(query, **span) for one in (store, plain))
        assert len(found.warnings) == 1
        assert "the result is approximate" in found.warnings[0]
        assert found.tiers == ["samples_1m"]
        # edges on those of buckets are known
        np.testing.assert_allclose(found.values, wanted.values, rtol=1e-12)
