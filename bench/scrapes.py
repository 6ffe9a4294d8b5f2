"""Ten minutes of one-second node exporter scrapes: bytes per value on disk, beside DuckDB and SQLite."""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

import kymograph
from bench.data import host
from bench.table import folder_bytes, number, show
from kymograph.store.metrics import Sample


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scrapes", type=int, default=600, help="how many, one second apart (600)")


def run(args: argparse.Namespace) -> None:
    times, values = host.scrapes(min(args.scrapes, 60) if args.small else args.scrapes)
    systems: list[tuple[str, Callable[[Path, host.Times, host.Floats], int | None]]] = [
        ("Kymograph", _kymograph),
        ("DuckDB", _duckdb),
        ("SQLite", _sqlite),
    ]
    rows = []
    for name, store in systems:
        with tempfile.TemporaryDirectory(prefix="kymograph-bench-") as folder:
            start = time.perf_counter()
            sealed = store(Path(folder), times, values)
            seconds = time.perf_counter() - start
            whole = folder_bytes(Path(folder))
        per_value = None if sealed is None else sealed / values.size
        cells = [number(per_value), number(whole / values.size), number(values.size / seconds / 1e3)]
        rows.append([name, *cells])
    title = f"{values.shape[0]} scrapes of {values.shape[1]} series"
    show(title, ["system", "data bytes/value", "folder bytes/value", "thousand values/s"], rows)


def _kymograph(folder: Path, times: host.Times, values: host.Floats) -> int:
    series = host.series()
    with kymograph.connect(folder) as store:
        for moment, row in zip(times.tolist(), values.tolist(), strict=True):
            store.record(
                [
                    Sample(one.name, value, one.labels, moment, "counter" if one.kind == "counter" else "gauge")
                    for one, value in zip(series, row, strict=True)
                ]
            )
        store.seal()
        store.compact()
        return int(store.info()["tables"]["samples"]["sealed_bytes"])


def _duckdb(folder: Path, times: host.Times, values: host.Floats) -> None:
    connection = duckdb.connect(str(folder / "samples.duckdb"))
    connection.execute("CREATE TABLE metrics (series_id INTEGER, name VARCHAR, labels VARCHAR)")
    names = [(i, one.name, str(one.labels)) for i, one in enumerate(host.series())]
    connection.executemany("INSERT INTO metrics VALUES (?, ?, ?)", names)
    connection.execute("CREATE TABLE samples (time TIMESTAMP, series_id INTEGER, value DOUBLE)")
    ids = pa.array(np.arange(values.shape[1], dtype=np.int32))
    for moment, row in zip(times.tolist(), values, strict=True):
        time_column = pa.array(np.full(len(row), moment), pa.timestamp("us"))
        connection.register("incoming", pa.table({"time": time_column, "series_id": ids, "value": row}))
        connection.execute("INSERT INTO samples SELECT * FROM incoming")
    connection.execute("CHECKPOINT")
    connection.close()


def _sqlite(folder: Path, times: host.Times, values: host.Floats) -> None:
    connection = sqlite3.connect(folder / "samples.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE metrics (series_id INTEGER PRIMARY KEY, name, labels)")
    names = [(i, one.name, str(one.labels)) for i, one in enumerate(host.series())]
    connection.executemany("INSERT INTO metrics VALUES (?, ?, ?)", names)
    connection.execute("CREATE TABLE samples (series_id, time, value, PRIMARY KEY (series_id, time)) WITHOUT ROWID")
    for moment, row in zip(times.tolist(), values.tolist(), strict=True):
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO samples VALUES (?, ?, ?)", ((i, moment, v) for i, v in enumerate(row)))
        connection.execute("COMMIT")
    connection.close()
