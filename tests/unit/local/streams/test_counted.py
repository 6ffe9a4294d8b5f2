"""Bytes of a stream's blocks count towards the cap from before they are written until they are gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kymograph.errors import DiskFull
from kymograph.local.engine import LocalEngine
from kymograph.local.files import Files
from kymograph.local.streams.room import Room
from kymograph.model.stream import Layout, StreamSchema
from kymograph.options import StoreOptions

LAYOUT = Layout.parse("uint16_6")
PATH = "/meter/1/raw"


class Watching(Files):
    """Looks at each step whether everything that is on the disk is counted."""

    def __init__(self) -> None:
        self.engine: LocalEngine | None = None
        self.missing: list[tuple[str, int]] = []
        self.steps = 0

    def step(self, name: str, path: Path) -> None:
        if self.engine is not None:
            self.steps += 1
            self.look(name)

    def look(self, name: str) -> None:
        if self.engine is None:
            return
        there = sum(each.stat().st_size for each in (self.engine.path / "streams").rglob("*") if each.is_file())
        counted = self.engine._folder.streams.usage()
        if there > counted:
            self.missing.append((name, there - counted))


def rows(start: int, count: int) -> Any:
    found = np.zeros(count, LAYOUT.rows)
    found["timestamp"] = start + np.arange(count)
    found["data"] = np.random.default_rng(start).integers(0, 2**16, (count, 6))
    return found


def test_at_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Watching()
    engine = LocalEngine(tmp_path / "s", StoreOptions(sync="full", seal_after=3600 * 10**6), files)
    commit = Room.commit

    def watched(self: Room, *given: Any) -> Any:
        result = commit(self, *given)
        files.look("committed")
        return result

    monkeypatch.setattr(Room, "commit", watched)
    engine.streams.create(StreamSchema(PATH, LAYOUT, True))
    files.engine = engine
    engine.streams.insert(PATH, rows(0, 200_000), 0, 200_000)
    engine.streams.insert(PATH, rows(400_000, 1000), 400_000, 401_000)
    engine.streams.fold()
    engine.streams.remove(PATH, 50_000, 60_000)
    engine.streams.insert(PATH, rows(50_000, 1000), 50_000, 51_000)
    engine.streams.fold()
    engine.streams.merge()
    assert files.steps > 20
    assert files.missing == []
    files.engine = None
    there = sum(each.stat().st_size for each in (tmp_path / "s" / "streams").rglob("*") if each.is_file())
    assert engine._folder.streams.usage() == there
    engine.streams.destroy(PATH)
    assert engine._folder.streams.usage() == 0
    engine.close()


@pytest.mark.parametrize("refused", ["write", "fsync", "rename", "begin", "commit"])
def test_what_failed_is_counted_no_longer(tmp_path: Path, refused: str) -> None:
    class Refusing(Files):
        on = False

        def step(self, name: str, path: Path) -> None:
            if self.on and name == refused:
                raise OSError(28, "No space left on device", str(path))

    files = Refusing()
    engine = LocalEngine(tmp_path / "s", StoreOptions(sync="full", seal_after=3600 * 10**6), files)
    engine.streams.create(StreamSchema(PATH, LAYOUT, True))
    files.on = True
    with pytest.raises(DiskFull):
        engine.streams.insert(PATH, rows(0, 200_000), 0, 200_000)
    files.on = False
    there = sum(each.stat().st_size for each in (tmp_path / "s" / "streams").rglob("*") if each.is_file())
    # what a commit that failed may have entered after all stays until another has been made
    assert engine._folder.streams.usage() == there
    assert bool(there) == (refused in ("begin", "commit"))
    engine.streams.insert(PATH, rows(0, 1000), 0, 1000)
    assert engine._folder.streams.usage() == 0
    engine.close()
