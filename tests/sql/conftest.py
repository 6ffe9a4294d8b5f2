from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kymograph.engine.interface import Engine
from kymograph.engine.memory import MemoryEngine
from kymograph.local.engine import LocalEngine
from kymograph.options import StoreOptions


@pytest.fixture(params=["memory", "local hot", "local sealed"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """Every engine; the local one with its rows in the hot log, and with every append sealed into blocks."""
    if request.param == "memory":
        made: Engine = MemoryEngine()
    elif request.param == "local hot":
        made = LocalEngine(tmp_path / "store", StoreOptions())
    else:
        made = SealedEngine(tmp_path / "store", StoreOptions())
    yield made
    made.close()


class SealedEngine(LocalEngine):
    """Seals after each append, so that what is read comes from blocks."""

    def append(self, table: str, batch: object) -> int:  # type: ignore[override]
        rows = super().append(table, batch)
        self.seal(table)
        return rows
