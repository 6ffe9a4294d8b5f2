"""Rollups after any sequence of writes, deletions, refreshes and reopenings: what their source says, and so queries.

A query is asked of the store with rollups and of one without; the same rows are written to both.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

import kymograph
from kymograph.model.time import HOUR, MINUTE
from kymograph.promql import beside
from kymograph.store.jobs import now_micros
from kymograph.store.store import Store
from tests.folders import copied

SECONDS = st.integers(0, 90 * 60 // 5).map(lambda number: number * 5_000_000)
VALUES = st.integers(-50, 50).map(float)
LABELS = [{"host": "a"}, {"host": "b"}, {"host": "b", "disk": "x"}]
ROWS = st.lists(st.tuples(SECONDS, st.sampled_from(range(len(LABELS))), VALUES), min_size=1, max_size=40)
QUERIES = (
    "avg_over_time(m[10m])",
    "max_over_time(m[7m])",
    "increase_pure(m[20m])",
    "integrate(m[30m])",
    "stddev_over_time(m[15m])",
    "count_over_time(m[1h])",
    "rate(m[12m])",
)


class Machine(RuleBasedStateMachine):
    """Half of the time is summarised when the rollups are made, so that writes come late and in time."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="kymograph-"))
        self.base = (now_micros() - 24 * HOUR) // HOUR * HOUR
        self.generation = 0
        self.plain = kymograph.connect("memory:")
        self.store = self.opened()

    def opened(self) -> Store:
        return kymograph.connect(self.root / str(self.generation), sync="off")

    @initialize(rows=ROWS)
    def begin(self, rows: Any) -> None:
        self.write(rows)
        offset = now_micros() - self.base - 45 * MINUTE
        self.store.create_rollup("m_1m", "samples", "1m", end_offset=offset)
        self.store.create_rollup("m_5m", "m_1m", "5m", end_offset=offset)
        self.store.create_rollup("m_15m", "m_5m", "15m", end_offset=offset)
        self.store.create_rollup("by_host", "samples", "5m", by=["host"], end_offset=offset)
        text = "SELECT host, time_bucket('5m', time) AS t, count(*) AS n, max(value) AS top FROM metric.m GROUP BY 1, 2"
        self.store.create_rollup("top", query=text, end_offset=offset)

    @rule(rows=ROWS)
    def write(self, rows: Any) -> None:
        for store in (self.store, self.plain):
            ids = store.series_ids([("m", LABELS[label]) for _, label, _ in rows])
            times = np.array([self.base + time for time, _, _ in rows], np.int64)
            store.append_samples(ids, times, np.array([value for _, _, value in rows]))

    @rule(low=SECONDS, high=SECONDS, label=st.sampled_from([None, 1, 2, 3]))
    def delete(self, low: int, high: int, label: int | None) -> None:
        chosen = None if label is None else {"series_id": label}
        start, end = self.base + min(low, high), self.base + max(low, high)
        assert self.store.delete("samples", chosen, start, end) == self.plain.delete("samples", chosen, start, end)

    @rule()
    def refresh(self) -> None:
        for name in ("m_15m", "by_host", "top"):
            self.store.refresh_rollup(name)
        assert [one["name"] for one in self.store.rollups() if one["waiting"]] == []
        for every, name in ((1, "m_1m"), (5, "m_5m"), (15, "m_15m")):
            self.compare(name, "samples", f"{every} minutes", "series_id")
        source = "(SELECT m.host, s.time, s.value FROM samples s JOIN metrics m ON m.series_id = s.series_id)"
        self.compare("by_host", source, "5 minutes", "host")

    def compare(self, name: str, source: str, width: str, label: str) -> None:
        upto = next(one["fresh_until"] for one in self.store.rollups() if one["name"] == name)
        bounds = {"until": upto}
        wanted = self.plain.sql(
            f"SELECT {label}, time_bucket('{width}', time) AS time, count(*) AS count, sum(value) AS sum,"
            f" min(value) AS min, max(value) AS max FROM {source} q"
            " WHERE time < to_timestamp_micros($until) GROUP BY 1, 2 ORDER BY 2, 1",
            bounds,
        ).arrow()
        found = self.store.sql(
            f"SELECT {label}, time, count, sum, min, max FROM {name}"
            " WHERE time < to_timestamp_micros($until) ORDER BY 2, 1",
            bounds,
        ).arrow()
        assert found.to_pylist() == wanted.cast(pa.schema(list(found.schema))).to_pylist()
        found = self.store.sql("SELECT time, sum(n) AS n FROM top GROUP BY 1 ORDER BY 1").arrow()
        counts = self.plain.sql(
            "SELECT time_bucket('5 minutes', time) AS time, count(*) AS n FROM samples"
            " WHERE time < to_timestamp_micros($until) GROUP BY 1 ORDER BY 1",
            bounds,
        ).arrow()
        assert found["n"].to_pylist() == counts["n"].to_pylist()

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.opened()

    @rule()
    def crash(self) -> None:
        """The folder as it lies on the disk, opened elsewhere."""
        copy = self.root / str(self.generation + 1)
        copied(self.root / str(self.generation), copy)
        self.store.close()
        self.generation += 1
        self.store = self.opened()

    @invariant()
    def queries_agree(self) -> None:
        for query, step in zip(QUERIES, ("1m", "5m", "15m", "10m", "15m", "7m", "5m"), strict=True):
            span = {"start": self.base + 13 * MINUTE, "end": self.base + 95 * MINUTE, "step": step}
            found, wanted = (store.promql_range(query, **span) for store in (self.store, self.plain))
            assert found.labels == wanted.labels, query
            assert found.times.tolist() == wanted.times.tolist(), (query, found.tiers)
            np.testing.assert_allclose(found.values, wanted.values, rtol=1e-9, atol=1e-6, err_msg=query)
            assert not found.warnings

    def teardown(self) -> None:
        self.store.close()
        self.plain.close()
        shutil.rmtree(self.root)


@pytest.mark.parametrize("examples", [4, pytest.param(15, marks=pytest.mark.soak)])
def test_rollups(monkeypatch: pytest.MonkeyPatch, examples: int) -> None:
    # as if every sample that need not be read were worth another stretch
    monkeypatch.setattr(beside, "_SAMPLES_PER_STRETCH", 0)
    monkeypatch.setattr(beside, "_COLUMNS_PER_SAMPLE", 0)
    run_state_machine_as_test(Machine, settings=settings(max_examples=examples, stateful_step_count=8))
