"""The suite of streams over every engine, and over the embedded one in its states."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kymograph.engine.memory import MemoryEngine
from kymograph.local.engine import LocalEngine
from kymograph.options import StoreOptions
from tests.contract.streams import StreamsOf
from tests.crash.stream_script import small_sizes


class TestMemory(StreamsOf):
    def open(self, folder: Path, **options: Any) -> MemoryEngine:
        return MemoryEngine(StoreOptions(**options))


class TestHot(StreamsOf):
    """Insertions stay in the log."""

    def open(self, folder: Path, **options: Any) -> LocalEngine:
        return LocalEngine(folder, StoreOptions(**{"sync": "off", **options}))


class TestFolded(TestHot):
    """Insertions become blocks at once, and blocks and chunks are small."""

    @pytest.fixture(autouse=True)
    def _small(self) -> Iterator[None]:
        with small_sizes():
            yield

    def after_write(self, engine: Any) -> None:
        engine.seal()
