"""Background work that fails for one table or stream is done for the others all the same, and writers do not wait for it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import kymograph
from kymograph.store.store import Store

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
            work.result(30)
    assert damaged.stream("/good/one").count() == INSERTIONS * ROWS
    assert damaged.engine.statistics("u").rows == 30 * ROWS
    assert not damaged.healthy()["ok"]
