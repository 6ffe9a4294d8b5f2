"""PromQL of a ring with a rollup: what the ring has pushed out is read from the rollup, and its edges are said to be guessed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import kymograph
from kymograph.model.time import MINUTE, SECOND
from kymograph.store.jobs import now_micros
from kymograph.store.store import Store

FUNCTIONS = ("sum_over_time", "count_over_time", "max_over_time", "increase_pure", "integrate", "stddev_over_time")


@pytest.fixture
def plain() -> Iterator[Store]:
    with kymograph.connect("memory:") as store:
        yield store


def filled(store: Store, plain: Store) -> int:
    """Two rings of a minute of seconds, one of which ended earlier, and a metric beside them; returns their last minute's end."""
    store.ring("r", "1s", 60, labels={"host": "a"})
    store.ring("r", "1s", 60, labels={"host": "b"})
    store.create_rollup("kept", "samples", "1m")
    end = now_micros() // MINUTE * MINUTE - 2 * MINUTE
    for minute in range(10, 0, -1):
        for host in ("a", "b", "all"):
            if host == "b" and minute < 3:
                continue
            times = end - minute * MINUTE + np.arange(0, 60, 5) * SECOND + SECOND
            for one in (store, plain):
                number = one.series_ids([("r", {"host": host})])
                one.append_samples(np.repeat(number, len(times)), times, np.sin(times / 1e7) * 9 + 1)
        store.run_rollups()
    return end


def asked(store: Store, query: str, end: int, step: str = "1m") -> Any:
    return store.promql_range(query, start=end - 6 * MINUTE, end=end, step=step)


def test_what_was_pushed_out_is_read_from_the_rollup(store: Store, plain: Store) -> None:
    end = filled(store, plain)
    assert len(store.scan("samples")) == 12 + 12 + 120
    for function in FUNCTIONS:
        found, wanted = (asked(one, f"{function}(r[3m])", end) for one in (store, plain))
        assert found.labels == wanted.labels
        assert found.times.tolist() == wanted.times.tolist()
        np.testing.assert_allclose(found.values, wanted.values, rtol=1e-10, atol=1e-9, err_msg=function)
        assert found.warnings == []
        assert found.tiers == ["kept", "raw"]
    found, wanted = (asked(one, "r", end) for one in (store, plain))
    np.testing.assert_allclose(found.values, wanted.values)
    assert found.warnings == []


def test_edges_that_were_pushed_out_are_said_to_be_guessed(store: Store, plain: Store) -> None:
    end = filled(store, plain)
    for function in FUNCTIONS:
        found = asked(store, f'{function}(r{{host="a"}}[150s])', end)
        assert "approximate" in found.warnings[0], function
    found, wanted = (asked(one, 'count_over_time(r{host="a"}[150s])', end) for one in (store, plain))
    assert np.abs(found.values - wanted.values).max() <= 1
    # what is there as samples is exact, in the ring and beside it
    for query, low in (('sum_over_time(r{host="all"}[150s])', 6), ("sum_over_time(r[17s])", 0)):
        found, wanted = (
            one.promql_range(query, start=end - low * MINUTE, end=end + 20 * SECOND, step="10s")
            for one in (store, plain)
        )
        np.testing.assert_allclose(found.values, wanted.values, rtol=1e-10)
        assert found.warnings == []
    # one that is in no ring stays exact beside one that is
    found, wanted = (asked(one, "sum_over_time(r[150s])", end) for one in (store, plain))
    assert found.labels == wanted.labels
    place = next(place for place, labels in enumerate(found.labels) if labels["host"] == "all")
    np.testing.assert_allclose(found.samples_of(place)[1], wanted.samples_of(place)[1], rtol=1e-10)
    assert found.warnings
