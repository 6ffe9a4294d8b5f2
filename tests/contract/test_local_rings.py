"""Rings of the embedded engine: the suite, the oracle, what is on the disk, other readers and damage."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kymograph.engine.memory import MemoryEngine
from kymograph.engine.rings import Ring
from kymograph.errors import StorageError
from kymograph.local.engine import LocalEngine
from kymograph.local.ring_rows import PAGE_SLOTS
from kymograph.model.schema import SAMPLES_SCHEMA
from kymograph.options import StoreOptions
from tests.contract.rings import RingsOf, S, held, put, ringed
from tests.contract.test_local import Local
from tests.rows import batch_of, scanned


class TestRings(Local, RingsOf):
    """Pages from the cache."""


class TestUncached(Local, RingsOf):
    """Every page from the catalog, every time."""

    def open(self, folder: Path, **options: Any) -> LocalEngine:
        return super().open(folder, **{"cache_bytes": 0, **options})


def test_a_million_writes_leave_the_size_unchanged(tmp_path: Path) -> None:
    """Ten times around: after the first time everything is where it will stay."""
    engine = LocalEngine(tmp_path, StoreOptions(sync="off"))
    (one,) = ringed(engine, slots=3600)
    catalog = tmp_path / "catalog.db"
    sizes = []
    for lap in range(10):
        for part in range(10):
            times = (lap * 3600 + np.arange(part * 10_000, (part + 1) * 10_000) * 3600 / 100_000) * S
            engine.rings.write(np.full(10_000, one), times.astype(np.int64), np.random.default_rng(lap).random(10_000))
        engine._folder.catalog.shrink(0, wait=True)  # what is in the log belongs to the file
        sizes.append((catalog.stat().st_size, engine.rings.usage(), engine.statistics("samples").rows))
    assert sizes[0][1:] == (3600 * 16, 3600)
    assert sizes[1:] == sizes[:-1]
    assert engine.usage() < sizes[0][0] + 100_000
    engine.close()
    assert catalog.stat().st_size == sizes[0][0]


def test_the_cap_holds_beside_full_rings(tmp_path: Path) -> None:
    """As many rings as there may be, in the worst order for the file; rows beside them come and go, the rings stay."""
    cap, slots = 8_000_000, 1200
    engine = LocalEngine(tmp_path, StoreOptions(sync="off", cap=cap))
    ids = np.array(ringed(engine, 100, slots=slots))
    dice = np.random.default_rng(3)
    order = dice.permutation(np.arange(len(ids) * slots))
    for some in np.array_split(order, 20):
        engine.rings.write(ids[some // slots], some % slots * S, some.astype(np.float64))
        assert engine.usage() <= cap
    (plain,) = engine.register_series([("plain", {})])
    for step in range(40):
        times = step * 25_000 + np.arange(25_000)
        rows = {"time": times * S, "series_id": np.full(25_000, plain), "value": dice.random(25_000)}
        engine.append("samples", batch_of(SAMPLES_SCHEMA, rows))
        engine.seal()
        assert engine.usage() <= cap
    assert len(engine.rings.read().ids) == len(order)
    left = engine.statistics("samples").rows - len(order)
    assert 100_000 < left < 1_000_000  # the oldest of the others have gone, and only they
    engine.close()


@pytest.mark.parametrize("seed", range(6))
def test_the_oracle_says_the_same(tmp_path: Path, seed: int) -> None:
    dice, numbers = random.Random(seed), np.random.default_rng(seed)
    options = StoreOptions(sync="off", cache_bytes=dice.choice([0, 2**14, 2**20]))
    oracle, engine = MemoryEngine(), LocalEngine(tmp_path, options)
    layouts = [Ring(dice.choice([1, 7, 1000]), dice.choice([1, 59, 60, 61, 500])) for _ in range(4)]
    for each in (oracle, engine):
        ids = ringed(each, 0) or each.register_series([("ring", {"n": str(n)}) for n in range(4)])
        each.rings.define(dict(zip(ids, layouts, strict=True)))
    for _ in range(60):
        kind = dice.choices(["write", "resize", "delete", "drop", "again"], [60, 10, 10, 5, 8])[0]
        one, low = dice.choice(ids), dice.randrange(-5000, 5000)
        count = dice.choice([1, 5, 400])
        batch = (
            numbers.choice(sorted(engine.rings.all()) or [0], count),
            numbers.integers(low, low + dice.choice([10, 3000]), count),
            numbers.integers(0, 2**63, count).view(np.float64),
        )
        layout = Ring(dice.choice([1, 3, 50]), dice.choice([1, 60, 130]))
        if kind == "again":
            engine.close()
            engine = LocalEngine(tmp_path, options)
        for each in (oracle, engine):
            known: Any = each.rings.all()
            if kind == "write" and known:
                each.rings.write(*batch)
            elif kind == "resize" and one in known:
                each.rings.resize(one, layout.step, layout.slots)
            elif kind == "delete":
                each.delete("samples", [], low, low + 500)
            elif kind == "drop":
                each.rings.drop([one])
                each.rings.define({one: layout})
        mine, theirs = oracle.rings.read(None, low, None), engine.rings.read(None, low, None)
        for left, right in zip(mine, theirs, strict=True):
            assert left.view(np.int64).tolist() == right.view(np.int64).tolist()
        assert scanned(oracle, "samples") == scanned(engine, "samples")
        newest = [sorted(map(str, each.latest("samples").to_pylist())) for each in (oracle, engine)]
        assert newest[0] == newest[1]
        both = oracle.statistics("samples"), engine.statistics("samples")
        assert len({(n.rows, n.series, n.oldest, n.newest) for n in both}) == 1
    assert not engine.check().damages
    engine.close()


def test_rings_survive(tmp_path: Path) -> None:
    engine = LocalEngine(tmp_path, StoreOptions())
    one, two = ringed(engine, 2, slots=200)
    put(engine, one, [(t * S, float(t)) for t in range(300)])
    engine.rings.resize(two, 5 * S, 7)
    before = held(engine), dict(engine.rings.all())
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in tmp_path.glob("catalog.db*"):  # as a kill would leave it
        (copy / file.name).write_bytes(file.read_bytes())
    engine.close()
    for folder in (tmp_path, copy):
        engine = LocalEngine(folder, StoreOptions())
        assert (held(engine), dict(engine.rings.all())) == before
        put(engine, two, [(0, 1.0)])
        engine.close()


def test_another_process_sees_every_committed_sample(tmp_path: Path) -> None:
    engine = LocalEngine(tmp_path, StoreOptions(sync="off"))
    reader = LocalEngine(tmp_path, StoreOptions(read_only=True))
    assert dict(reader.rings.all()) == {}
    one, two = ringed(engine, 2, slots=100)
    for step in range(1, 6):
        put(engine, one, [(t * S, float(t)) for t in range(step * 40)])
        if step == 3:
            engine.rings.resize(two, S, 10)
        if step == 4:
            engine.rings.drop([two])
        assert held(reader) == held(engine)
        assert dict(reader.rings.all()) == dict(engine.rings.all())
        assert scanned(reader, "samples") == scanned(engine, "samples")
    reader.close()
    engine.close()


def test_a_scan_keeps_what_it_found(tmp_path: Path) -> None:
    engine = LocalEngine(tmp_path, StoreOptions(sync="off", cache_bytes=0))
    (one,) = ringed(engine)
    put(engine, one, [(t * S, float(t)) for t in range(10)])
    running = engine.scan("samples")
    put(engine, one, [(t * S, float(t)) for t in range(10, 20)])
    engine.rings.drop([one])
    assert sorted(running.table()["value"].to_pylist()) == [float(t) for t in range(10)]
    engine.close()


def test_a_folder_of_an_older_release(tmp_path: Path) -> None:
    engine = LocalEngine(tmp_path, StoreOptions())
    engine.create_table(SAMPLES_SCHEMA)
    engine.register_series([("a", {})])
    engine.close()
    with sqlite3.connect(tmp_path / "catalog.db") as db:
        assert db.execute("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'ring%'").fetchone() == (0,)
    for read_only in (True, False):
        engine = LocalEngine(tmp_path, StoreOptions(read_only=read_only))
        assert dict(engine.rings.all()) == {}
        assert held(engine) == []
        assert not engine.check().damages
        if read_only:
            engine.close()
    (one,) = ringed(engine)
    put(engine, one, [(0, 1.0)])
    engine.close()


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Two rings of three pages each; in one page a value has been changed."""
    engine = LocalEngine(tmp_path, StoreOptions(sync="off"))
    for number in ringed(engine, 2, slots=3 * PAGE_SLOTS):
        put(engine, number, [(t * S, float(t)) for t in range(3 * PAGE_SLOTS)])
    engine.close()
    with sqlite3.connect(tmp_path / "catalog.db") as db:
        page, data = db.execute("SELECT id, data FROM ring_pages ORDER BY id LIMIT 1 OFFSET 2").fetchone()
        db.execute("UPDATE ring_pages SET data = ? WHERE id = ?", (bytes([data[0] ^ 1]) + data[1:], page))
    return tmp_path


