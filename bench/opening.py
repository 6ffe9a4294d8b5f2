"""Opening a store of many blocks, each time in a fresh process, beside a DuckDB file with the same rows."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

import kymograph
from bench import child
from bench.table import number, show

HOUR = 3_600_000_000


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--blocks", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=7)


def run(args: argparse.Namespace) -> None:
    blocks = min(args.blocks, 50) if args.small else args.blocks
    with tempfile.TemporaryDirectory(prefix="kymograph-bench-") as folder:
        store, file = Path(folder, "store"), Path(folder, "rows.duckdb")
        made = fill(store, file, blocks)
        rows = []
        openers: list[tuple[str, Callable[[Path], tuple[float, float]], Path]] = [
            (f"Kymograph, {made} blocks", open_kymograph, store),
            ("Kymograph, read-only", open_readonly, store),
            ("DuckDB", open_duckdb, file),
        ]
        for name, opener, place in openers:
            took = [child.run(opener, place)[0] for _ in range(args.repeats)]
            rows.append([name, *(number(1000 * statistics.median(column)) for column in zip(*took, strict=True))])
        show("Opening", ["system", "open ms", "open and count ms"], rows)


def fill(store: Path, file: Path, blocks: int) -> int:
    """One block per hour of 20 devices; returns how many blocks there are."""
    rng = np.random.default_rng(1)
    with kymograph.connect(store, sync="off") as opened:
        opened.create_table("meter", labels=["device"], fields={"watts": "float64"}, partition="1h")
        for first in range(0, blocks, 100):
            hours = np.arange(first, min(blocks, first + 100))
            times = (hours[:, None, None] * HOUR + np.arange(60)[None, None, :] * 60_000_000).repeat(20, axis=1)
            devices = np.broadcast_to(np.arange(20)[None, :, None], times.shape).ravel()
            names = pa.array([f"d{i}" for i in range(20)])
            opened.write(
                "meter",
                {
                    "time": times.ravel(),
                    "device": pa.DictionaryArray.from_arrays(pa.array(devices, pa.int32()), names),
                    "watts": rng.normal(500, 50, times.size).round(1),
                },
            )
            opened.seal()
        rows = opened.scan("meter")
        made = int(opened.info()["tables"]["meter"]["blocks"])
    connection = duckdb.connect(str(file))
    connection.register("incoming", rows)
    connection.execute("CREATE TABLE meter AS SELECT * FROM incoming")
    connection.close()
    return made


def open_kymograph(folder: Path, read_only: bool = False) -> tuple[float, float]:
    start = time.perf_counter()
    store = kymograph.connect(folder, read_only=read_only)
    opened = time.perf_counter() - start
    store.sql("SELECT count(*) FROM meter").rows()
    counted = time.perf_counter() - start
    store.close()
    return opened, counted


def open_readonly(folder: Path) -> tuple[float, float]:
    return open_kymograph(folder, read_only=True)


def open_duckdb(file: Path) -> tuple[float, float]:
    start = time.perf_counter()
    connection = duckdb.connect(str(file))
    opened = time.perf_counter() - start
    connection.execute("SELECT count(*) FROM meter").fetchall()
    counted = time.perf_counter() - start
    connection.close()
    return opened, counted
