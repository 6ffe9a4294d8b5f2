"""Queries over downsampled samples give what they gave before, over ranges that begin and end where buckets do."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

import kymograph
from kymograph.errors import StorageError
from kymograph.model import spacing
from kymograph.model.time import HOUR, MINUTE
from kymograph.promql.piecewise import PIECEWISE
from kymograph.store.jobs import now_micros
from kymograph.store.store import Store
from tests.folders import copied

# on the edges of buckets, just beside them, and anywhere
SECONDS = st.integers(0, 120).map(lambda minute: minute * MINUTE)
TIMES = st.builds(lambda edge, off: edge + off, SECONDS, st.sampled_from([-1, 0, 1, 17_000_000, 30_500_000]))
VALUES = st.integers(-50, 50).map(float) | st.just(0.1)
LABELS = [{"host": "a"}, {"host": "b"}, {"host": "b", "disk": "x"}]
ROWS = st.lists(st.tuples(TIMES, st.sampled_from(range(len(LABELS))), VALUES), min_size=1, max_size=60)
# nothing that lies between late samples is exact for these
LATE_MAY_DIFFER = {"integrate", "integrate_positive", "integrate_negative", "increase", "rate", "increase_pure"}
# what fails is an engine's answer, as a disk would give it
STEPS = st.integers(1, 12)


class Failing:
    """An engine that fails from some write on, as a full or a broken disk does."""

    def __init__(self, store: Store, after: int) -> None:
        self._engine: Any = store.engine.inner  # type: ignore[attr-defined]
        self._left = after
        self._names = ("append", "delete", "put_document", "put_documents", "create_table")

    def __enter__(self) -> None:
        for name in self._names:
            setattr(self._engine, name, self._counted(getattr(self._engine, name)))

    def __exit__(self, *_: object) -> None:
        for name in self._names:
            delattr(self._engine, name)

    def _counted(self, work: Any) -> Any:
        def run(*arguments: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left <= 0:
                raise StorageError("the disk is gone")
            return work(*arguments, **named)

        return run


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="kymograph-"))
        self.base = (now_micros() - 24 * HOUR) // HOUR * HOUR
        self.generation, self.late = 0, False
        self.written: dict[tuple[int, int], float] = {}
        self.boundary = 0
        self.plain = kymograph.connect("memory:")
        self.store = self.opened()

    def opened(self) -> Store:
        return kymograph.connect(self.root / str(self.generation), sync="off")

    @initialize(rows=ROWS)
    def begin(self, rows: Any) -> None:
        self.write(rows)

    @rule(rows=ROWS)
    def write(self, rows: Any) -> None:
        """New samples, some of them late, and some that are sent again."""
        fresh = {(label, time): self.written.get((label, time), value) for time, label, value in rows}
        self.late |= any(time <= self.boundary for _, time in fresh.keys() - self.written.keys())
        self.written |= fresh
        if fresh:
            for store in (self.store, self.plain):
                ids = store.series_ids([("m", LABELS[label]) for label, _ in fresh])
                times = np.array([self.base + time for _, time in fresh], np.int64)
                store.append_samples(ids, times, np.array(list(fresh.values())))

    @rule(number=st.integers(1, 40))
    def send_again(self, number: int) -> None:
        """The last batch, by a sender that was not told that it had arrived."""
        if self.written:
            self.write([(time, label, value) for (label, time), value in list(self.written.items())[-number:]])

    @rule(edge=SECONDS, interval=st.sampled_from(["1m", "5m", "15m"]), host=st.sampled_from([None, "a", "b"]))
    def downsample(self, edge: int, interval: str, host: str | None) -> None:
        labels = None if host is None else {"host": host}
        self.store.downsample(now_micros() - self.base - edge, interval, "m", labels)
        self.boundary = max(self.boundary, edge)

    @rule(edge=SECONDS, interval=st.sampled_from(["1m", "5m", "15m"]), after=STEPS)
    def fail(self, edge: int, interval: str, after: int) -> None:
        """A downsampling that is cut short; then the folder as it lies on the disk, opened elsewhere."""
        try:
            with Failing(self.store, after):
                self.store.downsample(now_micros() - self.base - edge, interval)
        except StorageError:
            pass
        self.boundary = max(self.boundary, edge)
        copy = self.root / str(self.generation + 1)
        copied(self.root / str(self.generation), copy)
        self.store.close()
        self.generation += 1
        self.store = self.opened()

    @rule()
    def merge(self) -> None:
        self.store.downsample_policy("10y -> 1m", name="none")
        self.store.downsample(now_micros() - self.base + HOUR, "1m", "m")

    @invariant()
    def queries_agree(self) -> None:
        for function in (
            "count_over_time",
            "max_over_time",
            "sum_over_time",
            "stddev_over_time",
            *sorted(PIECEWISE)[:4],
        ):
            self.compare(function, "15m", "15m")
        self.compare("increase" if not self.late else "min_over_time", "30m", "15m")
        self.compare("integrate_negative" if not self.late else "avg_over_time", "1h", "30m")
        self.compare("rate" if not self.late else "last_over_time", "45m", "15m")

    @invariant()
    def sql_agrees(self) -> None:
        for text in (
            "SELECT host, time_bucket('15m', time) AS t, count(*) AS n, sum(value) AS s FROM metric.m GROUP BY 1, 2",
            "SELECT series_id, count(*) AS n, sum(value) AS s FROM samples WHERE time >= $start GROUP BY 1",
        ):
            start = np.datetime64(self.base + 45 * MINUTE, "us").item()
            found, wanted = (store.sql(f"{text} ORDER BY 1, 2", start=start) for store in (self.store, self.plain))
            for one, other in zip(found.rows(), wanted.rows(), strict=True):
                np.testing.assert_allclose(one.pop("s"), other.pop("s"), rtol=1e-9, atol=1e-6, err_msg=text)
                assert one == other, text
            assert not found.approximate, text

    def compare(self, function: str, width: str, step: str) -> None:
        query = f"{function}(m[{width}])"
        span = {"start": self.base, "end": self.base + 150 * MINUTE, "step": step}
        found, wanted = (store.promql_range(query, **span) for store in (self.store, self.plain))
        assert found.labels == wanted.labels, query
        assert found.times.tolist() == wanted.times.tolist(), (query, found.tiers)
        if function in ("count_over_time", "max_over_time", "min_over_time", "last_over_time"):
            assert found.values.tolist() == wanted.values.tolist(), query
        np.testing.assert_allclose(found.values, wanted.values, rtol=1e-9, atol=1e-6, err_msg=query)
        assert not found.warnings, query

    def teardown(self) -> None:
        self.store.close()
        self.plain.close()
        shutil.rmtree(self.root)


@pytest.mark.parametrize("examples", [4, pytest.param(15, marks=pytest.mark.soak)])
def test_downsampling(monkeypatch: pytest.MonkeyPatch, examples: int) -> None:
    # as if all times were kept, however uneven
    monkeypatch.setattr(spacing, "MOST", 10**6)
    run_state_machine_as_test(Machine, settings=settings(max_examples=examples, stateful_step_count=8))
