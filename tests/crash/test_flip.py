"""A flipped byte anywhere in the folder: the right answer, an error, or a check that names it; never silence."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from kymograph.errors import StorageError
from kymograph.local.engine import LocalEngine
from kymograph.options import StoreOptions
from tests.crash.script import State, apply, difference, state

PLACES = 500
OPTIONS = StoreOptions(sync="off")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, State]:
    """A store of several blocks, documents and series with a hot log, as a crash would leave it."""
    folder = tmp_path_factory.mktemp("flip") / "store"
    engine = LocalEngine(folder, OPTIONS)
    for operation in (
        ("create",), ("append", 1, 0, 300, 3), ("seal",), ("append", 2, 200, 200, 1), ("seal",),
        ("document", "k", {"deep": [1, "text"]}), ("series", "x"), ("append", 3, 600, 100, 3), ("seal",),
    ):  # fmt: skip
        apply(engine, operation)
    engine.close()  # the log is folded into the catalog, the rest stays in the write-ahead log
    engine = LocalEngine(folder, OPTIONS)
    for operation in (
        ("append", 4, 100, 250, 3),
        ("append", 5, 650, 100, 1),
        ("document", "l", 1),
        ("append", 6, 5, 5, 1),
    ):
        apply(engine, operation)
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*-shm"))
    expected = state(engine)
    engine.close()
    return copy, expected


def test_the_copy_is_whole(prepared: tuple[Path, State], tmp_path: Path) -> None:
    folder, expected = prepared
    shutil.copytree(folder, tmp_path / "store")
    engine = LocalEngine(tmp_path / "store", OPTIONS)
    assert state(engine) == expected
    assert not engine.check().damages
    engine.close()


@pytest.mark.parametrize("chunk", range(10))
def test_flipped_bytes(prepared: tuple[Path, State], tmp_path: Path, chunk: int) -> None:
    folder, expected = prepared
    dice = random.Random(chunk)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size and path.name != "LOCK")
    assert {path.suffix for path in files} >= {".parquet", ".db"}
    silent = []
    for number in range(PLACES // 10):
        # by file first, so that small files are hit as often as the large catalog
        path = dice.choice(files)
        offset, change = dice.randrange(path.stat().st_size), dice.randrange(1, 256)
        copy = tmp_path / f"{number}"
        shutil.copytree(folder, copy)
        flip(copy / path.relative_to(folder), offset, change)
        outcome = answer(copy, expected)
        if outcome:
            silent.append(f"{path.relative_to(folder)} byte {offset} ^ {change:#04x}: {outcome}")
        shutil.rmtree(copy)
    assert not silent, f"{len(silent)} of {PLACES // 10}: " + "; ".join(silent)[:3000]


def flip(path: Path, offset: int, change: int) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        old = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([old ^ change]))


def answer(folder: Path, expected: State) -> str:
    """What is silently wrong, or nothing. An error of the engine's own and a damage named by check are no silence."""
    try:
        engine = LocalEngine(folder, OPTIONS)
    except StorageError:
        return ""
    try:
        try:
            found = state(engine)
        except StorageError:
            return ""
        report = engine.check()
        named = report.damages or any("damaged" in note or "could not be read" in note for note in report.notes)
        if found == expected or named:
            return ""
        return difference(expected, found)
    finally:
        engine.close()
