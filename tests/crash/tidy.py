"""What a folder must look like after it was opened, whatever happened before."""

from __future__ import annotations

from pathlib import Path

from kymograph.local.engine import LocalEngine
from tests.server.running import eventually

TOP = {"catalog.db", "catalog.db-wal", "catalog.db-shm", "settings.jsonl", "LOCK"}


def assert_tidy(folder: Path, engine: LocalEngine) -> None:
    """No file that the catalog does not know, none missing, and nothing that a check would name."""
    blocks = [path for path in folder.glob("blocks/**/*") if path.is_file()]
    assert all(path.suffix == ".parquet" for path in blocks), blocks
    known = sum(engine.statistics(name).blocks for name in engine.tables())
    assert len(blocks) == known, f"{len(blocks)} files, {known} blocks"
    # a file that is about to be renamed is gone at the next look
    assert eventually(lambda: {path.name for path in folder.iterdir() if path.is_file()} <= TOP), list(folder.iterdir())
    report = engine.check()
    assert not report.damages, report.damages
