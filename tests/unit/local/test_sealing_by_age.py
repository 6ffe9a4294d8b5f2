"""A head that is never empty is sealed when it is old, and not again at every look from then on."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pyarrow as pa

from kymograph.local.engine import LocalEngine
from kymograph.local.files import Files
from kymograph.model.batch import conform
from kymograph.model.schema import table_schema
from kymograph.options import StoreOptions
from tests.server.running import eventually

SEAL_AFTER = 2_100_000


class Counting(Files):
    """Counts the blocks that are published."""

    def __init__(self) -> None:
        self.published = 0

    def step(self, name: str, path: Path) -> None:
        self.published += name == "rename" and path.suffix == ".parquet"


def test_steady_writing_makes_a_block_per_age_and_not_per_look(tmp_path: Path) -> None:
    files = Counting()
    engine = LocalEngine(tmp_path / "store", StoreOptions(seal_after=SEAL_AFTER, sync="off"), files)
    schema = table_schema("t", fields={"value": "float64"})
    engine.create_table(schema)
    stop = threading.Event()

    def write() -> None:
        number = 0
        # so slowly that the fastest machine makes no blocks large enough to be merged by two
        while not stop.wait(0.001):
            rows = pa.table({"time": range(number, number + 50), "value": [1.0] * 50})
            engine.append("t", conform(rows, schema))
            number += 50

    writer = threading.Thread(target=write)
    began = time.monotonic()
    writer.start()
    stop.wait(5.3)
    there = eventually(lambda: files.published)
    stop.set()
    writer.join()
    engine.close()
    took = time.monotonic() - began
    assert there
    assert files.published <= took * 1e6 / SEAL_AFTER
