"""The embedded engine in its states: hot, sealed, mixed and opened again; and what only it does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from kymograph.engine.interface import Bounded, Engine, Maintained
from kymograph.errors import AlreadyExists, ReadOnly, StorageError, StoreLocked
from kymograph.local import sealing
from kymograph.local.engine import LocalEngine
from kymograph.local.sealing import FANOUT
from kymograph.model.matcher import Matcher
from kymograph.model.schema import SAMPLES_SCHEMA
from kymograph.model.time import DAY, HOUR
from kymograph.options import StoreOptions
from tests.contract.base import SIMPLE, Suite
from tests.contract.changes import Bounds, Changes
from tests.contract.duplicates import DuplicateRowsOf
from tests.contract.labels import LaterLabelBounds, LaterLabels
from tests.contract.lifecycle import Lifecycle, Threads
from tests.contract.scans import Scans
from tests.contract.values import Values, scanned_values
from tests.folders import size_of
from tests.rows import batch_of, ordered, rows_of, scanned


class Local(Suite):
    def open(self, folder: Path, **options: Any) -> LocalEngine:
        return LocalEngine(folder, StoreOptions(**{"sync": "off", **options}))


class TestHot(
    Local, Values, DuplicateRowsOf, Scans, Changes, LaterLabels, Bounds, LaterLabelBounds, Lifecycle, Threads
):
    """Nothing is sealed."""


class TestSealed(Local, Values, DuplicateRowsOf, Scans, Changes, LaterLabels, Bounds, LaterLabelBounds, Threads):
    """Everything is sealed as it is written, so that every batch meets blocks."""

    writers, batches = 8, 4

    def after_write(self, engine: Any) -> None:
        engine.seal()


class TestMixed(Local, DuplicateRowsOf, Scans, Changes, LaterLabels, Bounds, LaterLabelBounds, Threads):
    """Every second batch is sealed, every fourth time blocks are merged."""

    writers, batches = 8, 6

    def after_write(self, engine: Any) -> None:
        count = getattr(engine, "_writes_seen", 0) + 1
        engine._writes_seen = count
        if count % 2 == 0:
            engine.seal()
        if count % 4 == 0:
            engine.compact()


class TestMaintenance(Local):
    """Sealing, merging, checking, opening again, other readers and a second writer."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "store"

    def test_it_is_what_it_says(self, engine: Engine) -> None:
        assert isinstance(engine, Engine)
        assert isinstance(engine, Bounded)
        assert isinstance(engine, Maintained)

    def test_sealing_moves_rows_and_changes_no_answer(self, engine: Any) -> None:
        self.create(engine)
        self.put(engine, {("a", "x", t * HOUR): float(t) for t in range(-30, 30)})
        self.put(engine, {("a", "x", t * HOUR): float(-t) for t in range(-30, 0)})
        before = scanned(engine, "t"), rows_of(engine.latest("t"))
        assert engine.statistics("t").blocks == 0
        assert engine.seal("t") == 60
        found = engine.statistics("t")
        assert (found.hot_rows, found.hot_bytes, found.rows, found.partitions) == (0, 0, 60, 4)
        assert found.blocks >= 4
        assert found.sealed_bytes > 0
        assert (scanned(engine, "t"), rows_of(engine.latest("t"))) == before
        assert engine.seal() == 0

    def test_compacting_leaves_one_block_of_a_partition(self, engine: Any) -> None:
        self.create(engine)
        for t in range(FANOUT - 1):  # fewer than background work merges
            self.put(engine, {("a", "x", t): float(t), ("b", "x", DAY + t): float(t)})
            engine.seal()
        before = scanned(engine, "t")
        running = engine.scan("t")
        blocks = engine.statistics("t").blocks
        calls: list[tuple[int, int]] = []
        removed = engine.compact(lambda done, total: calls.append((done, total)))
        assert engine.statistics("t").blocks == 2
        assert removed == blocks - 2
        assert all(0 <= done <= total for done, total in calls)
        assert scanned(engine, "t") == before
        assert ordered(rows_of(running.table())) == before
        assert engine.compact() == 0

    def test_what_somebody_else_merged_is_not_counted(self, engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.create(engine)
        for t in range(3):
            self.put(engine, {("a", "x", t): float(t)})
            engine.seal()
        mergeable = sealing.mergeable

        def late(*given: Any, **named: Any) -> Any:
            """Background work is faster with what was found."""
            found = mergeable(*given, **named)
            monkeypatch.undo()
            assert engine.compact() == 2
            return found

        monkeypatch.setattr(sealing, "mergeable", late)
        assert engine.compact() == 0
        assert engine.statistics("t").blocks == 1

    def test_blocks_are_plain_parquet_and_hold_no_row_twice(self, engine: Any, tmp_path: Path) -> None:
        self.create(engine)
        for value in range(3):
            self.put(engine, {("a", "x", t): float(value) for t in range(100)} | {("b", "x", 5): 1.0})
            engine.seal()
        files = sorted((tmp_path / "store").glob("blocks/**/*.parquet"))
        assert len(files) == engine.statistics("t").blocks
        rows = [row for file in files for row in rows_of(pq.read_table(file, partitioning=None))]
        assert ordered(rows) == scanned(engine, "t")

    def test_check_names_what_is_damaged_and_the_rest_goes_on(self, engine: Any, tmp_path: Path) -> None:
        self.create(engine)
        self.put(engine, {("a", "x", 0): 1.0, ("a", "x", DAY): 2.0})
        engine.seal()
        report = engine.check()
        assert (report.damages, report.blocks) == ((), 2)
        assert report.bytes > 0
        engine.close()
        file = next(iter(sorted((tmp_path / "store").glob("blocks/**/*.parquet"))))
        raw = bytearray(file.read_bytes())
        raw[len(raw) // 2] ^= 1
        file.write_bytes(raw)
        engine = self.open(tmp_path / "store")
        found = engine.check().damages
        assert len(found) == 1
        assert found[0].table == "t"
        assert file.name in found[0].place
        with pytest.raises(StorageError):
            scanned(engine, "t")
        readable = [start for start in (0, DAY) if _readable(engine, start)]
        assert len(readable) == 1
        repaired = engine.check(repair=True).damages
        assert [damage.repaired for damage in repaired] == [True]
        assert not engine.check().damages
        left = scanned_values(engine)
        assert {row[0] for row in left} >= set(readable)
        self.put(engine, {("a", "x", 1): 3.0})
        engine.close()

    @pytest.mark.parametrize("harm", ["gone", "garbage", "half"])
    def test_without_its_catalog_the_blocks_are_a_store(self, folder: Path, harm: str) -> None:
        engine = self.open(folder)
        self.create(engine)
        self.create(engine, SAMPLES_SCHEMA)
        for step in range(4):
            self.put(engine, {("a", "x", step): float(step), ("b", None, 2): 2.0 + step, ("", "", step * DAY): 0.5})
            engine.seal()
        ids = engine.register_series([("m", {"h": "1"}), ("m", {"h": "2"})])
        self.append(engine, "samples", {"time": [1, 1], "series_id": ids, "value": [0.5, 1.5]})
        engine.seal()
        engine.compact()
        before = scanned(engine, "t"), ordered(rows_of(engine.latest("t"))), scanned(engine, "samples")
        schemas, series = dict(engine.tables()), dict(engine.series())
        engine.close()
        catalog = folder / "catalog.db"
        raw = catalog.read_bytes()
        for path in folder.glob("catalog.db*"):
            path.unlink()
        if harm != "gone":
            catalog.write_bytes(raw[: len(raw) // 2] if harm == "half" else bytes(len(raw)))
        engine = self.open(folder)
        assert any("rebuilt" in note for note in engine.check().notes)
        assert not engine.check().damages
        assert dict(engine.tables()) == schemas
        assert dict(engine.series()) == series
        assert (scanned(engine, "t"), ordered(rows_of(engine.latest("t"))), scanned(engine, "samples")) == before
        assert engine.register_series([("m", {"h": "2"})]) == ids[1:]
        new = engine.register_series([("m", {"h": "3"})])
        assert new[0] not in ids
        self.put(engine, {("a", "x", 1): 7.0})
        engine.close()
        # a later check still tells, until a repair has taken note
        engine = self.open(folder)
        assert not engine.notes
        assert any("rebuilt" in note for note in engine.check().notes)
        engine.check(repair=True)
        engine.close()
        engine = self.open(folder)
        assert not engine.check().notes
        engine.close()
        engine = self.open(folder)
        assert len(scanned(engine, "t")) == len(before[0])
        engine.close()

    def test_opened_again_everything_is_there(self, folder: Path) -> None:
        engine = self.open(folder)
        self.create(engine)
        self.put(engine, {("a", "x", 1): 1.0, ("b", None, 2): 2.0})
        engine.seal()
        self.put(engine, {("a", "x", 1): 3.0, ("c", "", 5): 4.0})
        engine.put_document("kind", "key", {"a": [1]})
        ids = engine.register_series([("m", {"h": "1"}), ("m", {"h": "2"})])
        before = scanned(engine, "t"), ordered(rows_of(engine.latest("t"))), engine.statistics("t").rows
        engine.close()
        for _ in range(2):
            engine = self.open(folder)
            assert dict(engine.tables()) == {"t": SIMPLE}
            assert (scanned(engine, "t"), ordered(rows_of(engine.latest("t"))), engine.statistics("t").rows) == before
            assert engine.get_document("kind", "key") == {"a": [1]}
            assert engine.register_series([("m", {"h": "2"}), ("m", {"h": "1"})]) == ids[::-1]
            engine.create_table(SIMPLE)
            with pytest.raises(AlreadyExists):
                engine.create_table(SIMPLE.extended([("x", SIMPLE.fields[0][1])]))
            engine.close()

    def test_a_second_writer_is_told_who_writes(self, engine: Engine, folder: Path) -> None:
        with pytest.raises(StoreLocked, match=str(os.getpid())):
            self.open(folder)
        code = (
            "import sys; from pathlib import Path; from kymograph.local.engine import LocalEngine;"
            "from kymograph.options import StoreOptions; from kymograph.errors import StoreLocked\n"
            "try: LocalEngine(Path(sys.argv[1]), StoreOptions())\n"
            "except StoreLocked as e: print(e)"
        )
        found = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
        assert str(os.getpid()) in found.stdout
        engine.close()
        self.open(folder).close()

    def test_a_reader_sees_every_committed_row(self, engine: Any, folder: Path) -> None:
        self.create(engine)
        reader = self.open(folder, read_only=True)
        for step in range(12):
            self.put(engine, {("a", "x", step): float(step), ("b", "y", step * DAY): 0.5})
            if step % 3 == 1:
                engine.seal()
            if step % 5 == 4:
                engine.compact()
            if step == 7:
                engine.delete("t", [Matcher("host", "=", "b")], 2 * DAY, 4 * DAY)
            if step == 9:
                engine.alter_table(SIMPLE.extended([("more", SIMPLE.fields[1][1])]))
            assert scanned(reader, "t") == scanned(engine, "t")
            assert ordered(rows_of(reader.latest("t"))) == ordered(rows_of(engine.latest("t")))
            assert reader.statistics("t").rows == engine.statistics("t").rows
        engine.put_document("kind", "key", 1)
        engine.register_series([("m", {"h": "1"})])
        assert reader.get_document("kind", "key") == 1
        assert dict(reader.series()) == dict(engine.series())
        assert dict(reader.tables()) == dict(engine.tables())
        engine.close()
        assert len(scanned(reader, "t")) > 10
        reader.close()

    def test_a_readers_scan_outlives_what_the_writer_does(self, engine: Any, folder: Path) -> None:
        self.create(engine)
        for step in range(4):
            self.put(engine, {("a", "x", step): float(step)})
            engine.seal()
        self.put(engine, {("a", "x", 9): 9.0})
        reader = self.open(folder, read_only=True)
        before = scanned(reader, "t")
        running = reader.scan("t")
        engine.compact()
        engine.delete("t")
        engine.seal()
        assert ordered(rows_of(running.table())) == before
        assert scanned(reader, "t") == []
        reader.close()

    @pytest.mark.parametrize("times", [1, 20])
    def test_a_readers_question_is_asked_again_while_blocks_are_replaced(
        self, engine: Any, folder: Path, times: int
    ) -> None:
        self.create(engine)
        rows = {("a", "x", day * DAY): 0.0 for day in range(3)}
        self.put(engine, rows)
        engine.seal()
        reader = self.open(folder, read_only=True)
        left = [times]

        class Hosts(frozenset[str]):
            """Between two blocks that a scan opens, the writer replaces them all."""

            def __iter__(here) -> Iterator[str]:  # noqa: N805
                if left[0]:
                    left[0] -= 1
                    self.put(engine, {key: float(left[0] + 1) for key in rows})
                    engine.seal()
                return super().__iter__()

        found = scanned(reader, "t", [Matcher("host", "in", Hosts("a"))])
        assert left == [0]
        assert found == scanned(engine, "t")
        assert {row[3] for row in found} != {0}
        reader.close()

    def test_a_reader_writes_nothing(self, engine: Any, folder: Path) -> None:
        self.create(engine)
        self.put(engine, {("a", "x", 1): 1.0})
        reader: Any = self.open(folder, read_only=True)
        batch = batch_of(SIMPLE, {"time": [1], "host": ["a"], "unit": ["x"]})
        for call in (
            lambda: reader.create_table(SIMPLE.__class__("u", (), ())), lambda: reader.alter_table(SIMPLE),
            lambda: reader.drop_table("t"), lambda: reader.append("t", batch), lambda: reader.delete("t"),
            lambda: reader.register_series([("new", {})]), lambda: reader.put_document("k", "k", 1),
            lambda: reader.prune(now=0), reader.seal, reader.compact, lambda: reader.check(repair=True),
        ):  # fmt: skip
            with pytest.raises(ReadOnly):
                call()
        assert scanned_values(engine) == [(1, "a", "x", 1.0)]
        reader.close()

    def test_no_store_to_read(self, folder: Path) -> None:
        with pytest.raises(StorageError):
            self.open(folder, read_only=True)
        assert not folder.exists() or not list(folder.iterdir())

    def test_a_file_in_the_way(self, folder: Path) -> None:
        folder.write_text("not a folder")
        with pytest.raises(StorageError):
            self.open(folder)

    def test_usage_counts_every_file(self, engine: Any, folder: Path) -> None:
        self.create(engine)
        for step in range(5):
            self.put(engine, {("a", "x", step * DAY + t): 1.0 for t in range(1000)})
            if step != 3:
                engine.seal()
        on_disk = size_of(folder)
        assert on_disk <= engine.usage() <= on_disk * 1.2 + 65_536

    def test_seal_is_undisturbed_by_more_writes(self, engine: Any) -> None:
        self.create(engine)
        for step in range(30):
            self.put(engine, {("a", "x", step % 7): float(step)})
            if step % 4 == 0:
                engine.seal()
        assert scanned_values(engine) == [
            (t, "a", "x", float(max(s for s in range(30) if s % 7 == t))) for t in range(7)
        ]


def _readable(engine: Engine, start: int) -> bool:
    try:
        return len(scanned(engine, "t", start=start, end=start + 1)) == 1
    except StorageError:
        return False