def test_a_damaged_page_is_named_and_the_rest_salvaged(damaged: Path) -> None:
    engine = LocalEngine(damaged, StoreOptions())
    one, two = sorted(engine.rings.all())
    with pytest.raises(StorageError, match="page 1 of the ring of series 1"):
        engine.rings.read()
    assert len(engine.rings.read([two]).ids) == 180
    assert len(engine.rings.read([one], 0, 60 * S).ids) == 60
    found = engine.check().damages
    assert [(each.table, each.place, each.repaired) for each in found] == [("samples", "catalog.db", False)]
    assert "series 1" in found[0].problem
    repaired = engine.check(repair=True).damages
    assert [(each.rows_lost, each.repaired) for each in repaired] == [(60, True)]
    assert not engine.check().damages
    assert len(engine.rings.read().ids) == 300
    put(engine, one, [(70 * S, 1.0)])
    engine.close()


def test_what_is_wrong_without_a_wrong_checksum(tmp_path: Path) -> None:
    """Pages of no ring, of another length, and samples in slots that are not their own."""
    engine = LocalEngine(tmp_path, StoreOptions(sync="off"))
    one, two = ringed(engine, 2, slots=PAGE_SLOTS)
    put(engine, one, [(t * S, float(t)) for t in range(PAGE_SLOTS)])
    rows, catalog = engine._folder.rings.rows, engine._folder.catalog
    with catalog.transaction():
        slots = np.array([[S], [0]], np.int64)
        rows.put_pages([(two, 1, S, S, slots.tobytes()), (77, 1, S, S, slots.tobytes())], 2)
        rows.put_rings([(one, Ring(2 * S, PAGE_SLOTS))], 0)
    engine.close()
    engine = LocalEngine(tmp_path, StoreOptions())
    problems = sorted(each.problem for each in engine.check().damages)
    assert [problem.partition(": ")[2] for problem in problems] == [
        "page 0 has a sample in a slot that is not its own",
        "page 0 has 1 slots, not 60",
        "page 0 belongs to no ring",
    ]
    engine.check(repair=True)
    assert not engine.check().damages
    assert held(engine) == []
    engine.close()


@pytest.mark.parametrize("harm", ["series", "tally"])
def test_a_damaged_catalog_gives_back_its_rings(damaged: Path, harm: str) -> None:
    with sqlite3.connect(damaged / "catalog.db") as db:
        if harm == "tally":
            db.execute("UPDATE tally SET rows = rows + 1 WHERE kind = 'ring_pages'")
        else:
            db.execute("UPDATE documents SET crc = crc + 1")
            db.execute("INSERT INTO documents VALUES ('a', 'b', '1', 0)")
    engine = LocalEngine(damaged, StoreOptions())
    assert any("rebuilt" in note for note in engine.notes)
    assert len(engine.rings.all()) == 2
    assert len(engine.rings.read().ids) == 300
    assert not engine.check().damages
    engine.close()
