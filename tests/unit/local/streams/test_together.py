"""Writers, removals, readers, background work and another process's view at once: never a wrong row, never a lost one."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kymograph
from kymograph.local.streams import folding
from tests.crash.stream_script import rows_at, small_sizes

STEPS = 60


def consistent(stream: Any, *, alone: bool) -> None:
    """What holds for whatever a reader finds; with `alone` nobody changes the stream meanwhile."""
    rows = stream.read()
    assert (np.diff(rows["timestamp"]) > 0).all()
    assert (rows["data"][:, 0] == rows["timestamp"] % 1000).all()
    zoomed = stream.read(max_rows=40).rows
    assert (np.diff(zoomed["timestamp"]) > 0).all()
    if alone:
        assert len(rows) == stream.count() == stream.intervals().duration
        assert stream.intervals().contains(rows["timestamp"]).all()


def write(store: Any, number: int) -> None:
    stream = store.stream(f"/w/{number}", "uint16_2")
    dice = random.Random(number)
    at = 0
    for _ in range(STEPS):
        count = dice.randrange(1, 200)
        stream.insert(rows_at(at, count))
        at += count + (dice.random() < 0.1) * 50
        if dice.random() < 0.1:
            start = dice.randrange(at)
            stream.remove(start, start + dice.randrange(1, 300))
        if dice.random() < 0.2:
            consistent(stream, alone=True)


def test_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "FOLD_BYTES", 4000)
    problems: list[BaseException] = []
    done = threading.Event()

    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as problem:
                problems.append(problem)

        return run

    with small_sizes(), kymograph.connect(tmp_path, sync="off") as store:
        other = kymograph.connect(tmp_path, read_only=True)

        def follow(reader: Any) -> None:
            while not done.is_set():
                for entry in reader.streams():
                    consistent(reader.stream(entry.path), alone=False)

        def maintain() -> None:
            while not done.wait(0.01):
                store.engine.streams.maintain()

        writers = [threading.Thread(target=guarded(lambda n=n: write(store, n))) for n in range(3)]  # type: ignore[misc]
        rest = [threading.Thread(target=guarded(lambda r=r: follow(r))) for r in (store, other)]  # type: ignore[misc]
        rest.append(threading.Thread(target=guarded(maintain)))
        for thread in (*writers, *rest):
            thread.start()
        for thread in writers:
            thread.join()
        done.set()
        for thread in rest:
            thread.join()
        other.close()
        assert problems == []
        assert not store.engine.check().damages
        for entry in store.streams():
            consistent(store.stream(entry.path), alone=True)
