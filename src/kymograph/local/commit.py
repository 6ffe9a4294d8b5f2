"""The write path: a batch becomes a blob of the hot log."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from kymograph.engine.rings import RingSamples
from kymograph.errors import DuplicateRows, NotFound, StorageError
from kymograph.local import retention, ringed
from kymograph.local.folder import Folder, Generation, Table
from kymograph.local.group import GroupCommit, Waiting
from kymograph.local.rows import MemoryRows, SortedRows, common_positions, select
from kymograph.local.sorting import sort_batches
from kymograph.model.schema import SAMPLES
from kymograph.model.time import TIME, isoformat, micros_of

_COMPRESS_ABOVE = 4096
_PIECE_BYTES = 8 * 2**20
_LARGE_BUFFERS = 512 * 2**20
# threads of their own would only take turns with those that seal
_LZ4, _AS_IT_IS = (pa.ipc.IpcWriteOptions(compression=codec, use_threads=False) for codec in ("lz4", None))


@dataclass(frozen=True)
class _Piece:
    batch: pa.RecordBatch
    data: memoryview
    low: int
    high: int

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> _Piece:
        times = micros_of(batch.column(TIME))
        return cls(batch, encode_batch(batch), int(times.min()), int(times.max()))


@dataclass
class _Waiting(Waiting):
    """What one writer wants stored: rows of a table, samples of rings, or both.

    Attributes:
        rings: which rings there were when the samples were told from the rows; None where nobody looked.
    """

    table: Table | None
    pieces: list[_Piece]
    samples: RingSamples | None = None
    rings: object = None


class Committer:
    """Writes to the hot log and to rings, those that come together in one commit."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self.lock = threading.RLock()
        self._group = GroupCommit[_Waiting](self.lock, self._write)
        self._check_lock = threading.Lock()

    def append(self, table: Table, batch: pa.RecordBatch) -> int:
        """Log a batch and put it into the head; what belongs to rings goes there. Returns its rows."""
        if table.schema.name == SAMPLES:
            return self._append_samples(table, batch)
        self._append(table, batch)
        return int(batch.num_rows)

    def _append_samples(self, table: Table, batch: pa.RecordBatch) -> int:
        while True:
            rings = self._folder.rings.rings
            rest, samples = ringed.divided(batch, rings)
            if samples is not None:
                self._make_room(samples)
            try:
                self._append(table, rest, samples, rings)
            except _OtherRings:
                continue
            return int(batch.num_rows)

    def put(self, samples: RingSamples) -> None:
        """Put samples into rings.

        Raises:
            NotFound: a series that is no ring.
        """
        self._make_room(samples)
        self._group.commit(_Waiting(None, [], samples))

    def _make_room(self, samples: RingSamples) -> None:
        if self._folder.options.cap is not None:
            retention.make_room(self._folder, self._folder.rings.log_bytes(samples))

    def _append(
        self, table: Table, batch: pa.RecordBatch, samples: RingSamples | None = None, rings: object = None
    ) -> None:
        batch = _owned(batch)
        # SQLite takes no blob beyond a gigabyte, and sealing likes its input in pieces
        if batch.num_rows > 0 and batch.get_total_buffer_size() <= _PIECE_BYTES:
            pieces = [_Piece.of(batch)]
        else:
            step = max(1, batch.num_rows * _PIECE_BYTES // max(1, batch.nbytes))
            pieces = [_Piece.of(batch.slice(at, step)) for at in range(0, batch.num_rows, step)]
        entry = _Waiting(table, pieces, samples, rings)
        if table.schema.duplicates == "reject" and batch.num_rows:
            with self._check_lock:
                refuse_duplicates(table, batch)
                self._group.commit(entry)
        else:
            self._group.commit(entry)

    def _write(self, group: list[_Waiting]) -> None:
        living = [entry for entry in group if self._may_go(entry)]
        if not living:
            return
        samples = [entry.samples for entry in living if entry.samples is not None]
        rings, catalog = self._folder.rings, self._folder.catalog
        with catalog.lock:
            with catalog.transaction():
                logged = [(e.table, piece) for e in living if e.table is not None for piece in e.pieces]
                ids = catalog.add_hot((t.id, p.batch.num_rows, p.low, p.high, p.data) for t, p in logged)
                change = rings.store(ringed.joined(samples)) if samples else None
            rings.keep(change)
        for (table, piece), hot_id in zip(logged, ids, strict=True):
            with table.lock:
                table.head.add(hot_id, piece.batch)

    def _may_go(self, entry: _Waiting) -> bool:
        """Whether an entry can still be stored; if not, it has its error."""
        rings = self._folder.rings.rings
        if entry.table is not None and entry.table.dropped:
            entry.error = NotFound(f"table {entry.table.schema.name!r} has been dropped")
        elif entry.rings is not None and entry.rings is not rings:
            entry.error = _OtherRings()
        elif entry.table is None and entry.samples is not None:
            missing = [number for number in np.unique(entry.samples.ids).tolist() if number not in rings]
            entry.error = NotFound(f"series {missing[0]} is no ring") if missing else None
        return entry.error is None


class _OtherRings(Exception):
    """A series has become a ring, or is none any more, since a batch was divided."""


def _owned(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch itself, or a copy where it is a small window on large buffers that it would keep alive."""
    held = batch.get_total_buffer_size()
    if held <= _LARGE_BUFFERS or held <= 2 * batch.nbytes:
        return batch
    return decode_batches(encode_batch(batch, compress=False))[0]


def encode_batch(batch: pa.RecordBatch, *, compress: bool = True) -> memoryview:
    """One batch as an Arrow IPC stream, lz4-compressed unless it is tiny."""
    sink = pa.BufferOutputStream()
    large = compress and batch.get_total_buffer_size() > _COMPRESS_ABOVE and batch.nbytes > _COMPRESS_ABOVE
    with pa.ipc.new_stream(sink, batch.schema, options=_LZ4 if large else _AS_IT_IS) as writer:
        writer.write_batch(batch)
    return memoryview(sink.getvalue())


def decode_batches(data: bytes | memoryview) -> list[pa.RecordBatch]:
    """The batches of one hot row."""
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        return list(reader)


def refuse_duplicates(table: Table, batch: pa.RecordBatch) -> None:
    """Raise DuplicateRows when a key is twice in the batch or stored already; names the first one."""
    while True:
        generation = table.generation()
        # by the labels of the generation: one may have come since the batch was made
        rows = sort_batches(generation.schema, [batch])
        if len(rows.times) < batch.num_rows:
            raise DuplicateRows(
                f"table {table.schema.name}: {batch.num_rows - len(rows.times)} rows of the batch repeat a (series, time) of it"
            )
        try:
            return _refuse_stored(table, generation, rows)
        except StorageError:
            # a block may have been replaced, and its file removed, since the generation was taken
            if table.blocks is generation.blocks:
                raise


def _refuse_stored(table: Table, generation: Generation, rows: MemoryRows) -> None:
    low, high = int(rows.times.min()), int(rows.times.max())
    sources: list[tuple[SortedRows, int, int]] = [(run.rows, run.min_time, run.max_time) for run in generation.runs]
    for block in generation.blocks:
        if block.row.min_time <= high and block.row.max_time >= low:
            sources.extend((group, block.row.min_time, block.row.max_time) for group in block.groups())
    for source, first, last in sources:
        within = select(rows, (), first, last + 1)
        if within is None:
            continue
        _, ours = common_positions(source, rows, within)
        if len(ours):
            raise DuplicateRows(
                f"table {table.schema.name}: {len(ours)} rows exist already, the first at {isoformat(int(rows.times[ours[0]]))}",
                hint="nothing was stored; the table's policy is reject",
            )
