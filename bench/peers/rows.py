"""SQLite, one row at a time: what a collector without a store of its own tends to do."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from bench.data.fleet import FIELDS, SCORES, TABLE
from bench.peers import Data, Ingested, read
from bench.questions import SQLITE

_FILE = "fleet.sqlite"


class SQLite:
    """Rows keyed by (gpu, time), the GPU as a number; WAL, synchronous FULL, a transaction per batch."""

    name = "SQLite rows"

    def ingest(self, folder: Path, data: Data) -> Ingested:
        folder.mkdir(parents=True, exist_ok=True)
        rows, marks = 0, []
        start = time.perf_counter()
        connection = sqlite3.connect(folder / _FILE, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE gpu (id INTEGER PRIMARY KEY, gpu_uuid TEXT UNIQUE, hostname TEXT)")
        columns = ", ".join(FIELDS)
        columns = f"gpu INTEGER, time INTEGER, {columns}, PRIMARY KEY (gpu, time)"
        connection.execute(f"CREATE TABLE {TABLE} ({columns}) WITHOUT ROWID")
        connection.execute(f"CREATE INDEX by_time ON {TABLE} (time)")
        connection.execute(f"CREATE TABLE {SCORES} (time INTEGER, gpu_uuid TEXT, score REAL)")
        insert = f"INSERT INTO {TABLE} VALUES ({', '.join('?' * (len(FIELDS) + 2))})"
        for file in data[TABLE]:
            for batch in read(file):
                self._insert(connection, insert, batch)
                rows += batch.num_rows
            marks.append(time.perf_counter() - start)
        for file in data[SCORES]:
            for batch in read(file):
                values = zip(*(_column(batch, name) for name in ("time", "gpu_uuid", "score")), strict=True)
                connection.executemany(f"INSERT INTO {SCORES} VALUES (?, ?, ?)", values)
        # without statistics the planner takes the index on time for questions about one GPU
        connection.execute("ANALYZE")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        return Ingested(rows, rows * len(FIELDS), time.perf_counter() - start, marks)

    @staticmethod
    def _insert(connection: sqlite3.Connection, insert: str, batch: pa.RecordBatch) -> None:
        connection.execute("BEGIN")
        numbers = batch["gpu_uuid"].indices
        names = zip(_column(batch, "gpu_uuid"), _column(batch, "hostname"), strict=True)
        known = dict(zip(numbers.to_pylist(), names, strict=True))
        gpus = [(number, *name) for number, name in known.items()]
        connection.executemany("INSERT OR IGNORE INTO gpu VALUES (?, ?, ?)", gpus)
        columns = [numbers.to_pylist(), _column(batch, "time"), *(_column(batch, name) for name in FIELDS)]
        connection.executemany(insert, zip(*columns, strict=True))
        connection.execute("COMMIT")

    def open(self, folder: Path) -> SQLiteSession:
        return SQLiteSession(folder)


def _column(batch: pa.RecordBatch, name: str) -> list[Any]:
    column = batch[name]
    if name == "time":
        column = column.cast(pa.int64())
    values: list[Any] = column.to_pylist()
    return values


class SQLiteSession:
    """SQL; the rows come back as Arrow only so that answers can be compared."""

    def __init__(self, folder: Path) -> None:
        self._connection = sqlite3.connect(folder / _FILE)

    def ask(self, question: str, params: Mapping[str, Any]) -> pa.Table | None:
        sql = SQLITE[question]
        micros = {name: int(v.timestamp() * 1e6) if hasattr(v, "timestamp") else v for name, v in params.items()}
        used = {name: value for name, value in micros.items() if f"${name}" in sql}
        cursor = self._connection.execute(sql, used)
        names = [column[0] for column in cursor.description]
        rows = cursor.fetchall()
        return pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)})

    def close(self) -> None:
        self._connection.close()
