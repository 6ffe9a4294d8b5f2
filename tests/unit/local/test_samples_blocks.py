"""Blocks of `samples`: both versions, read by us and by anybody, damaged and repaired."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from kymograph.errors import StorageError
from kymograph.local.engine import LocalEngine
from kymograph.model.matcher import Matcher
from kymograph.model.schema import SAMPLES, SAMPLES_SCHEMA
from kymograph.model.time import DAY
from kymograph.options import StoreOptions
from tests.rows import Row, batch_of, ordered, rows_of, scanned

SERIES, STEPS = 20, 4000  # two row groups


def opened(folder: Path) -> LocalEngine:
    return LocalEngine(folder, StoreOptions(sync="off"))


def samples(steps: int = STEPS, first: int = 0) -> pa.Table:
    """Counters, gauges with two digits, constants, noise and staleness markers."""
    rng = np.random.default_rng(3)
    columns = [
        np.cumsum(rng.poisson(5, STEPS)),
        np.round(rng.normal(20, 3, STEPS), 2),
        np.full(STEPS, 1e9),
        rng.random(STEPS),
        np.where(np.arange(STEPS) % 1000 == 7, np.uint64(0x7FF0000000000002).view(np.float64), 4096.0),
    ]
    part = slice(first, first + steps)
    return pa.table(
        {
            "time": np.tile(1_000_000 * np.arange(STEPS)[part], SERIES),
            "series_id": np.repeat(np.arange(1, SERIES + 1), steps),
            "value": np.concatenate([columns[number % 5][part] for number in range(SERIES)]),
        }
    )


def expected(data: pa.Table) -> list[Row]:
    return ordered(rows_of(batch_of(SAMPLES_SCHEMA, data)))


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("blocks/*/*/*.parquet"))


def old_block(folder: Path, data: pa.Table) -> None:
    """A block as the first release wrote it, without a catalog."""
    document = {
        "version": 1, "table": SAMPLES_SCHEMA.to_json(), "partition": 0, "level": 0, "replaces": [],
    }  # fmt: skip
    path = folder / "blocks" / SAMPLES / "1970-01-01T000000" / "+0000000000000000000-0123456789ab.parquet"
    path.parent.mkdir(parents=True)
    rows = batch_of(SAMPLES_SCHEMA, data)
    with_metadata = pa.Table.from_batches([rows]).replace_schema_metadata({b"kymograph": json.dumps(document).encode()})
    pq.write_table(
        with_metadata, path, row_group_size=65_536, write_page_checksum=True, use_dictionary=False,
        column_encoding={"value": "BYTE_STREAM_SPLIT"},
    )  # fmt: skip


def test_old_blocks_are_read_rewritten_and_merged(tmp_path: Path) -> None:
    old_block(tmp_path, samples(2000))
    engine = opened(tmp_path)
    assert scanned(engine, SAMPLES) == expected(samples(2000))
    assert not engine.check().damages
    engine.append(SAMPLES, batch_of(SAMPLES_SCHEMA, samples(2000, 2000)))
    engine.seal()
    versions = [json.loads(pq.read_schema(file).metadata[b"kymograph"])["version"] for file in files(tmp_path)]
    assert sorted(versions) == [1, 2]
    assert scanned(engine, SAMPLES) == expected(samples())
    engine.compact()
    assert len(files(tmp_path)) == 1
    assert scanned(engine, SAMPLES) == expected(samples())
    engine.close()


def test_any_parquet_reader_finds_the_values_by_the_formula(tmp_path: Path) -> None:
    engine = opened(tmp_path)
    engine.create_table(SAMPLES_SCHEMA)
    engine.append(SAMPLES, batch_of(SAMPLES_SCHEMA, samples()))
    engine.seal()
    found = pq.read_table(files(tmp_path)[0], partitioning=None)
    engine.close()
    number, base, factor, divisor = (found[name] for name in ("number", "base", "factor", "divisor"))
    scaled = pc.divide(pc.add(base, pc.multiply(factor, number)).cast(pa.float64()), divisor)
    values = pc.coalesce(found["value"], scaled)
    assert number.null_count > STEPS
    assert found["value"].null_count > STEPS
    assert expected(samples()) == ordered(rows_of(pa.table([found["time"], found["series_id"], values], list("tsv"))))


@pytest.mark.parametrize("version", [1, 2])
def test_a_repair_keeps_the_row_groups_that_are_whole(tmp_path: Path, version: int) -> None:
    if version == 1:
        old_block(tmp_path, samples())
        engine = opened(tmp_path)
    else:
        engine = opened(tmp_path)
        engine.create_table(SAMPLES_SCHEMA)
        engine.append(SAMPLES, batch_of(SAMPLES_SCHEMA, samples()))
        engine.seal()
    engine.close()
    (file,) = files(tmp_path)
    metadata = pq.read_metadata(file)
    assert metadata.num_row_groups == 2
    values = metadata.row_group(1).column(2)
    raw = bytearray(file.read_bytes())
    raw[values.data_page_offset + values.total_compressed_size // 2] ^= 0x55
    file.write_bytes(raw)
    engine = opened(tmp_path)
    with pytest.raises(StorageError):
        scanned(engine, SAMPLES)
    (damage,) = engine.check(repair=True).damages
    assert damage.repaired
    assert 0 < (damage.rows_lost or 0) <= metadata.row_group(1).num_rows
    assert not engine.check().damages
    left = scanned(engine, SAMPLES)
    assert len(left) == SERIES * STEPS - (damage.rows_lost or 0)
    assert set(left) < set(expected(samples()))
    engine.close()


def test_late_rows_deletes_and_retention_rewrite_blocks(tmp_path: Path) -> None:
    engine = opened(tmp_path)
    engine.create_table(SAMPLES_SCHEMA)
    engine.append(SAMPLES, batch_of(SAMPLES_SCHEMA, samples()))
    engine.seal()
    late = samples(10, 100).set_column(2, "value", pa.array(np.full(SERIES * 10, -0.0)))
    engine.append(SAMPLES, batch_of(SAMPLES_SCHEMA, late))
    rows = {row[:2]: row for row in expected(samples())} | {row[:2]: row for row in expected(late)}
    assert scanned(engine, SAMPLES) == ordered(rows.values())
    engine.seal()
    assert scanned(engine, SAMPLES) == ordered(rows.values())
    assert engine.delete(SAMPLES, [Matcher("series_id", "=", 3)], 0, 50_000_000) == 50
    rows = {key: row for key, row in rows.items() if not (key[1] == 3 and key[0] < 50_000_000)}
    assert scanned(engine, SAMPLES) == ordered(rows.values())
    assert engine.statistics(SAMPLES).rows == len(rows)
    engine.append(SAMPLES, batch_of(SAMPLES_SCHEMA, {"time": [3 * DAY], "series_id": [1], "value": [None]}))
    engine.seal()
    assert scanned(engine, SAMPLES, start=DAY) == [(3 * DAY, 1, None)]
    engine.close()
