"""A cap is a promise: gigabytes are written into a store of 50 MB, and the folder is never larger, at any moment anyone looks."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import kymograph
from kymograph.errors import LimitExceeded
from kymograph.local.engine import LocalEngine
from kymograph.model.batch import conform
from kymograph.model.schema import table_schema
from kymograph.options import StoreOptions
from tests.folders import size_of

CAP = 50_000_000
BATCH_ROWS = 20_000
FIELDS = 12
STEP = 1_000_000


class Watch(threading.Thread):
    """Measures the folder over and over."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.largest, self.looks = folder, 0, 0
        self._enough = threading.Event()

    def run(self) -> None:
        while not self._enough.wait(0.002):
            self.largest = max(self.largest, size_of(self.folder))
            self.looks += 1

    def stop(self) -> None:
        self._enough.set()
        self.join()


def batch(number: int, rng: np.random.Generator, noise: np.ndarray) -> pa.Table:
    times = np.arange(number * BATCH_ROWS, (number + 1) * BATCH_ROWS) // 20 * STEP
    hosts = pa.DictionaryArray.from_arrays(
        pa.array(np.tile(np.arange(20, dtype=np.int32), BATCH_ROWS // 20)), pa.array([f"host{i}" for i in range(20)])
    )
    columns = {"time": pa.array(times, pa.timestamp("us", tz="UTC")), "host": hosts}
    for field in range(FIELDS):
        # doubles that hardly compress: what reaches the disk is most of what is written
        shift = int(rng.integers(0, len(noise) - BATCH_ROWS))
        columns[f"v{field}"] = pa.array(noise[shift : shift + BATCH_ROWS])
    return pa.table(columns)


@pytest.mark.parametrize("total", [300_000_000, pytest.param(2_000_000_000, marks=pytest.mark.soak)])
def test_a_cap_of_50_mb_holds(tmp_path: Path, total: int) -> None:
    folder = tmp_path / "store"
    rng = np.random.default_rng(5)
    noise = rng.standard_normal(4 * BATCH_ROWS)
    written, batches = 0, total // (BATCH_ROWS * (FIELDS * 8 + 8)) + 1
    with kymograph.connect(folder, cap=CAP, sync="off") as store:
        watch = Watch(folder)
        watch.start()
        try:
            for number in range(batches):
                data = batch(number, rng, noise)
                store.write("meters", data)
                written += data.nbytes
                while watch.looks < number:  # also on a machine that writes faster than it looks
                    time.sleep(0.001)
        finally:
            watch.stop()
        assert written > total
        assert watch.looks > 100
        assert watch.largest <= CAP, f"the folder once had {watch.largest} bytes"
        left = store.scan("meters", columns=["time"])
        newest = (batches * BATCH_ROWS - 1) // 20 * STEP
        # the oldest went, the newest stayed, and what stayed has no hole
        times = left["time"].cast(pa.int64()).to_numpy()
        assert times[-1] == newest
        assert set(np.diff(times).tolist()) == {0, STEP}
        assert size_of(folder) > CAP // 3, "the cap is there to be used"
    assert size_of(folder) <= CAP


def test_a_batch_too_large_for_the_cap_costs_nothing(tmp_path: Path) -> None:
    schema = table_schema("meters", [], {"value": "float64"})
    engine = LocalEngine(tmp_path / "store", StoreOptions(cap=8_000_000))
    engine.create_table(schema)
    engine.append("meters", conform(pa.table({"time": [0], "value": [1.0]}), schema))
    engine.seal()
    rows = np.arange(1, 200_001)
    with pytest.raises(LimitExceeded, match="too large for a cap"):
        engine.append("meters", conform(pa.table({"time": rows, "value": rows / 3}), schema))
    assert engine.scan("meters").table()["value"].to_pylist() == [1.0]
    engine.close()


def test_a_frame_larger_than_the_cap_is_written_in_steps(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    rows = 1_500_000
    with kymograph.connect(tmp_path / "store", cap="10MB", sync="off") as store:
        data = pa.table({"time": np.arange(rows), "value": rng.standard_normal(rows)})
        assert store.write("meters", data) == rows
        assert size_of(tmp_path / "store") <= 10_000_000
        left = store.scan("meters")["time"].cast(pa.int64()).to_numpy()
    assert left[-1] == rows - 1
    assert np.array_equal(left, np.arange(left[0], rows))
