"""Kymograph as its users call it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

import kymograph
from bench.peers import Data, Ingested, fields_of, labels_of, read, schema_of
from bench.questions import KYMOGRAPH


class Kymograph:
    """The embedded store with its defaults: `sync="full"`, partitions of a day."""

    name = "Kymograph"

    def ingest(self, folder: Path, data: Data) -> Ingested:
        rows, marks = 0, []
        first = next(iter(data))
        start = time.perf_counter()
        with kymograph.connect(folder, sync="full") as store:
            for table, files in data.items():
                schema = schema_of(files)
                store.create_table(table, labels=labels_of(schema), fields=fields_of(schema))
                for file in files:
                    for batch in read(file):
                        stored = store.write(table, batch)
                        rows += stored if table == first else 0
                    marks.append(time.perf_counter() - start)
            store.seal()
            store.compact()
        width = len(fields_of(schema_of(data[first])))
        return Ingested(rows, rows * width, time.perf_counter() - start, marks[: len(data[first])])

    def open(self, folder: Path) -> KymographSession:
        return KymographSession(folder)


class KymographSession:
    """SQL through `Store.sql`, results as Arrow."""

    def __init__(self, folder: Path) -> None:
        self._store = kymograph.connect(folder, read_only=True)

    def ask(self, question: str, params: Mapping[str, Any]) -> pa.Table | None:
        sql = KYMOGRAPH[question]
        used = {name: value for name, value in params.items() if f"${name}" in sql}
        return self._store.sql(sql, used).arrow()

    def close(self) -> None:
        self._store.close()
