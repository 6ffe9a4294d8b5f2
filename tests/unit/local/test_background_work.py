"""Background work that fails for one table or stream is done for the others all the same, and writers do not wait for it."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import kymograph
from kymograph.local.engine import LocalEngine
from kymograph.local.files import Files
from kymograph.model.batch import conform, to_table
from kymograph.model.schema import table_schema
from kymograph.options import StoreOptions
from kymograph.store.store import Store
from tests.server.running import eventually

START = 1_700_000_000_000_000
HEAD = 2**18
# so many rows of a stream are more than its log may hold
INSERTIONS, ROWS = 40, 1000


def opened(path: Path) -> Store:
    return kymograph.connect(path, sync="off", head_bytes=HEAD, seal_after="100ms")


def write(store: Store, table: str, start: int, rows: int) -> None:
    store.write(table, {"time": np.arange(start, start + rows), "a": ["x"] * rows, "v": np.ones(rows)})


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.fixture
def damaged(tmp_path: Path) -> Iterator[Store]:
    """A table one of whose blocks is damaged, with rows that fall into it, and a stream whose neighbours cannot be merged."""
    with opened(tmp_path / "s") as store:
        write(store, "t", START, 100)
        store.stream("/bad/one", layout="float32_8")
        insert(store, "/bad/one", START, 10)
        store.seal()
    flip(next((tmp_path / "s" / "blocks" / "t").rglob("*.parquet")))
    flip(next(path for path in (tmp_path / "s" / "streams").rglob("*") if path.is_file()))
    with opened(tmp_path / "s") as store:
        write(store, "t", START + 50, 100)
        insert(store, "/bad/one", START + 10, 10)
        yield store


def insert(store: Store, path: str, start: int, rows: int) -> None:
    streams = store.engine.streams
    found = np.zeros(rows, streams.streams()[path].layout.rows)
    found["timestamp"] = np.arange(start, start + rows)
    streams.insert(path, found, start, start + rows)


def test_writers_of_others_go_on(damaged: Store) -> None:
    damaged.stream("/good/one", layout="float32_8")

    def stream() -> None:
        for at in range(START, START + INSERTIONS * ROWS, ROWS):
            insert(damaged, "/good/one", at, ROWS)

    def table() -> None:
        for at in range(START, START + 30 * ROWS, ROWS):
            write(damaged, "u", at, ROWS)

    with ThreadPoolExecutor(2) as pool:
        for work in [pool.submit(stream), pool.submit(table)]:
            work.result(120)
    assert damaged.stream("/good/one").count() == INSERTIONS * ROWS
    assert damaged.engine.statistics("u").rows == 30 * ROWS
    # two fast writers may be done before the first try at the damaged ones is due
    assert eventually(lambda: not damaged.healthy()["ok"])


class Refusing(Files):
    """Refuses to write a file, once somebody says so."""

    def __init__(self) -> None:
        self.asked, self.told = threading.Event(), threading.Event()

    def step(self, name: str, path: Path) -> None:
        if name == "write":
            self.asked.set()
            assert self.told.wait(60)
            raise OSError(errno.EIO, "no", str(path))


def test_a_failure_is_logged_once_however_often_it_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tries = 0

    class Failing(Files):
        def step(self, name: str, path: Path) -> None:
            nonlocal tries
            if name == "write" and tries < 5:
                tries += 1
                raise OSError(errno.ENOSPC, "no", str(path))

    engine = LocalEngine(tmp_path, StoreOptions(sync="off", seal_after=1), Failing())
    schema = table_schema("t", fields={"v": "int64"})
    engine.create_table(schema)

    def tried_again() -> bool:
        engine._upkeep.wake()
        return engine.statistics("t").hot_rows == 0

    engine.append("t", conform(to_table({"time": [1], "v": [2]}), schema))
    assert eventually(tried_again)
    assert eventually(lambda: not engine.failure)
    engine.close()
    told = [record.message for record in caplog.records if "background work" in record.message]
    assert tries == 5
    assert len(told) == 2, told
    assert "no room left" in told[0]
    assert told[1] == "background work succeeds again"


def test_closing_does_not_wait_for_another_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Refusing()
    engine = LocalEngine(tmp_path, StoreOptions(sync="off", seal_after=1), files)
    schema = table_schema("t", fields={"v": "int64"})
    engine.create_table(schema)
    engine.append("t", conform(to_table({"time": [1], "v": [2]}), schema))
    assert files.asked.wait(60)
    pauses, wait = list[bool](), engine._upkeep._wake.wait

    def noted(seconds: float | None = None) -> bool:
        pauses.append(engine._upkeep._closed)
        return wait(seconds)

    monkeypatch.setattr(engine._upkeep._wake, "wait", noted)
    closing = threading.Thread(target=engine.close)
    closing.start()
    assert eventually(lambda: engine._upkeep._closed)
    files.told.set()
    closing.join(60)
    assert not closing.is_alive()
    assert not pauses, "the pause before the next try begins after all were woken"
