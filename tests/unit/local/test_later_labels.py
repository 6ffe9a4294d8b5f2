"""Folders whose blocks are from before and after a label came: read, rebuilt, repaired, copied, read by another process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pytest

from kymograph.local.engine import LocalEngine
from kymograph.local.snapshot import copy_folder
from kymograph.model.matcher import Matcher
from kymograph.model.schema import table_schema
from kymograph.model.time import DAY
from kymograph.options import StoreOptions
from tests.rows import batch_of, ordered, rows_of, scanned

NARROW = table_schema("t", ["host"], {"v": "float64"})
WIDE = NARROW.extended(labels=["region"])


def opened(folder: Path, **options: Any) -> LocalEngine:
    return LocalEngine(folder, StoreOptions(sync="off", **options))


def write(engine: LocalEngine, rows: list[tuple[Any, ...]]) -> None:
    """Rows of (time, host, v), or of (time, host, region, v)."""
    names = ("time", "host", "v") if len(rows[0]) == 3 else ("time", "host", "region", "v")
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    engine.append("t", batch_of(engine.tables()["t"], columns))


def filled(folder: Path) -> LocalEngine:
    """Blocks from before and after the label in two partitions, one from before it in a third, and hot rows."""
    engine = opened(folder)
    engine.create_table(NARROW)
    for value in (1.0, 2.0):
        write(engine, [(int(10 * value), "a", value), (int(10 * value), None, value), (2 * DAY, "a", value)])
        engine.seal()
    engine.alter_table(WIDE)
    write(engine, [(10, "a", "x", 3.0), (10, "a", None, 4.0), (11, "a", "y", 5.0)])
    engine.seal()
    write(engine, [(DAY, "a", "x", 6.0)])
    engine.seal()
    write(engine, [(20, None, 7.0), (DAY, "a", None, 8.0)])  # by somebody who knows nothing of the label
    return engine


def seen(engine: LocalEngine) -> tuple[Any, ...]:
    found = engine.statistics("t")
    return scanned(engine, "t"), ordered(rows_of(engine.latest("t"))), (found.rows, found.series, found.partitions)


def blocks(folder: Path) -> list[Path]:
    return sorted(folder.glob("blocks/**/*.parquet"))


def versions(folder: Path) -> list[int]:
    return sorted(json.loads(pq.read_schema(path).metadata[b"kymograph"])["version"] for path in blocks(folder))


def test_blocks_from_before_are_not_rewritten_by_the_label(tmp_path: Path) -> None:
    engine = opened(tmp_path)
    engine.create_table(NARROW)
    write(engine, [(1, "a", 1.0)])
    engine.seal()
    before = {path: path.read_bytes() for path in blocks(tmp_path)}
    engine.alter_table(WIDE)
    write(engine, [(2, "a", "x", 2.0)])
    engine.seal()
    assert scanned(engine, "t", [Matcher("region", "=", "")], columns=["time", "region"]) == [(1, None)]
    assert all(path.read_bytes() == data for path, data in before.items())
    assert versions(tmp_path) == [1, 3]
    engine.compact()
    assert versions(tmp_path) == [3]
    (merged,) = blocks(tmp_path)
    assert rows_of(pq.read_table(merged, partitioning=None, columns=["time", "host", "region"])) == [
        (1, "a", None), (2, "a", "x"),
    ]  # fmt: skip
    assert not engine.check().damages
    engine.close()


@pytest.mark.parametrize("harm", ["gone", "garbage"])
def test_a_lost_catalog_is_rebuilt_with_the_label(tmp_path: Path, harm: str) -> None:
    engine = filled(tmp_path)
    engine.seal()
    before = seen(engine)
    engine.close()
    for path in tmp_path.glob("catalog.db*"):
        path.unlink()
    if harm == "garbage":
        (tmp_path / "catalog.db").write_bytes(bytes(9000))
    engine = opened(tmp_path)
    assert engine.tables()["t"] == WIDE
    assert seen(engine) == before
    assert not engine.check().damages
    engine.compact()
    assert seen(engine) == before
    engine.close()


def test_a_damaged_catalog_gives_its_log_to_the_new_one(tmp_path: Path) -> None:
    engine = filled(tmp_path)
    before = seen(engine)
    engine.put_document("kind", "key", "the damaged one")
    copy_folder(tmp_path, tmp_path / "copy")
    engine.close()
    catalog = tmp_path / "copy" / "catalog.db"
    raw = catalog.read_bytes()
    assert raw.count(b"the damaged one") == 1
    catalog.write_bytes(raw.replace(b"the damaged one", b"the damaged 0ne"))
    engine = opened(tmp_path / "copy")
    assert any("rebuilt" in note for note in engine.notes)
    assert engine.tables()["t"] == WIDE
    assert seen(engine) == before
    engine.close()


@pytest.mark.parametrize("which", range(4))
def test_repair_saves_what_is_left_of_either_block(tmp_path: Path, which: int) -> None:
    engine = opened(tmp_path)
    engine.create_table(NARROW)
    times = list(range(40_000))
    engine.append("t", batch_of(NARROW, {"time": times, "host": "a", "v": 0.5}))
    engine.seal()
    engine.alter_table(WIDE)
    engine.append("t", batch_of(WIDE, {"time": times, "host": "a", "region": "x", "v": np.sqrt(times)}))
    engine.seal()
    engine.close()
    # names of blocks say nothing about which of the two is older
    path = sorted(blocks(tmp_path), key=lambda path: "region" in pq.read_schema(path).names)[which % 2]
    raw = bytearray(path.read_bytes())
    # in the data, or in the footer, of which the catalog keeps a copy
    raw[len(raw) // 3 if which < 2 else len(raw) - 30] ^= 255
    path.write_bytes(raw)
    engine = opened(tmp_path)
    (damage,) = engine.check(repair=True).damages
    assert damage.repaired
    assert not engine.check().damages
    left = engine.scan("t").table()
    regions = left["region"].to_pylist()
    assert left.num_rows == 80_000 - (damage.rows_lost or 0)
    new = left.filter(pa.compute.is_valid(left["region"]))
    assert (new["v"].to_numpy() == np.sqrt(new["time"].cast(pa.int64()).to_numpy())).all()
    whole = "x" if which % 2 == 0 else None
    assert regions.count(whole) == 40_000
    if which > 1:
        assert left.num_rows == 80_000
    engine.close()


def test_a_copy_has_it(tmp_path: Path) -> None:
    engine = filled(tmp_path / "store")
    copy_folder(tmp_path / "store", tmp_path / "copy")
    before = seen(engine)
    engine.close()
    copy = opened(tmp_path / "copy")
    assert seen(copy) == before
    copy.close()


_READER = """
import sys
from pathlib import Path
from kymograph.local.engine import LocalEngine
from kymograph.model.matcher import Matcher
from kymograph.options import StoreOptions
from tests.rows import scanned
reader = LocalEngine(Path(sys.argv[1]), StoreOptions(read_only=True))
for line in sys.stdin:
    columns = reader.tables()["t"].columns
    print(columns, scanned(reader, "t", columns=columns), flush=True)
    found = [Matcher(columns[2], "=", "x")] if "region" in columns else []
    print(scanned(reader, "t", found, columns=["time"]), len(reader.latest("t")), flush=True)
