"""A chunk: rows or groups that follow one another in time, as lanes behind a head, with a CRC (docs/format/stream.md)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from kymograph.errors import Corrupt
from kymograph.local.streams.lanes import FOLD, Array, Orders, decode, encode, encode_folded
from kymograph.local.streams.pyramid import Groups, Runs, group_folded, group_rows, pack, sum_type, unpack
from kymograph.model.stream import DATA, FACTOR, TIMESTAMP, Layout, rows_dtype

# magic, level, reserved, rows, runs, lanes
_HEAD = struct.Struct("<2sBBIII")
_MAGIC = b"KC"
_TIME = np.dtype("<i8")
_RUN = np.dtype([("start", "<u4"), ("place", "<i8"), ("first", "u1")])
_CHUNK_BYTES = 4 * 2**20
_CHUNK_ROWS = 1 << 15
_PACKED = 256


def chunk_rows(layout: Layout) -> int:
    """Rows of one chunk, a multiple of the finest stored level's groups where that is possible."""
    rows = min(_CHUNK_ROWS, _CHUNK_BYTES // layout.rows.itemsize)
    return max(64, rows // 64 * 64)


def columns_of(rows: Array) -> Array:
    """The values as [columns, rows], each column contiguous."""
    return np.ascontiguousarray(rows[DATA].T)


class Folded:
    """Rows taken apart once for all that is done with them.

    Attributes:
        times: int64[n], contiguous.
        values: [n, columns], a view of the rows.
        body: [columns, 16, n // 16], folded as lanes are.
    """

    def __init__(self, rows: Array) -> None:
        self.times = np.ascontiguousarray(rows[TIMESTAMP])
        self.values = rows[DATA]
        whole = len(rows) // FOLD
        self.rest = whole * FOLD
        grid = self.values[: self.rest].reshape(whole, FOLD, self.values.shape[1])
        self.body = np.ascontiguousarray(grid.transpose(2, 1, 0))

    def groups(self, runs: Runs, level: int) -> Groups:
        """The groups of a level among the rows."""
        size = FACTOR**level
        full = len(self.times) // size
        if len(runs.starts) > 1 or runs.places[0] % size or not full or size % FOLD:
            return group_rows(self.times, np.ascontiguousarray(self.values.T), runs, level)
        whole = group_folded(self.times[: full * size], self.body[:, :, : full * size // FOLD], runs, level)
        if full * size == len(self.times):
            return whole
        rest = np.s_[full * size :]
        after = runs.slice(full * size, len(self.times))
        return Groups.concatenate(
            [whole, group_rows(self.times[rest], np.ascontiguousarray(self.values[rest].T), after, level)]
        )


def encode_rows(rows: Folded, runs: Runs, orders: Orders) -> bytes:
    """Rows as a chunk."""
    lanes = [encode(rows.times, orders.of(-1, rows.times))]
    for place, body in enumerate(rows.body):
        column = rows.values[:, place]
        lanes.append(encode_folded(body, np.ascontiguousarray(column[rows.rest :]), orders.of(place, column)))
    table = np.empty(len(runs.starts), _RUN)
    table["start"], table["place"], table["first"] = runs.starts, runs.places, runs.first
    return _sealed(0, len(rows.times), table.tobytes(), len(table), lanes)


def encode_groups(groups: Groups, level: int, orders: Orders, layout: Layout) -> bytes:
    """Groups of one level as a chunk; a few are packed, because a zoom reads them from many blocks."""
    if len(groups) <= _PACKED:
        return _sealed(level, len(groups), b"", 0, [pack(groups, layout)])
    flat = (groups.times, groups.counts, groups.places, groups.first.astype(np.uint8))
    lanes = [encode(lane, orders.of(-1000 * level - at, lane)) for at, lane in enumerate(flat)]
    for kind, wide in enumerate((groups.sums, groups.low, groups.high)):
        for place, lane in enumerate(wide):
            key = 4096 * (3 * level + kind) + place
            lanes.append(encode(np.ascontiguousarray(lane), orders.of(key, lane)))
    return _sealed(level, len(groups), b"", 0, lanes)


def _sealed(level: int, rows: int, runs: bytes, count: int, lanes: Sequence[bytes]) -> bytes:
    sizes = struct.pack(f"<{len(lanes)}I", *map(len, lanes))
    body = b"".join([_HEAD.pack(_MAGIC, level, 0, rows, count, len(lanes)), sizes, runs, *lanes])
    return body + struct.pack("<I", zlib.crc32(body))


def chunk_length(data: memoryview) -> int:
    """Bytes of the chunk that begins here, as its head says; 0 where none does."""
    if len(data) < _HEAD.size:
        return 0
    magic, _, _, _, runs, lanes = _HEAD.unpack_from(data)
    if magic != _MAGIC or len(data) < _HEAD.size + 4 * lanes:
        return 0
    sizes = np.frombuffer(data, "<u4", lanes, _HEAD.size)
    return int(_HEAD.size + 4 * lanes + _RUN.itemsize * runs + sizes.sum(dtype=np.int64) + 4)


class Chunk:
    """An encoded chunk whose CRC holds; lanes are decoded as they are asked for.

    Raises (from the constructor and every method):
        Corrupt: it is damaged.
    """

    def __init__(self, data: bytes | memoryview, layout: Layout) -> None:
        view = memoryview(data)
        if len(view) < _HEAD.size + 4 or zlib.crc32(view[:-4]) != struct.unpack("<I", view[-4:])[0]:
            raise Corrupt("the checksum of a chunk does not hold")
        magic, self.level, _, self.rows, runs, lanes = _HEAD.unpack_from(view)
        if magic != _MAGIC:
            raise Corrupt("this is no chunk")
        self._layout = layout
        self._view = view
        sizes = np.frombuffer(view, "<u4", lanes, _HEAD.size)
        at = _HEAD.size + 4 * lanes
        self._runs = np.frombuffer(view, _RUN, runs, at)
        self._at = at + _RUN.itemsize * runs + np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])

    def _lane(self, place: int, kind: np.dtype[Any], out: Array | None = None) -> Array:
        return decode(self._view[self._at[place] : self._at[place + 1]], self.rows, kind, out)

    def times(self) -> Array:
        """int64[n] µs."""
        return self._lane(0, _TIME)

    def runs(self) -> Runs:
        """How its rows continue one another."""
        table = self._runs
        return Runs(table["start"].astype(np.int64), table["place"].astype(np.int64), table["first"].astype(np.bool_))

    def columns(self, places: Sequence[int], low: int = 0, high: int | None = None) -> Array:
        """Values of some columns, [columns, rows], of rows `low` to `high`."""
        end = self.rows if high is None else high
        out = np.empty((len(places), end - low), self._layout.dtype)
        for at, place in enumerate(places):
            if end - low == self.rows:
                self._lane(1 + place, self._layout.dtype, out[at])
            else:
                out[at] = self._lane(1 + place, self._layout.dtype)[low:end]
        return out

    def fill(self, out: Array, places: Sequence[int], low: int, high: int) -> None:
        """Write the values of some columns of rows `low` to `high` into an array of rows."""
        data = out[DATA]
        for at, place in enumerate(places):
            if high - low == self.rows:
                self._lane(1 + place, self._layout.dtype, data[:, at])
            else:
                data[:, at] = self._lane(1 + place, self._layout.dtype)[low:high]

    def structured(self, places: Sequence[int], times: Array, low: int, high: int) -> Array:
        """Rows `low` to `high` with some columns, given all times."""
        out = np.empty(high - low, rows_dtype(self._layout.dtype, len(places)))
        out[TIMESTAMP] = times[low:high]
        self.fill(out, places, low, high)
        return out

    def groups(self, places: Sequence[int]) -> Groups:
        """The groups of a level, with some columns."""
        if self.rows <= _PACKED:
            return unpack([bytes(self._view[self._at[0] : self._at[1]])], None, self._layout, places)
        times, counts, at = (self._lane(place, _TIME) for place in range(3))
        first = self._lane(3, np.dtype("u1"))
        count = self._layout.count
        kinds = (sum_type(self._layout.dtype), self._layout.dtype, self._layout.dtype)
        wide = [
            np.stack([self._lane(4 + part * count + place, kind) for place in places])
            for part, kind in enumerate(kinds)
        ]
        return Groups(times, counts, at, first.astype(np.bool_), *wide)
