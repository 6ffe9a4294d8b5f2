"""What one turn of one collector brought in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from kymograph.model.exemplar import Exemplar
from kymograph.store.metrics import Sample

# What a sample with its labels takes in a queue; measured 230 to 400 with labels of their own.
SAMPLE_BYTES = 300


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows and samples collected together; whoever receives one must not change it.

    Attributes:
        source: name of the collector.
        time: int µs since the epoch at which it was collected; rows and samples carry their own.
        rows: table name to its new rows: a pa.Table, a pa.RecordBatch or a dict of columns.
        samples: scalar samples, every one with a time.
        exemplars: of series that have samples here.
        describe: metric name to its metadata, any of the keys `kind`, `unit`, `help`.
        problem: what is wrong with the thing observed although the turn itself went well (a scrape
            target that does not answer, a lost GPU); "" when nothing is.
    """

    source: str
    time: int
    rows: Mapping[str, Any] = field(default_factory=dict)
    samples: Sequence[Sample] = ()
    describe: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    problem: str = ""
    exemplars: Sequence[Exemplar] = ()

    @property
    def row_count(self) -> int:
        """Table rows and samples together."""
        return len(self.samples) + sum(count_rows(data) for data in self.rows.values())

    @property
    def nbytes(self) -> int:
        """Bytes it takes in memory, samples estimated."""
        scalars = len(self.samples) + len(self.exemplars)
        return SAMPLE_BYTES * scalars + sum(size_of(data) for data in self.rows.values())


def count_rows(data: Any) -> int:
    """Rows of a table, record batch or dict of columns."""
    if isinstance(data, (pa.Table, pa.RecordBatch)):
        return int(data.num_rows)
    return max((_length(column) for column in data.values()), default=0)


def _length(column: Any) -> int:
    return len(column) if hasattr(column, "__len__") and not isinstance(column, (str, bytes)) else 1


def size_of(data: Any) -> int:
    """Bytes of a table, record batch or (estimated) dict of columns."""
    if isinstance(data, (pa.Table, pa.RecordBatch)):
        return int(data.nbytes)
    # columns of Python objects: a reference and the object behind it
    return sum(40 * _length(column) for column in data.values())
