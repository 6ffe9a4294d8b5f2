"""Streams killed, refused and damaged at every step: all or nothing of each operation, and never a silent loss."""

from __future__ import annotations

import errno
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kymograph.errors import KymographError, StorageError
from kymograph.local.engine import LocalEngine
from kymograph.options import StoreOptions
from tests.crash.forks import Forks
from tests.crash.stream_script import SCRIPT, A, apply, assert_tidy, history, rows_at, small_sizes, state
from tests.crash.test_full import Failing

OPTIONS = StoreOptions(sync="off")


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    with small_sizes():
        yield


def test_killed_at_every_durable_step(forks: Forks, tmp_path: Path) -> None:
    states = history()
    k = 0
    while True:
        folder = tmp_path / f"{k}"
        end = forks.ended("streams", folder=str(folder), k=k)
        done = end.done
        engine = LocalEngine(folder, OPTIONS)
        found = state(engine)
        assert found in (states[done], states[min(done + 1, len(SCRIPT))]), f"step {k}, after {done} operations"
        assert_tidy(folder, engine)
        if A in found:
            engine.streams.insert(A, rows_at(10_000, 300), 10_000, 11_000)
        engine.close()
        if not end.killed:
            break
        k += 1
    assert k > 60


@pytest.mark.parametrize(("code", "stays"), [(errno.ENOSPC, True), (errno.EIO, False)])
def test_refused_at_every_step(tmp_path: Path, code: int, stays: bool) -> None:
    states = history()
    k = int(stays)
    while True:
        files = Failing(k, code, stays=stays)
        folder = tmp_path / f"{k}"
        try:
            engine = LocalEngine(folder, StoreOptions(sync="full"), files)
        except StorageError:
            files.mend()
            engine = LocalEngine(folder, StoreOptions(sync="full"), files)
        for number, operation in enumerate(SCRIPT):
            try:
                apply(engine, operation)
            except StorageError:
                found = state(engine)
                # folding takes one stretch after the other
                assert found in (states[number], states[number + 1]), f"step {k}: {operation}"
                files.mend()
                apply(engine, operation)
                assert state(engine) == states[number + 1], f"step {k}: {operation}"
        engine.close()
        engine = LocalEngine(folder, OPTIONS)
        assert state(engine) == states[-1]
        assert_tidy(folder, engine)
        engine.close()
        if not files.failed:
            break
        # any step may be the one; every third one is enough
        k += 3
    assert k > 60


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("streams") / "store"
    with small_sizes():
        engine = LocalEngine(folder, OPTIONS)
        for operation in SCRIPT[:16]:
            apply(engine, operation)
        found = state(engine)
        engine.close()
    return folder, found


def test_a_flipped_byte_is_never_silent(prepared: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    dice = random.Random(4)
    files = sorted((prepared[0] / "streams").rglob("*.kys"))
    named = 0
    for number in range(60):
        folder = tmp_path / f"{number}"
        shutil.copytree(prepared[0], folder)
        file = folder / dice.choice(files).relative_to(prepared[0])
        raw = bytearray(file.read_bytes())
        raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
        file.write_bytes(raw)
        engine = LocalEngine(folder, OPTIONS)
        report = engine.check()
        try:
            answer: Any = state(engine)
        except StorageError:
            answer = None
            assert report.damages
        assert answer is None or answer == prepared[1]
        named += bool(report.damages)
        repaired = engine.check(repair=True)
        assert all(damage.repaired for damage in repaired.damages)
        assert not engine.check().damages
        after = state(engine)
        for path, (_, coverage, rows, _, _) in prepared[1].items():
            kept = after[path][2]
            kept_times = {time for time, _ in kept}
            assert kept_times <= {time for time, _ in rows}
            assert all(value == [time % 1000, 7] for time, value in kept)
            # what was lost is no longer said to be covered, so that it can be inserted again
            lost = [time for time, _ in rows if time not in kept_times]
            assert not any(start <= time < end for time in lost for start, end in after[path][1])
            assert len(coverage)
        engine.close()
    # a byte of the leading magic is in nobody's checksum
    assert named > 50


@pytest.mark.parametrize("harm", ["gone", "garbage"])
def test_without_its_catalog(prepared: tuple[Path, dict[str, Any]], tmp_path: Path, harm: str) -> None:
    folder = tmp_path / "store"
    shutil.copytree(prepared[0], folder)
    engine = LocalEngine(folder, OPTIONS)
    engine.streams.fold()
    before = state(engine)
    engine.close()
    for path in folder.glob("catalog.db*"):
        path.unlink()
    if harm == "garbage":
        (folder / "catalog.db").write_bytes(bytes(9000))
    engine = LocalEngine(folder, OPTIONS)
    assert any("streams" in note for note in engine.check().notes)
    after = state(engine)
    # a stream that was renamed after its blocks were written has its old name in them, and its metadata
    assert sorted(rows for _, _, rows, _, _ in after.values()) == sorted(rows for _, _, rows, _, _ in before.values())
    assert sorted(one[3] for one in after.values()) == sorted(one[3] for one in before.values())
    assert_tidy(folder, engine)
    engine.close()


def test_a_damaged_insertion_of_the_log(prepared: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    import sqlite3

    folder = tmp_path / "store"
    shutil.copytree(prepared[0], folder)
    engine = LocalEngine(folder, OPTIONS)
    engine.streams.insert(A, rows_at(50_000, 5), 50_000, 50_010)
    engine.close()
    with sqlite3.connect(folder / "catalog.db") as db:
        number = db.execute("SELECT max(id) FROM stream_hot").fetchone()[0]
        db.execute("UPDATE stream_hot SET data = zeroblob(100) WHERE id = ?", (number,))
    db.close()
    engine = LocalEngine(folder, OPTIONS)
    with pytest.raises(KymographError, match="damaged"):
        list(engine.streams.read(A))
    assert [damage.table for damage in engine.check().damages] == [A]
    assert engine.check(repair=True).damages
    assert engine.streams.count(A) == prepared[1][A][4]
    engine.close()
