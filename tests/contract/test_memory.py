"""The oracle passes the suite that it is the oracle of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kymograph.engine.interface import Bounded, Engine
from kymograph.engine.memory import MemoryEngine
from kymograph.errors import ReadOnly
from kymograph.model.time import DAY
from kymograph.options import Retention, StoreOptions
from tests.contract.base import SIMPLE
from tests.contract.changes import Bounds, Changes
from tests.contract.duplicates import DuplicateRowsOf
from tests.contract.labels import LaterLabelBounds, LaterLabels
from tests.contract.lifecycle import Lifecycle, Threads
from tests.contract.rings import RingsOf
from tests.contract.scans import Scans
from tests.contract.values import Values
from tests.rows import batch_of, scanned


class TestMemory(
    Values, DuplicateRowsOf, Scans, Changes, LaterLabels, Bounds, LaterLabelBounds, Lifecycle, Threads, RingsOf
):
    def open(self, folder: Path, **options: Any) -> Engine:
        return MemoryEngine(StoreOptions(**options))

    def test_it_is_what_it_says(self, engine: Engine) -> None:
        assert isinstance(engine, Engine)
        assert isinstance(engine, Bounded)

    def test_read_only(self, tmp_path: Path) -> None:
        engine = self.open(tmp_path, read_only=True)
        with pytest.raises(ReadOnly):
            engine.create_table(SIMPLE)

    def test_the_store_age_holds_for_tables_without_their_own(self, tmp_path: Path) -> None:
        engine = MemoryEngine(StoreOptions(age=DAY))
        self.create(engine)
        self.put(engine, {("a", "x", 0): 1.0, ("a", "x", DAY): 1.0})
        assert engine.prune(now=2 * DAY).rows == 1

    def test_bytes_take_the_oldest_partitions_first(self) -> None:
        engine = MemoryEngine()
        schema = SIMPLE.__class__(SIMPLE.name, SIMPLE.labels, SIMPLE.fields, retention=Retention(bytes=500))
        engine.create_table(schema)
        self.append(engine, "t", {"time": [t * DAY for t in range(20)], "host": "a", "unit": "x"})
        engine.append("t", batch_of(schema, {"time": [-DAY], "host": ["late"], "unit": ["x"]}))
        report = engine.prune(now=0)
        left = scanned(engine, "t")
        assert [row[0] for row in left] == [t * DAY for t in range(20 - len(left), 20)]
        assert len(left) == 11
        assert engine.usage() <= 500
        assert [v.reason for v in report.victims] == ["bytes"] * 10
