"""Copies of a folder while it is written, sealed, merged and pruned."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

import kymograph
from kymograph.errors import AlreadyExists, InvalidInput, StorageError
from kymograph.local import snapshot
from kymograph.local.snapshot import copy_folder, remove_unfinished
from kymograph.store.store import Store

ROWS = 500


def write(store: Store, batch: int) -> None:
    """Rows of one batch; `n` is its number, so that a torn one shows."""
    times = np.arange(ROWS, dtype=np.int64) * 1_000_000 + batch * ROWS * 1_000_000
    store.write("t", {"time": times, "host": "a", "n": np.full(ROWS, batch)})


def test_under_way(tmp_path: Path) -> None:
    """Every copy holds the batches up to some moment, whole, and nothing is damaged in it."""
    with kymograph.connect(tmp_path / "store", sync="off") as store:
        write(store, 0)
        stop, failures = threading.Event(), list[BaseException]()

        def work() -> None:
            try:
                for batch in range(1, 10_000):
                    if stop.is_set():
                        return
                    write(store, batch)
                    if batch % 3 == 0:
                        store.seal()
                    if batch % 7 == 0:
                        store.compact()
                    if batch % 20 == 0:
                        store.delete("t", end=(batch - 10) * ROWS * 1_000_000)
            except BaseException as problem:
                failures.append(problem)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            for copy in range(12):
                store.snapshot(tmp_path / str(copy))
        finally:
            stop.set()
            thread.join(60)
        assert not failures
    newest = -1
    for copy in range(12):
        with kymograph.connect(tmp_path / str(copy)) as store:
            assert not store.check().damages
            counts = np.bincount(store.scan("t")["n"].to_numpy().astype(int))
            there = np.flatnonzero(counts)
            assert (counts[there] == ROWS).all()
            assert (np.diff(there) == 1).all()
            assert there[-1] >= newest
            newest = int(there[-1])


def test_what_is_there_already_stays(tmp_path: Path) -> None:
    with kymograph.connect(tmp_path / "store") as store:
        write(store, 0)
        store.snapshot(tmp_path / "copy")
        with pytest.raises(AlreadyExists):
            store.snapshot(tmp_path / "copy")
        with pytest.raises(AlreadyExists):
            store.snapshot(tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["copy", "store"]


def test_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system cannot link, blocks are copied."""

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(snapshot.os, "link", refuse)
    with kymograph.connect(tmp_path / "store") as store:
        write(store, 0)
        store.seal()
        store.snapshot(tmp_path / "copy")
        store.drop_table("t")
    with kymograph.connect(tmp_path / "copy") as store:
        assert store.scan("t").num_rows == ROWS


def test_streams_are_in_it(tmp_path: Path) -> None:
    with kymograph.connect(tmp_path / "store") as store:
        stream = store.stream("/meter/1/raw", "float64_2")
        stream.insert(np.column_stack([np.arange(20) * 100_000.0, np.ones((20, 2))]))
        store.seal()
        store.snapshot(tmp_path / "copy")
    with kymograph.connect(tmp_path / "copy") as store:
        assert not store.check().damages
        assert store.stream("/meter/1/raw").count() == 20


def test_no_store_and_no_room(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(StorageError):
        copy_folder(tmp_path / "empty", tmp_path / "copy")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["empty"]
    with kymograph.connect("memory:") as store, pytest.raises(InvalidInput, match="not kept in files"):
        store.snapshot(tmp_path / "copy")


def unfinished(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if each.name.endswith(".tmp"))


def test_nothing_is_left_of_one_that_fails(tmp_path: Path) -> None:
    """A block that is missing for good: every attempt fails, and the last leaves nothing either."""
    with kymograph.connect(tmp_path / "store") as store:
        write(store, 0)
        store.seal()
        next((tmp_path / "store" / "blocks").rglob("*.parquet")).unlink()
        with pytest.raises(StorageError):
            store.snapshot(tmp_path / "new" / "copy")
        with pytest.raises(StorageError):
            store.snapshot(tmp_path / "copy")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["store"]


def test_one_under_way_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another copy into the same folder, or another opening, does not take it for what a crash has left."""
    path, link, begun = tmp_path / "store", os.link, list[str]()

    def slow(source: Path, target: Path) -> None:
        if not begun:
            begun.extend(unfinished(path / "snapshots"))
            copy_folder(path, path / "snapshots" / "second")
            with kymograph.connect(path, namespace="inner"):
                pass
            remove_unfinished(path / "snapshots")
        link(source, target)

    with kymograph.connect(path) as store:
        write(store, 0)
        store.seal()
        monkeypatch.setattr(snapshot.os, "link", slow)
        store.snapshot(path / "snapshots" / "first")
    assert len(begun) == 1
    for name in ("first", "second"):
        with kymograph.connect(path / "snapshots" / name) as store:
            assert store.scan("t").num_rows == ROWS
