"""Downsampling that the disk stops half way: what comes late meanwhile is neither lost nor counted twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kymograph
from kymograph.errors import StorageError
from kymograph.local.engine import LocalEngine
from kymograph.model.time import DAY, HOUR, SECOND
from kymograph.store.jobs import now_micros
from kymograph.store.store import Store

BASE = now_micros() // HOUR * HOUR - 10 * DAY
LATE = BASE + SECOND // 2


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with kymograph.connect(tmp_path / "s", sync="off") as found:
        number = found.series_ids([("m", {})])[0]
        found.append_samples(np.full(600, number), BASE + (1 + np.arange(600)) * SECOND, np.ones(600))
        yield found


def append(store: Store, time: int, value: float) -> None:
    store.append_samples(store.series_ids([("m", {})]), np.array([time]), np.array([value]))


def total(store: Store) -> float:
    return float(store.promql("sum_over_time(m[1h])", time=BASE + HOUR).values[0])


@contextmanager
def failing_deletion(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Rows of samples cannot be removed: removing rewrites blocks, and there is no room."""
    delete = LocalEngine.delete

    def refused(self: LocalEngine, table: str, *rest: Any, **named: Any) -> int:
        if table == "samples":
            raise StorageError("no room left")
        return delete(self, table, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(LocalEngine, "delete", refused)
        yield


def test_a_late_write_that_waited_for_the_first_step_is_noted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    watched: Any = store.engine
    waiting, wait = threading.Event(), watched.touched._wait_for_gate

    def waits(table: str, low: int) -> None:
        if low == LATE:
            waiting.set()
        wait(table, low)

    downsampling: Any = store._downsampling()
    gathered = downsampling._gathered
    writer = threading.Thread(target=append, args=(store, LATE, 7.0))

    def gathers(*given: Any) -> Any:
        if not writer.ident:
            writer.start()
            assert waiting.wait(60)
        return gathered(*given)

    monkeypatch.setattr(watched.touched, "_wait_for_gate", waits)
    monkeypatch.setattr(downsampling, "_gathered", gathers)
    assert store.downsample("9d", "1m")["samples"] == 600
    writer.join(60)
    assert total(store) == 607
    store.run_rollups()
    assert total(store) == 607
    assert store.info()["tables"]["samples"]["rows"] == 0


def test_a_deletion_waits_for_summaries_that_are_being_made(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    downsampling: Any = store._downsampling()
    gathered = downsampling._gathered
    deletion = threading.Thread(target=lambda: store.engine.delete("samples"))

    def gathers(*given: Any) -> Any:
        made = gathered(*given)
        if not deletion.ident:
            deletion.start()
            deletion.join(0.2)
            assert deletion.is_alive()
        return made

    monkeypatch.setattr(downsampling, "_gathered", gathers)
    store.downsample("9d", "1m")
    deletion.join(60)
    assert len(store.promql("sum_over_time(m[1h])", time=BASE + HOUR).values) == 0


def test_what_comes_late_while_samples_could_not_be_removed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with failing_deletion(monkeypatch), pytest.raises(StorageError):
        store.downsample("9d", "1m")
    assert total(store) == 600
    with pytest.raises(StorageError, match="half done"):
        append(store, LATE, 7.0)
    append(store, now_micros(), 1.0)
    store.run_rollups()
    append(store, LATE, 7.0)
    assert total(store) == 607
    store.run_rollups()
    assert total(store) == 607


def test_what_comes_late_while_a_merge_could_not_be_ended(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.downsample("9d", "1m")
    append(store, LATE, 7.0)
    with failing_deletion(monkeypatch), pytest.raises(StorageError):
        store.run_rollups()
    assert total(store) == 607
    with pytest.raises(StorageError, match="half done"):
        append(store, LATE + 1, 9.0)
    store.run_rollups()
    append(store, LATE + 1, 9.0)
    assert total(store) == 616
    store.run_rollups()
    assert total(store) == 616


def test_a_store_opens_while_the_rest_cannot_be_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        number = store.series_ids([("m", {})])[0]
        store.append_samples(np.full(600, number), BASE + (1 + np.arange(600)) * SECOND, np.ones(600))
        with failing_deletion(monkeypatch), pytest.raises(StorageError):
            store.downsample("9d", "1m")
    with failing_deletion(monkeypatch), kymograph.connect(tmp_path / "s", sync="off") as store:
        assert total(store) == 600
        with pytest.raises(StorageError, match="half done"):
            append(store, LATE, 7.0)
        append(store, now_micros(), 1.0)
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        append(store, LATE, 7.0)
        assert total(store) == 607
