"""One cap for a store and its namespaces, and one of each namespace's own."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

import kymograph
from kymograph.store.store import Store
from tests.folders import size_of
from tests.server.running import eventually

CAP = 16_000_000
STEP = 60_000_000


def fill(store: Store, seed: int, batches: int, first: int = 0) -> None:
    """Incompressible rows, one batch per partition of a minute."""
    random = np.random.default_rng(seed)
    store.create_table("noise", ["who"], {"value": "float64"}, partition="1m")
    for batch in range(first, first + batches):
        times = batch * STEP + np.arange(20_000) * 1000
        store.write("noise", {"time": times, "who": "x", "value": random.random(20_000)})


def test_one_cap_for_all_takes_the_oldest_of_any(tmp_path: Path) -> None:
    with kymograph.connect(tmp_path, cap=CAP, sync="off") as store:
        old, new = store.create_namespace("old"), store.create_namespace("new")
        fill(old, 1, 10)
        old.seal()
        assert old.info()["rows"] == 200_000
        seen = [0]
        done = threading.Event()

        def watch() -> None:
            while not done.is_set():
                seen.append(size_of(tmp_path))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            writers = [threading.Thread(target=fill, args=(each, 2, 60, 10)) for each in (store, new)]
            for each in writers:
                each.start()
            for each in writers:
                each.join()
        finally:
            done.set()
            watcher.join()
        assert max(seen) <= CAP
        assert old.info()["rows"] < 20_000, "what is oldest goes first, whoever writes"
        assert new.info()["newest"] == store.info()["newest"] == 69 * STEP + 19_999_000
        # what is sealed meanwhile is in one of the two numbers
        assert eventually(lambda: abs(store.info()["usage_bytes"] - size_of(tmp_path)) < CAP // 20)
        report = store.prune(dry_run=True)
        assert all(victim.reason == "cap" for victim in report.victims)


def test_a_namespace_has_a_cap_of_its_own(tmp_path: Path) -> None:
    with kymograph.connect(tmp_path, cap=4 * CAP, sync="off") as store:
        small = store.create_namespace("small", cap=CAP // 2)
        fill(store, 3, 40)
        fill(small, 4, 80)
        assert size_of(tmp_path / "namespaces" / "small") <= CAP // 2
        assert store.info()["rows"] == 800_000
        assert small.info()["rows"] < 1_600_000
