"""DuckDB with its native table."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from bench.peers import Data, Ingested, fields_of, labels_of, read, schema_of
from bench.questions import DUCKDB

_TYPES = {pa.float32(): "FLOAT", pa.int32(): "INTEGER", pa.int64(): "BIGINT", pa.float64(): "DOUBLE"}
_FILE = "fleet.duckdb"


class DuckDB:
    """One table in one file; a transaction per batch, a checkpoint at the end."""

    name = "DuckDB"

    def ingest(self, folder: Path, data: Data) -> Ingested:
        folder.mkdir(parents=True, exist_ok=True)
        rows, marks = 0, []
        first = next(iter(data))
        start = time.perf_counter()
        connection = duckdb.connect(str(folder / _FILE))
        # Arrow's zone is UTC; without this DuckDB would read the zone of the machine
        connection.execute("SET TimeZone = 'UTC'")
        for table, files in data.items():
            schema = schema_of(files)
            columns = [f"{name} VARCHAR" for name in labels_of(schema)]
            columns += [f"{name} {_TYPES[kind]}" for name, kind in fields_of(schema).items()]
            connection.execute(f"CREATE TABLE {table} (time TIMESTAMP, {', '.join(columns)})")
            for file in files:
                for batch in read(file):
                    self._insert(connection, table, batch)
                    rows += batch.num_rows if table == first else 0
                marks.append(time.perf_counter() - start)
        connection.execute("CHECKPOINT")
        connection.close()
        width = len(fields_of(schema_of(data[first])))
        return Ingested(rows, rows * width, time.perf_counter() - start, marks[: len(data[first])])

    @staticmethod
    def _insert(connection: Any, table: str, batch: pa.RecordBatch) -> None:
        connection.register("incoming", pa.Table.from_batches([batch]))
        connection.execute(f"INSERT INTO {table} SELECT * FROM incoming")
        connection.unregister("incoming")

    def open(self, folder: Path) -> DuckSession:
        return DuckSession(folder)


class DuckSession:
    """SQL, results as Arrow."""

    def __init__(self, folder: Path) -> None:
        self._connection = duckdb.connect(str(folder / _FILE), read_only=True)
        self._connection.execute("SET TimeZone = 'UTC'")

    def ask(self, question: str, params: Mapping[str, Any]) -> pa.Table | None:
        sql = DUCKDB[question]
        # a time with a zone would turn the column into one, row by row, and no row group could be passed over
        naive = {n: v.replace(tzinfo=None) if isinstance(v, dt.datetime) else v for n, v in params.items()}
        used = {name: value for name, value in naive.items() if f"${name}" in sql}
        found = self._connection.sql(sql, params=used).to_arrow_table()
        assert isinstance(found, pa.Table)
        return found

    def close(self) -> None:
        self._connection.close()
