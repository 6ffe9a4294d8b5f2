"""Which Parquet encoding each column gets: tried on a sample of the data being sealed, kept for a while.

Sorted telemetry differs too much between columns for one rule: temperatures want BYTE_STREAM_SPLIT, clocks in steps a
dictionary, counters DELTA_BINARY_PACKED. A trial costs a millisecond a column and candidate, so its result serves the
next blocks of the table too.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

DICTIONARY = "DICTIONARY"
SAMPLE_ROWS = 16_384
TRIAL_EVERY = 32


def candidates(kind: pa.DataType) -> tuple[str, ...]:
    """Encodings worth trying for a type, the default first."""
    if pa.types.is_floating(kind):
        return ("BYTE_STREAM_SPLIT", DICTIONARY, "PLAIN")
    if pa.types.is_integer(kind) or pa.types.is_timestamp(kind):
        wide = kind.bit_width >= 32
        return ("DELTA_BINARY_PACKED", DICTIONARY, "BYTE_STREAM_SPLIT") if wide else ("DELTA_BINARY_PACKED", DICTIONARY)
    if pa.types.is_boolean(kind):
        return ("RLE",)
    return (DICTIONARY,)


class EncodingChooser:
    """Remembers the choice per (table, column); thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chosen: dict[tuple[str, str], str] = {}
        self._blocks: dict[str, int] = {}

    def choose(self, table: str, data: pa.Table, fixed: Mapping[str, str] | None = None) -> dict[str, str]:
        """Encoding by column name for one block's sorted rows; `fixed` ones are not tried."""
        with self._lock:
            seen = self._blocks.get(table, 0)
            self._blocks[table] = seen + 1
            chosen = {} if seen % TRIAL_EVERY == 0 else {c: e for (t, c), e in self._chosen.items() if t == table}
        chosen.update(fixed or {})
        sample = data.slice(max(0, (data.num_rows - SAMPLE_ROWS) // 2), SAMPLE_ROWS)
        for column in data.schema:
            if column.name not in chosen:
                chosen[column.name] = _smallest(sample.select([column.name]), column.type)
        with self._lock:
            self._chosen.update({((table, c), e) for c, e in chosen.items()})
        return chosen


def _smallest(sample: pa.Table, kind: pa.DataType) -> str:
    options = candidates(kind)
    if len(options) == 1 or sample.num_rows < 256:
        return options[0]
    sizes = {option: _encoded_size(sample, option) for option in options}
    return min(options, key=lambda option: sizes[option])


def _encoded_size(sample: pa.Table, encoding: str) -> int:
    sink = pa.BufferOutputStream()
    pq.write_table(sample, sink, **arguments({sample.column_names[0]: encoding}), write_statistics=False)
    return int(sink.getvalue().size)


def arguments(encodings: dict[str, str]) -> dict[str, object]:
    """`pyarrow.parquet.write_table` arguments for encodings by column."""
    return {
        "compression": "zstd",
        "compression_level": 3,
        "use_dictionary": [name for name, encoding in encodings.items() if encoding == DICTIONARY],
        "column_encoding": {name: encoding for name, encoding in encodings.items() if encoding != DICTIONARY} or None,
        "dictionary_pagesize_limit": 1 << 20,
    }
