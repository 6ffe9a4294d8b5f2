"""A folder that another release wrote is refused and left as it is."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

import kymograph
from kymograph.errors import Corrupt, StorageError


def say(folder: Path, key: str, version: str) -> None:
    database = sqlite3.connect(folder / "catalog.db")
    database.execute("UPDATE meta SET value = ? WHERE key = ?", (version, key))
    database.commit()
    database.close()


def names(folder: Path) -> list[str]:
    """All but what SQLite keeps beside its file."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(("-wal", "-shm")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with kymograph.connect(tmp_path, sync="off") as store:
        store.gauge("m", 1.0, time=1)
        store.stream("/a/b", layout="float32_1")
    return tmp_path


@pytest.mark.parametrize("key", ["version", "streams_version"])
@pytest.mark.parametrize("read_only", [False, True])
def test_another_version_is_refused_and_nothing_is_touched(folder: Path, key: str, read_only: bool) -> None:
    say(folder, key, "2")
    before = names(folder)
    for _ in range(2):
        with pytest.raises(StorageError, match="of version 2, this release reads 1") as caught:
            kymograph.connect(folder, read_only=read_only)
        assert not isinstance(caught.value, Corrupt)
        assert "release" in caught.value.hint
    assert names(folder) == before
    say(folder, key, "1")
    with kymograph.connect(folder) as store:
        assert not store.info()["notes"]
        assert store.latest("samples").num_rows == 1


def test_a_version_that_is_none_is_damage(folder: Path) -> None:
    say(folder, "version", "!")
    with kymograph.connect(folder) as store:
        assert "rebuilt" in store.info()["notes"][0]
        assert store.latest("samples").num_rows == 1


@pytest.fixture
def sealed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a block of version 2, seen by a release that knows none but the first."""
    with kymograph.connect(folder) as store:
        store.seal()
    monkeypatch.setattr("kymograph.local.format.VERSION", 1)
    return folder


def blocks(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*.parquet")}


def test_blocks_of_a_later_release_are_no_damage_when_the_catalog_is_lost(sealed: Path) -> None:
    before = blocks(sealed)
    (sealed / "catalog.db").unlink()
    for _ in range(2):
        with pytest.raises(StorageError, match="of format 2, this release reads 1 to 1") as caught:
            kymograph.connect(sealed)
        assert not isinstance(caught.value, Corrupt)
        assert "release" in caught.value.hint
    assert blocks(sealed) == before


def test_repair_leaves_blocks_of_a_later_release(sealed: Path) -> None:
    before = blocks(sealed)
    with kymograph.connect(sealed) as store:
        for repair in (False, True):
            with pytest.raises(StorageError, match="of format 2") as caught:
                store.check(repair=repair)
            assert not isinstance(caught.value, Corrupt)
    assert blocks(sealed) == before
