"""Blocks of `samples`: both versions, read by us and by anybody, damaged and repaired."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kymograph.errors import StorageError
from kymograph.local.engine import LocalEngine
from kymograph.model.matcher import Matcher
from kymograph.model.schema import SAMPLES, SAMPLES_SCHEMA, table_schema
from kymograph.model.time import DAY
from kymograph.options import StoreOptions
from tests.rows import batch_of, checked, rows_of

SERIES, STEPS = 35, 4000  # two row groups
STALE = np.uint64(0x7FF0_0000_0000_0002).view(np.float64)


def opened(folder: Path) -> LocalEngine:
    return LocalEngine(folder, StoreOptions(sync="off"))


def samples(steps: int = STEPS, first: int = 0, series: int = SERIES) -> pa.Table:
    """Counters, gauges with two digits, constants, noise, and staleness markers; some counters grow steadily."""
    rng = np.random.default_rng(3)
    columns = [
        np.cumsum(rng.poisson(5, STEPS)),
        np.round(rng.normal(20, 3, STEPS), 2),
        np.full(STEPS, 1e9),
        rng.random(STEPS),
        np.where(np.arange(STEPS) % 1000 == 7, STALE, 4096.0),
        1000.0 * np.arange(STEPS) + rng.integers(0, 2, STEPS),
        -0.0 * np.arange(STEPS),
    ]
    part = slice(first, first + steps)
    return pa.table(
        {
            "time": np.tile(1_000_000 * np.arange(STEPS)[part], series),
            "series_id": np.repeat(np.arange(1, series + 1), steps),
            "value": np.concatenate([columns[number % 7][part] for number in range(series)]),
        }
    )


def bits(data: pa.Table) -> np.ndarray:
    """Series, times and the bits of the values, as (rows, 3) integers in order."""
    columns = [data["series_id"].to_numpy(), data["time"].cast(pa.int64()).to_numpy()]
    rows = np.stack([*columns, data["value"].to_numpy().view(np.int64)], axis=1)
    return rows[np.lexsort((rows[:, 1], rows[:, 0]))]


def scanned(engine: LocalEngine) -> np.ndarray:
    return bits(engine.scan(SAMPLES).table())


def write(engine: LocalEngine, data: pa.Table) -> None:
    if SAMPLES not in engine.tables():
        engine.create_table(SAMPLES_SCHEMA)
    engine.append(SAMPLES, batch_of(SAMPLES_SCHEMA, data))


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("blocks/*/*/*.parquet"))


def old_block(folder: Path, data: pa.Table) -> None:
    """A block as the first release wrote it, without a catalog."""
    document = {"version": 1, "table": SAMPLES_SCHEMA.to_json(), "partition": 0, "level": 0, "replaces": []}
    path = folder / "blocks" / SAMPLES / "1970-01-01T000000" / "+0000000000000000000-0123456789ab.parquet"
    path.parent.mkdir(parents=True)
    rows = pa.Table.from_batches([batch_of(SAMPLES_SCHEMA, data)])
    pq.write_table(
        rows.replace_schema_metadata({b"kymograph": json.dumps(document).encode()}), path, row_group_size=65_536,
        write_page_checksum=True, use_dictionary=False, column_encoding={"value": "BYTE_STREAM_SPLIT"},
    )  # fmt: skip


def test_old_blocks_are_read_rewritten_and_merged(tmp_path: Path) -> None:
    old_block(tmp_path, samples(2000))
    engine = opened(tmp_path)
    assert np.array_equal(scanned(engine), bits(samples(2000)))
    assert not engine.check().damages
    write(engine, samples(2000, 2000))
    engine.seal()
    versions = [json.loads(pq.read_schema(file).metadata[b"kymograph"])["version"] for file in files(tmp_path)]
    assert sorted(versions) == [1, 2]
    assert np.array_equal(scanned(engine), bits(samples()))
    engine.compact()
    assert len(files(tmp_path)) == 1
    assert np.array_equal(scanned(engine), bits(samples()))
    engine.close()


def test_any_parquet_reader_finds_the_values_by_the_formula(tmp_path: Path) -> None:
    engine = opened(tmp_path)
    write(engine, samples(500, series=7))
    engine.seal()
    engine.close()
    found = pq.read_table(files(tmp_path)[0], partitioning=None)
    assert set(found["order"].to_pylist()) == {0, 1}
    times, series, values = (list(column) for column in zip(*by_the_formula(found), strict=True))
    again = pa.table({"time": times, "series_id": series, "value": pa.array(values, pa.float64())})
    # Python's floats keep the payload of a NaN that Arrow hands it
    assert np.array_equal(bits(again), bits(samples(500, series=7)))


def by_the_formula(group: pa.Table) -> Iterator[tuple[int, int, float]]:
    """docs/format/block.md, word for word, over one row group."""
    series = None
    for row in group.to_pylist():
        if row["series_id"] != series:
            series, mantissa = row["series_id"], 0
        value = row["value"]
        if row["number"] is not None:
            number = row["number"]
            signed = -((number + 1) // 2) if number % 2 else number // 2
            if row["order"] == 0:
                mantissa = number
            else:
                mantissa += signed
            value = float(row["base"] + row["factor"] * mantissa) / row["divisor"]
        yield round(row["time"].timestamp() * 1e6), series, value


@pytest.mark.parametrize("version", [1, 2])
def test_a_repair_keeps_the_row_groups_that_are_whole(tmp_path: Path, version: int) -> None:
    if version == 1:
        old_block(tmp_path, samples())
    engine = opened(tmp_path)
    if version == 2:
        write(engine, samples())
        engine.seal()
    engine.close()
    (file,) = files(tmp_path)
    metadata = pq.read_metadata(file)
    last = metadata.row_group(metadata.num_row_groups - 1)
    values = last.column(2)
    raw = bytearray(file.read_bytes())
    raw[values.data_page_offset + values.total_compressed_size // 2] ^= 0x55
    file.write_bytes(raw)
    engine = opened(tmp_path)
    with pytest.raises(StorageError):
        scanned(engine)
    (damage,) = engine.check(repair=True).damages
    assert damage.repaired
    assert 0 < (damage.rows_lost or 0) <= last.num_rows
    assert not engine.check().damages
    left = scanned(engine)
    assert np.array_equal(left, bits(samples())[: len(left)])
    assert len(left) == SERIES * STEPS - (damage.rows_lost or 0) > 100_000
    engine.close()


def test_late_rows_deletes_and_one_more_partition(tmp_path: Path) -> None:
    engine = opened(tmp_path)
    write(engine, samples())
    engine.seal()
    write(engine, samples(10, 100).set_column(2, "value", pa.array(np.full(SERIES * 10, -0.0))))
    rows = bits(samples())
    rows[(rows[:, 1] >= 100_000_000) & (rows[:, 1] < 110_000_000), 2] = np.float64(-0.0).view(np.int64)
    for _ in range(2):
        assert np.array_equal(scanned(engine), rows)
        engine.seal()
    assert engine.delete(SAMPLES, [Matcher("series_id", "=", 3)], 0, 50_000_000) == 50
    rows = rows[~((rows[:, 0] == 3) & (rows[:, 1] < 50_000_000))]
    assert np.array_equal(scanned(engine), rows)
    assert engine.statistics(SAMPLES).rows == len(rows)
    write(engine, pa.table({"time": [3 * DAY], "series_id": [1], "value": pa.array([None], pa.float64())}))
    engine.seal()
    later = engine.scan(SAMPLES, [], DAY)
    assert rows_of(checked(SAMPLES_SCHEMA, later)) == [(3 * DAY, 1, None)]
    engine.close()


def test_a_table_may_name_its_fields_as_it_likes(tmp_path: Path) -> None:
    columns = ["number", "order", "base", "factor", "divisor", "value"]
    for count in range(1, len(columns) + 1):
        kinds = {name: "int64" if name == "number" else "float64" for name in columns[-count:]}
        schema = table_schema(f"t{count}", ["series_id"], kinds)
        engine = opened(tmp_path / str(count))
        engine.create_table(schema)
        batch = batch_of(schema, {"time": [1, 2], "series_id": ["a", "b"], **{name: [7, 8] for name in kinds}})
        engine.append(schema.name, batch)
        engine.seal()
        assert rows_of(checked(schema, engine.scan(schema.name))) == rows_of(batch)
        engine.close()
