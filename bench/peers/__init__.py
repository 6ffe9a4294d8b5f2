"""The systems that are compared, each behind the same small face."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

TABLE = "gpu_metrics"
SCORES = "gpu_scores"


@dataclass(frozen=True)
class Ingested:
    """One ingestion.

    `seconds` is until everything is durable and merged, `marks` the clock after each file; `peak` is the peak RSS of
    the system's own process in bytes, None where it runs in the process that ingests.
    """

    rows: int
    seconds: float
    marks: list[float] = field(default_factory=list)
    peak: int | None = None


class Session(Protocol):
    """A filled store, opened for asking."""

    def ask(self, question: str, params: Mapping[str, Any]) -> pa.Table | None:
        """The answer of one of the questions of `bench.questions`, or None where it cannot be asked."""

    def close(self) -> None: ...


class Peer(Protocol):
    """One system. `ingest` runs in a process of its own."""

    name: str

    def ingest(self, folder: Path, files: Sequence[Path], scores: Path) -> Ingested:
        """Store every batch of `files` (one transaction each) and `scores`; durable and compact when it returns."""

    def open(self, folder: Path) -> Session: ...


def read(file: Path) -> Iterator[pa.RecordBatch]:
    """The batches of one Arrow file, read (not mapped) one at a time, so that none stays resident."""
    with pa.OSFile(str(file)) as source, pa.ipc.open_file(source) as reader:
        for i in range(reader.num_record_batches):
            yield reader.get_batch(i)