"""


def test_a_reader_in_another_process_sees_it(tmp_path: Path) -> None:
    engine = opened(tmp_path)
    engine.create_table(NARROW)
    write(engine, [(1, "a", 1.0)])
    engine.seal()
    write(engine, [(2, "a", 2.0)])
    with subprocess.Popen(
        [sys.executable, "-c", _READER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask() -> list[str]:
            print("go", file=process.stdin, flush=True)
            return [process.stdout.readline().strip() for _ in range(2)]  # type: ignore[union-attr]

        def expected(matching: list[tuple[int]], series: int) -> list[str]:
            columns = engine.tables()["t"].columns
            return [f"{columns} {scanned(engine, 't', columns=columns)}", f"{matching} {series}"]

        assert ask() == expected([(1,), (2,)], 1)
        engine.alter_table(WIDE)
        assert ask() == expected([], 1)
        write(engine, [(1, "a", "x", 3.0), (1, "a", None, 3.5), (2, "a", None, 4.0)])
        assert ask() == expected([(1,)], 2)
        engine.seal()
        assert ask() == expected([(1,)], 2)
        engine.compact()
        assert ask() == expected([(1,)], 2)
        process.stdin.close()
    engine.close()


def test_rejecting_beside_a_label_that_comes(tmp_path: Path) -> None:
    """A row is compared by the labels there are when it is stored, however it was made."""
    engine = opened(tmp_path)
    schema = table_schema("t", ["host"], {"v": "float64"}, "reject")
    engine.create_table(schema)
    early = batch_of(schema, {"time": [1, 2], "host": ["a", "a"], "v": [1.0, 1.0]})
    engine.alter_table(schema.extended(labels=["region"]))
    write(engine, [(1, "a", "x", 1.0)])
    engine.seal()
    assert engine.append("t", early) == 2
    assert scanned(engine, "t", columns=["time", "region"]) == [(1, None), (1, "x"), (2, None)]
    with pytest.raises(Exception, match="exist already"):
        engine.append("t", early)
    engine.close()


PLAIN = pa.schema(
    [("time", pa.int64()), *((name, pa.string()) for name in ("host", "region", "rack")), ("v", pa.float64())]
)


def test_many_labels_and_row_groups(tmp_path: Path) -> None:
    """Old and new blocks of several row groups, merged: the rows are sorted by the labels in their order."""
    engine = opened(tmp_path)
    engine.create_table(NARROW)
    count = 70_000
    hosts = pa.array([f"h{number % 7}" for number in range(count)])
    engine.append("t", batch_of(NARROW, {"time": list(range(count)), "host": hosts, "v": 1.0}))
    engine.seal()
    engine.alter_table(WIDE.extended(labels=["rack"]))
    regions = pa.array([(None, "x", "", "y")[number % 4] for number in range(count)])
    columns = {"time": list(range(count)), "host": hosts, "region": regions, "rack": None, "v": 2.0}
    engine.append("t", batch_of(engine.tables()["t"], columns))
    engine.seal()
    names = [(name, "ascending") for name in ("host", "region", "rack", "time")]
    before = engine.scan("t").table().cast(PLAIN).sort_by(names)
    engine.compact()
    assert engine.statistics("t").blocks == 1
    assert engine.scan("t").table().cast(PLAIN).sort_by(names) == before
    assert not engine.check().damages
    # a quarter of the new rows had no region, and replaced those from before
    assert before.num_rows == 2 * count - count // 4
    (merged,) = blocks(tmp_path)
    series = list(dict.fromkeys(rows_of(pq.read_table(merged, partitioning=None, columns=["host", "region", "rack"]))))
    assert series == ordered(series)
    assert len(series) == 7 * 4
    engine.close()
