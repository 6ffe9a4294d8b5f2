"""Stream rows as an Arrow IPC stream: a column `timestamp`, then one column for each value."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import ipc

from kymograph.errors import InvalidInput
from kymograph.model.stream import DATA, TIMESTAMP, Layout
from kymograph.model.time import TIME_TYPE

Array = np.ndarray[Any, Any]
MEDIA = "application/vnd.apache.arrow.stream"
# what is held beyond this waits in a file
IN_MEMORY = 32 * 2**20


class ArrowDecoder:
    """An Arrow stream cut anywhere; its rows come out at its end, because Arrow reads no message in parts.

    The first column is the time (int64 µs or any timestamp), the others have the type of the layout, in its order.

    Args:
        folder: where the nameless file is that holds what does not fit into memory; None is the system's.
    """

    def __init__(self, layout: Layout, folder: Path | None = None) -> None:
        self._layout = layout
        self._held = tempfile.SpooledTemporaryFile(IN_MEMORY, dir=None if folder is None else str(folder))  # noqa: SIM115 - closed at its end

    def feed(self, data: bytes) -> Array:
        """No rows yet."""
        self._held.write(data)
        return np.empty(0, self._layout.rows)

    def finish(self) -> Iterator[Array]:
        """The rows of each record batch. Raises InvalidInput."""
        self._held.seek(0)
        try:
            with ipc.open_stream(pa.PythonFile(self._held, "r")) as reader:
                self._check(reader.schema)
                for batch in reader:
                    yield self._rows(batch)
        except (pa.ArrowException, OSError) as problem:
            raise InvalidInput(f"the body is no Arrow stream: {problem}") from None

    def close(self) -> None:
        """Let go of what is held."""
        self._held.close()

    def _check(self, schema: pa.Schema) -> None:
        wanted = pa.from_numpy_dtype(self._layout.dtype)
        if len(schema) != 1 + self._layout.count:
            raise InvalidInput(f"{self._layout.name} takes {1 + self._layout.count} columns, not {len(schema)}")
        for field in list(schema)[1:]:
            if field.type != wanted:
                raise InvalidInput(f"column {field.name} is {field.type}, {self._layout.name} takes {wanted}")
        time = schema.field(0).type
        if not pa.types.is_timestamp(time) and time != pa.int64():
            raise InvalidInput(f"the first column must be a time or int64 µs, not {time}")

    def _rows(self, batch: pa.RecordBatch) -> Array:
        batch.validate(full=True)
        for column, field in zip(batch.columns, batch.schema, strict=True):
            if column.null_count:
                raise InvalidInput(f"column {field.name} has a null, and a stream has none")
        rows = np.empty(batch.num_rows, self._layout.rows)
        times = batch.column(0)
        if times.type != pa.int64():
            times = pc.cast(times, pa.timestamp("us", times.type.tz), safe=False).view(pa.int64())
        rows[TIMESTAMP] = times.to_numpy()
        for place in range(self._layout.count):
            rows[DATA][:, place] = batch.column(1 + place).to_numpy()
        return rows


class ArrowEncoder:
    """Arrays of rows as the bytes of one Arrow stream.

    Args:
        columns: names of the columns; levels have each with `_mean`, `_min` and `_max`.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._out = _Sink()
        self._writer: Any = None

    def feed(self, rows: Array) -> bytes:
        """The bytes of these rows, with the schema before the first ones."""
        batch = self._batch(rows)
        if self._writer is None:
            self._writer = ipc.new_stream(self._out, batch.schema)
        self._writer.write_batch(batch)
        return self._out.taken()

    def finish(self, none: Array) -> bytes:
        """The end of the stream; `none` is an empty array, which tells the schema where there were no rows."""
        start = self.feed(none) if self._writer is None else b""
        self._writer.close()
        return start + self._out.taken()

    def _batch(self, rows: Array) -> pa.RecordBatch:
        names, columns = [TIMESTAMP], [pa.array(np.ascontiguousarray(rows[TIMESTAMP])).view(TIME_TYPE)]
        for field in rows.dtype.names or ():
            if field == TIMESTAMP:
                continue
            for name, values in zip(self._columns, rows[field].T, strict=True):
                names.append(name if field == DATA else f"{name}_{field}")
                columns.append(pa.array(np.ascontiguousarray(values)))
        return pa.RecordBatch.from_arrays(columns, names)


class _Sink:
    """A file that gives back what was written since the last time."""

    def __init__(self) -> None:
        self._held = bytearray()
        self.closed = False

    def write(self, data: Any) -> int:
        self._held += data
        return len(data)

    def flush(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        self.closed = True

    def taken(self) -> bytes:
        held, self._held = bytes(self._held), bytearray()
        return held
