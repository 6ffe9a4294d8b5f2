"""Kymograph as its users call it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

import kymograph
from bench.data.fleet import FIELDS, LABELS
from bench.peers import SCORES, TABLE, Ingested, read
from bench.questions import KYMOGRAPH


class Kymograph:
    """The embedded store with its defaults: `sync="full"`, partitions of a day."""

    name = "Kymograph"

    def ingest(self, folder: Path, files: Sequence[Path], scores: Path) -> Ingested:
        rows, marks = 0, []
        start = time.perf_counter()
        with kymograph.connect(folder, sync="full") as store:
            store.create_table(TABLE, labels=LABELS, fields=FIELDS)
            for file in files:
                for batch in read(file):
                    rows += store.write(TABLE, batch)
                marks.append(time.perf_counter() - start)
            for batch in read(scores):
                store.write(SCORES, batch)
            store.seal()
            store.compact()
        return Ingested(rows, time.perf_counter() - start, marks)

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
