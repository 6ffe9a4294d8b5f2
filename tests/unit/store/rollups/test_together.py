"""Writers, the one who downsamples and readers at the same time: nothing is lost, and nothing counts twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import kymograph
from kymograph.model.time import DAY, HOUR, MINUTE, SECOND
from kymograph.store.jobs import now_micros

BASE = now_micros() // HOUR * HOUR - 2 * DAY
ROUNDS, BATCH = 40, 25


@pytest.mark.parametrize("target", ["memory", "local"])
def test_counts_only_grow(target: str, tmp_path: Path) -> None:
    with kymograph.connect("memory:" if target == "memory" else tmp_path / "s", sync="off") as store:
        number = store.series_ids([("m", {})])[0]
        # every time once, in an order that is late most of the time
        order = np.random.default_rng(3).permutation(ROUNDS * BATCH)
        times = BASE + order * 7 * SECOND
        store.append_samples(np.full(BATCH, number), times[:BATCH], np.ones(BATCH))
        store.create_rollup("m_1m")
        written, problems, done = [BATCH], list[BaseException](), threading.Event()

        def kept(work: Callable[[], None]) -> None:
            try:
                work()
            except BaseException as problem:  # the test tells it
                problems.append(problem)
                done.set()

        def write() -> None:
            for start in range(BATCH, len(times), BATCH):
                batch = times[start : start + BATCH]
                store.append_samples(np.full(len(batch), number), batch, np.ones(len(batch)))
                written[0] += len(batch)
            done.set()

        def reduce() -> None:
            step = 0
            while not done.is_set():
                step = min(step + 1, 60)  # nothing is written beyond these ten hours
                store.downsample(now_micros() - BASE - step * 10 * MINUTE, "1m")
                store.run_rollups()

        def read() -> None:
            seen = 0.0
            while not done.is_set():
                before = written[0]
                found = store.promql("sum_over_time(m[6h])", time=BASE + 5 * HOUR).values
                count = float(found[0]) if len(found) else 0.0
                assert before <= count <= written[0] + BATCH
                assert count >= seen
                seen = count

        threads = [threading.Thread(target=kept, args=(work,)) for work in (write, reduce, read)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert not any(thread.is_alive() for thread in threads)
        assert not problems, problems
        store.downsample("1d", "1m")
        found = store.promql("count_over_time(m[6h])", time=BASE + 5 * HOUR)
        assert found.values.tolist() == [float(len(times))]
        assert store.info()["tables"]["samples"]["rows"] == 0


def test_the_first_replacement_while_samples_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that was told that nothing is summarised reads its samples only after they have been replaced."""
    from kymograph.promql.source import Source

    with kymograph.connect(tmp_path / "s", sync="off") as store:
        number = store.series_ids([("m", {})])[0]
        store.append_samples(np.full(100, number), BASE + np.arange(100) * SECOND, np.ones(100))
        load = Source.load

        def late(self: Source, *given: object) -> object:
            monkeypatch.undo()
            assert store.downsample("1h", "1m")["samples"] == 100
            return load(self, *given)  # type: ignore[arg-type]

        monkeypatch.setattr(Source, "load", late)
        found = store.promql("count_over_time(m[6h])", time=BASE + 5 * HOUR)
        assert found.values.tolist() == [100.0]


def test_samples_older_than_all_come_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written between the look for the oldest sample and the first step is in the summaries all the same."""
    from kymograph.store.rollups.downsampling import Downsampling

    with kymograph.connect(tmp_path / "s", sync="off") as store:
        number = store.series_ids([("m", {})])[0]
        store.append_samples(np.full(10, number), BASE + HOUR + np.arange(10) * SECOND, np.ones(10))
        step = Downsampling._step

        def late(self: Downsampling, *given: object) -> object:
            monkeypatch.undo()
            store.append_samples(np.full(5, number), BASE + np.arange(5) * SECOND, np.ones(5))
            return step(self, *given)  # type: ignore[arg-type]

        monkeypatch.setattr(Downsampling, "_step", late)
        assert store.downsample("1h", "1m")["samples"] == 15
        assert store.promql("count_over_time(m[6h])", time=BASE + 5 * HOUR).values.tolist() == [15.0]
