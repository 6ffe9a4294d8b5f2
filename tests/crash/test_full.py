"""The disk says no, at every step and for real: an error, nothing acknowledged lost, and on it goes with room."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kymograph.errors import DiskFull, StorageError
from kymograph.local.engine import LocalEngine
from kymograph.local.files import Files
from kymograph.model.schema import table_schema
from kymograph.options import StoreOptions
from tests.crash.script import SHORT, History, Operation, apply, difference, state
from tests.crash.tidy import assert_tidy
from tests.rows import batch_of


class Failing(Files):
    """Refuses the k-th durable step and, until mended, every one after it where `stays`."""

    def __init__(self, k: int, code: int, *, stays: bool) -> None:
        self.left, self.code, self.stays = k, code, stays
        self.failed = False

    def step(self, name: str, path: Path) -> None:
        if self.left > 0:
            self.left -= 1
        elif self.left == 0:
            self.failed = True
            self.left = 0 if self.stays else -1
            raise OSError(self.code, os.strerror(self.code), str(path))

    def mend(self) -> None:
        self.left = -1


@pytest.mark.parametrize(
    ("code", "stays"), [(errno.ENOSPC, True), (errno.EIO, False)], ids=["ENOSPC until mended", "EIO once"]
)
def test_refused_at_every_step(tmp_path: Path, code: int, stays: bool) -> None:
    history = History(SHORT)
    k = 0
    while True:
        files = Failing(k, code, stays=stays)
        run_refused(tmp_path / f"{k}", files, history, f"step {k}")
        if not files.failed:
            break
        k += 1
    assert k > 40


def run_refused(folder: Path, files: Failing, history: History, where: str) -> None:
    options = StoreOptions(sync="full")
    try:
        engine = LocalEngine(folder, options, files=files)
    except StorageError:
        files.mend()
        engine = LocalEngine(folder, options, files=files)
    for number, operation in enumerate(SHORT):
        refused = attempt(engine, operation)
        if refused is not None:
            assert files.failed, f"{where}: {refused}"
            assert isinstance(refused, DiskFull) == (files.code == errno.ENOSPC), f"{where}: {refused!r}"
            # reading goes on while the disk is full; what failed has not happened, except that rows which were to go
            # may have gone when what follows their going is refused
            found = state(engine)
            before, after = history.states[number : number + 2]
            if operation[0] not in ("delete", "prune") or found != after:
                assert found == before, f"{where}, {operation}: {difference(before, found)}"
            files.mend()
            apply(engine, operation)
    expected = history.states[-1]
    found = state(engine)
    assert found == expected, f"{where}: {difference(expected, found)}"
    engine.close()
    engine = LocalEngine(folder, options)
    found = state(engine)
    assert found == expected, f"{where}, opened again: {difference(expected, found)}"
    assert_tidy(folder, engine)
    engine.close()


def numbers_in(engine: LocalEngine) -> int:
    """How many rows there are, if they are numbered without a gap; else -1."""
    numbers = np.sort(engine.scan("t", columns=["n"]).table()["n"].to_numpy())
    return len(numbers) if np.array_equal(numbers, np.arange(len(numbers))) else -1


def attempt(engine: LocalEngine, operation: Operation) -> StorageError | None:
    """The engine's refusal of an operation, if it refuses."""
    try:
        apply(engine, operation)
    except StorageError as refused:
        return refused
    return None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB of its own."""
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted: {mounted.stderr.strip()}")
    yield place
    # lazily, so that a failed test which still has files open leaves no mount behind
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    folder = small_disk / "store"
    schema = table_schema("t", ["l"], {"n": "int64"} | {f"noise{i}": "float64" for i in range(16)}, partition="1h")
    engine = LocalEngine(folder, StoreOptions(sync="full", head_bytes=4 * 2**20))
    engine.create_table(schema)
    dice = np.random.default_rng(1)
    rows = 5_000
    kept = 0

    def fill(batches: int) -> StorageError | None:
        """Append until the disk is full; rows are counted once they are acknowledged."""
        nonlocal kept
        for _ in range(batches):
            numbers = np.arange(kept, kept + rows)
            noise = {f"noise{i}": dice.random(rows) for i in range(16)}  # does not compress
            batch = batch_of(schema, {"time": numbers * 1_000_000, "l": "a", "n": numbers, **noise})
            try:
                engine.append("t", batch)
            except StorageError as refused:
                return refused
            kept += rows
        return None

    refused = fill(500)
    assert isinstance(refused, DiskFull), refused
    assert "free disk space" in refused.hint
    assert kept >= rows * 5
    for _ in range(3):
        assert fill(100) is not None, "a full disk has taken half a million rows"
        assert numbers_in(engine) == kept
    assert len(engine.latest("t")) == 1
    engine.close()
    engine = LocalEngine(folder, StoreOptions(sync="full", head_bytes=4 * 2**20))  # opens on a full disk, too
    assert numbers_in(engine) == kept
    subprocess.run(["mount", "-o", "remount,size=96m", str(small_disk)], check=True)
    deadline = time.monotonic() + 120
    while fill(1) is not None:
        assert time.monotonic() < deadline, "there is room again, and nothing is taken"
        time.sleep(0.1)
    engine.seal()
    engine.compact()
    assert numbers_in(engine) == kept
    engine.close()
    engine = LocalEngine(folder, StoreOptions())
    assert numbers_in(engine) == kept
    assert_tidy(folder, engine)
    engine.close()
