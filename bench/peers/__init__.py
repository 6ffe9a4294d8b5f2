"""The systems that are compared, each behind the same small face."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

# Arrow files by table name, in the order to be written; the first table is the one that is counted
Data = Mapping[str, Sequence[Path]]


@dataclass(frozen=True)
class Ingested:
    """One ingestion. `rows` and `values` are of the first table.

    `seconds` is until everything is durable and merged, `marks` the clock after each file; `peak` is the peak RSS of
    the system's own process in bytes, None where it runs in the process that ingests.
    """

    rows: int
    values: int
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

    def ingest(self, folder: Path, data: Data) -> Ingested:
        """Store every batch of every file, one transaction each; durable and compact when it returns."""

    def open(self, folder: Path) -> Session: ...


def schema_of(files: Sequence[Path]) -> pa.Schema:
    """The schema of a table's files."""
    with pa.OSFile(str(files[0])) as source, pa.ipc.open_file(source) as reader:
        return reader.schema


def labels_of(schema: pa.Schema) -> list[str]:
    """The columns that identify a series: the generators make them dictionaries."""
    return [column.name for column in schema if pa.types.is_dictionary(column.type)]


def fields_of(schema: pa.Schema) -> dict[str, pa.DataType]:
    """The measured columns and their types."""
    labels = labels_of(schema)
    return {column.name: column.type for column in schema if column.name != "time" and column.name not in labels}


def read(file: Path) -> Iterator[pa.RecordBatch]:
    """The batches of one Arrow file, read (not mapped) one at a time, so that none stays resident."""
    with pa.OSFile(str(file)) as source, pa.ipc.open_file(source) as reader:
        for i in range(reader.num_record_batches):
            yield reader.get_batch(i)
