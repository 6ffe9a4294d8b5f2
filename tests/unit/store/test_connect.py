"""Opening: targets, options as text, read-only beside a writer, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import kymograph
from kymograph.errors import (
    DiskFull,
    InvalidInput,
    MissingDependency,
    NotFound,
    ReadOnly,
    StorageError,
    StoreClosed,
    StoreLocked,
)
from kymograph.local.engine import LocalEngine
from kymograph.options import StoreOptions
from kymograph.store.store import Store


def test_options_as_text() -> None:
    with kymograph.connect("memory:", cap="500MB", age="90d", prune_every="5m", head_bytes="1MiB") as store:
        assert store.options == StoreOptions(
            cap=500 * 10**6, age=90 * 86_400 * 10**6, prune_every=300 * 10**6, head_bytes=2**20
        )


def test_overrides_lie_on_top_of_options() -> None:
    given = StoreOptions(cap=10**8, sync="off")
    with kymograph.connect("memory:", options=given, sync="normal", cap=None) as store:
        assert store.options == StoreOptions(cap=None, sync="normal")


@pytest.mark.parametrize(
    "options",
    [
        {"cap": "much"},
        {"cap": True},
        {"cap": 1.5},
        {"age": "-1d"},
        {"sync": "maybe"},
        {"colour": "red"},
        {"cap": "1MB"},
        {"prune_every": 0},
        {"seal_after": None},
    ],
)
def test_options_that_are_none(options: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        kymograph.connect("memory:", **options)


@pytest.mark.parametrize("target", ["", "  ", "a\0b", "memory:x", "redis://host", 7, None, b"folder"])
def test_targets_that_are_none(target: object) -> None:
    with pytest.raises(InvalidInput):
        kymograph.connect(target)  # type: ignore[arg-type]


def test_postgres_comes_later() -> None:
    with pytest.raises(MissingDependency, match="PostgreSQL"):
        kymograph.connect("postgresql://somewhere/db")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidInput, match="file"):
        kymograph.connect(tmp_path / "file")


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    for read_only in (False, True):
        with pytest.raises(StorageError, match="too long"):
            kymograph.connect(tmp_path / ("x" * 300), read_only=read_only)


def test_read_only_makes_no_folder(folder: Path) -> None:
    with pytest.raises(NotFound):
        kymograph.connect(folder, read_only=True)
    assert not folder.exists()


def test_reading_beside_a_writer(folder: Path) -> None:
    with kymograph.connect(str(folder)) as writer:
        writer.write("t", {"time": [1], "v": [1.0]})
        with kymograph.connect(folder, read_only=True) as reader:
            assert reader.scan("t").num_rows == 1
            writer.write("t", {"time": [2], "v": [2.0]})
            assert reader.scan("t")["v"].to_pylist() == [1.0, 2.0]
            with pytest.raises(ReadOnly):
                reader.write("t", {"time": [3], "v": [1.0]})
            with pytest.raises(ReadOnly):
                reader.gauge("cpu", 1.0)
            assert reader.info()["next_prune"] is None
        with pytest.raises(StoreLocked, match=str(os.getpid())):
            kymograph.connect(folder)


def test_closing(store: Store) -> None:
    store.write("t", {"time": [1], "v": [1.0]})
    store.close()
    store.close()
    assert store.healthy() == {"ok": False, "reason": "the store is closed"}
    for use in (
        lambda: store.write("t", {"time": [1], "v": [1.0]}),
        lambda: store.gauge("g", 1.0),
        lambda: store.record([]),
        lambda: store.scan("t"),
        lambda: store.reader("t"),
        lambda: store.sql("SELECT 1"),
        store.prune,
        store.tables,
        store.metrics,
        store.info,
    ):
        with pytest.raises(StoreClosed):
            use()


def test_what_was_written_is_there_again(folder: Path) -> None:
    with kymograph.connect(folder) as store:
        store.create_table(
            "t", ["host"], {"v": "float32"}, duplicates="reject", retention=kymograph.Retention(age="1y")
        )
        store.gauge("cpu", 1.5, {"host": "a"}, time=5, unit="percent")
        schema = store.tables()["t"]
    with kymograph.connect(folder) as store:
        assert store.tables()["t"] == schema
        assert store.metrics() == [{"name": "cpu", "kind": "gauge", "unit": "percent", "help": "", "series": 1}]
        store.gauge("cpu", 2.5, {"host": "a"}, time=6)
        assert store.scan("samples")["value"].to_pylist() == [1.5, 2.5]
        assert len(set(store.scan("samples")["series_id"].to_pylist())) == 1


def test_a_store_that_cannot_be_made_leaves_no_lock(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kymograph.connect(folder).close()

    def full(*_: object) -> None:
        raise DiskFull("no room left")

    with monkeypatch.context() as patch:
        patch.setattr(LocalEngine, "put_document", full)
        with pytest.raises(DiskFull):
            kymograph.connect(folder, cap="1GB")
    kymograph.connect(folder, cap="1GB").close()
