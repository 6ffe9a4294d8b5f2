"""Groups of rows and groups of groups: what a level of a pyramid is made of, in columns, exact where integers allow.

A group may come in parts, because it began in one block and went on in the next; parts are put together when read. So a
level is never rewritten when rows follow.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kymograph.errors import Corrupt
from kymograph.model.stream import FACTOR, MAX, MEAN, MIN, TIMESTAMP, Layout, levels_dtype

Array = np.ndarray[Any, Any]

# finer levels cost as much as the rows and are computed from them in no more time than a query may take (docs/adr/0013)
FIRST_STORED = 3
LAST_STORED = 8


@dataclass(frozen=True)
class Runs:
    """How the rows of an array continue one another; see `engine.streams.Streams` on places.

    Attributes:
        starts: int64, positions at which a run begins; the first is 0.
        places: int64, place of the row at each of them within its interval.
        first: bool, whether nothing before continues into it; only position 0 can have False.
    """

    starts: Array
    places: Array
    first: Array

    @classmethod
    def single(cls, place: int, joined: bool) -> Runs:
        """One run."""
        return cls(np.zeros(1, np.int64), np.array([place], np.int64), np.array([not joined]))

    def slice(self, low: int, high: int) -> Runs:
        """The runs of rows `low` to `high` (not none)."""
        at = int(np.searchsorted(self.starts, low, "right")) - 1
        until = int(np.searchsorted(self.starts, high, "left"))
        starts, places, first = self.starts[at:until] - low, self.places[at:until].copy(), self.first[at:until].copy()
        if starts[0] < 0:
            places[0] -= starts[0]
            starts[0], first[0] = 0, False
        return Runs(starts, places, first)

    def end(self, rows: int) -> int:
        """Place after the last of so many rows."""
        return int(self.places[-1]) + rows - int(self.starts[-1])

    @staticmethod
    def concatenate(parts: Sequence[tuple[Runs, int]]) -> Runs:
        """Runs of arrays put together, given the rows of each; what continues becomes one run."""
        starts, places, first = [], [], []
        at = 0
        for runs, rows in parts:
            # a run that goes on is no run of its own
            skip = int(at > 0 and not runs.first[0])
            starts.append(runs.starts[skip:] + at)
            places.append(runs.places[skip:])
            first.append(runs.first[skip:])
            at += rows
        return Runs(np.concatenate(starts), np.concatenate(places), np.concatenate(first))


@dataclass(frozen=True)
class Groups:
    """Groups, or parts of groups, of one level.

    Attributes:
        times: int64[g], mean time.
        counts, places: int64[g], rows in it and place of its first row.
        first: bool[g], whether nothing before continues into it.
        sums: [columns, g], int64 for integers of at most 32 bits (exact), else float64.
        low, high: [columns, g], minimum and maximum in the column's type; NaN only where all are.
    """

    times: Array
    counts: Array
    places: Array
    first: Array
    sums: Array
    low: Array
    high: Array

    def __len__(self) -> int:
        return len(self.times)

    def slice(self, low: int, high: int) -> Groups:
        """Groups `low` to `high`."""
        part = np.s_[low:high]
        return Groups(
            self.times[part], self.counts[part], self.places[part], self.first[part],
            self.sums[:, part], self.low[:, part], self.high[:, part],
        )  # fmt: skip

    @staticmethod
    def concatenate(parts: Sequence[Groups]) -> Groups:
        """All of them, in order."""
        if len(parts) == 1:
            return parts[0]
        flat = [np.concatenate([getattr(p, name) for p in parts]) for name in ("times", "counts", "places", "first")]
        wide = [np.concatenate([getattr(p, name) for p in parts], axis=1) for name in ("sums", "low", "high")]
        return Groups(*flat, *wide)


def sum_type(kind: np.dtype[Any]) -> np.dtype[Any]:
    """Type of the sums of a column's values."""
    return np.dtype("<i8" if kind.kind in "iu" and kind.itemsize <= 4 else "<f8")


def group_rows(times: Array, columns: Array, runs: Runs, level: int) -> Groups:
    """The groups of a level's size among rows.

    Args:
        times: int64[n], at least one.
        columns: [columns, n].
    """
    size = FACTOR**level
    if len(runs.starts) == 1:
        place = int(runs.places[0])
        head = min(-place % size, len(times))
        full = (len(times) - head) // size
        if full:
            return _aligned(times, columns, runs, size, head, full)
    rows = np.arange(len(times))
    run = np.searchsorted(runs.starts, rows, "right") - 1
    places = rows - runs.starts[run] + runs.places[run]
    new = places % size == 0
    new[runs.starts] = True
    firsts = np.flatnonzero(new)
    counts = np.diff(firsts, append=len(times))
    base = times[firsts]
    offsets = np.add.reduceat((times - np.repeat(base, counts)).astype(np.float64), firsts)
    first = np.zeros(len(times), np.bool_)
    first[runs.starts] = runs.first
    low, high = _extremes(columns.dtype)
    with np.errstate(all="ignore"):
        return Groups(
            base + np.floor(offsets / counts).astype(np.int64),
            counts,
            places[firsts],
            first[firsts],
            np.add.reduceat(columns, firsts, axis=1, dtype=sum_type(columns.dtype)),
            low.reduceat(columns, firsts, axis=1),
            high.reduceat(columns, firsts, axis=1),
        )


def group_folded(times: Array, body: Array, runs: Runs, level: int) -> Groups:
    """Whole groups of one run whose rows are folded: [columns, 16, n // 16]; much of the work is done by then."""
    size = FACTOR**level
    full = len(times) // size
    low, high = _extremes(body.dtype)
    with np.errstate(all="ignore"):
        return Groups(
            _mean_times(times.reshape(full, size)),
            np.full(full, size, np.int64),
            int(runs.places[0]) + size * np.arange(full, dtype=np.int64),
            np.concatenate([runs.first[:1], np.zeros(full - 1, np.bool_)]),
            _fewer(_sixteens(body), np.add, level),
            _fewer(low.reduce(body, axis=1), low, level),
            _fewer(high.reduce(body, axis=1), high, level),
        )


def _sixteens(body: Array) -> Array:
    """Sums of the sixteens that lie below one another; small integers as floats, exact below 2**24."""
    kind = body.dtype
    if kind.kind in "iu" and kind.itemsize <= 2:
        sums: Array = (np.ones((1, body.shape[1]), np.float32) @ body.astype(np.float32))[:, 0].astype(np.int64)
        return sums
    total: Array = np.add.reduce(body, axis=1, dtype=sum_type(kind))
    return total


def _fewer(values: Array, ufunc: np.ufunc, level: int) -> Array:
    """Of groups of 16 those of a higher level."""
    for _ in range(level - 2):
        values = ufunc(values[:, 0::2], values[:, 1::2])
        values = ufunc(values[:, 0::2], values[:, 1::2])
    return values


def _mean_times(grid: Array) -> Array:
    """Mean of each row, floored. Sums may wrap around; what is left without the first time does not."""
    base, size = grid[:, 0], grid.shape[1]
    means: Array = base + (grid.sum(axis=1) - base * size) // size
    return means


def _aligned(times: Array, columns: Array, runs: Runs, size: int, head: int, full: int) -> Groups:
    """One run with whole groups in the middle, which need no index."""
    end = head + full * size
    middle = np.s_[head:end]
    grid = times[middle].reshape(full, size)
    place = int(runs.places[0])
    shape = (len(columns), full, size)
    blocks = columns[:, middle].reshape(shape)
    low, high = _extremes(columns.dtype)
    with np.errstate(all="ignore"):
        whole = Groups(
            _mean_times(grid),
            np.full(full, size, np.int64),
            place + head + size * np.arange(full, dtype=np.int64),
            np.zeros(full, np.bool_),
            _sums(blocks),
            low.reduce(blocks, axis=2),
            high.reduce(blocks, axis=2),
        )
    if head == 0:
        whole.first[0] = runs.first[0]
    parts = [whole]
    if head:
        parts.insert(0, _one(times[:head], columns[:, :head], place, bool(runs.first[0])))
    if end < len(times):
        parts.append(_one(times[end:], columns[:, end:], place + end, False))
    return Groups.concatenate(parts)


def _one(times: Array, columns: Array, place: int, first: bool) -> Groups:
    low, high = _extremes(columns.dtype)
    offset = np.floor((times - times[0]).astype(np.float64).sum() / len(times))
    with np.errstate(all="ignore"):
        return Groups(
            times[:1] + np.int64(offset),
            np.array([len(times)], np.int64),
            np.array([place], np.int64),
            np.array([first]),
            columns.sum(axis=1, dtype=sum_type(columns.dtype))[:, None],
            low.reduce(columns, axis=1)[:, None],
            high.reduce(columns, axis=1)[:, None],
        )


def _sums(blocks: Array) -> Array:
    """Sums over the last axis. Small integers as floats through one matrix product, which is exact below 2**24."""
    kind, size = blocks.dtype, blocks.shape[-1]
    if kind.kind in "iu" and kind.itemsize <= 2 and size <= 256:
        product: Array = (blocks.astype(np.float32) @ np.ones(size, np.float32)).astype(np.int64)
        return product
    total: Array = blocks.sum(axis=-1, dtype=sum_type(kind))
    return total


def coarser(groups: Groups, level: int) -> Groups:
    """Groups of a level made of those of a finer one, or of parts of its own."""
    if len(groups) < 2:
        return groups
    size = FACTOR**level
    ids = groups.places // size
    new = np.empty(len(groups), np.bool_)
    new[0] = True
    ends = groups.places + groups.counts
    new[1:] = groups.first[1:] | (ids[1:] != ids[:-1]) | (groups.places[1:] != ends[:-1])
    firsts = np.flatnonzero(new)
    if len(firsts) == len(groups):
        return groups
    counts = np.add.reduceat(groups.counts, firsts)
    base = groups.times[firsts]
    away = (groups.times - np.repeat(base, np.diff(firsts, append=len(groups)))).astype(np.float64)
    offsets = np.add.reduceat(away * groups.counts, firsts)
    low, high = _extremes(groups.low.dtype)
    with np.errstate(all="ignore"):
        return Groups(
            base + np.floor(offsets / counts).astype(np.int64),
            counts,
            groups.places[firsts],
            groups.first[firsts],
            np.add.reduceat(groups.sums, firsts, axis=1),
            low.reduceat(groups.low, firsts, axis=1),
            high.reduceat(groups.high, firsts, axis=1),
        )


def pack(groups: Groups, layout: Layout) -> bytes:
    """A few groups as bytes that cost next to nothing to read, with a CRC-32 behind them."""
    table = np.empty(len(groups), _packed(layout))
    table["time"], table["count"], table["place"] = groups.times, groups.counts, groups.places
    table["first"], table["sum"] = groups.first, groups.sums.T
    table["min"], table["max"] = groups.low.T, groups.high.T
    data = table.tobytes()
    return data + zlib.crc32(data).to_bytes(4, "little")


def unpack(parts: Sequence[bytes], joined: Sequence[bool] | None, layout: Layout, places: Sequence[int]) -> Groups:
    """Some columns of the groups of several `pack`s, one after the other.

    Args:
        joined: of each, whether what is before continues into it; None: as it was when they were packed.

    Raises:
        Corrupt: a checksum does not hold.
    """
    bodies = [memoryview(part)[:-4] for part in parts]
    if any(zlib.crc32(body).to_bytes(4, "little") != part[-4:] for body, part in zip(bodies, parts, strict=True)):
        raise Corrupt("groups are damaged", hint="run kymo check --repair")
    table = np.frombuffer(b"".join(bodies), _packed(layout))
    first = table["first"].astype(np.bool_)
    if joined is not None:
        lengths = np.array([len(body) for body in bodies]) // table.dtype.itemsize
        first[np.cumsum(lengths) - lengths] = ~np.array(joined)
    wide = [np.ascontiguousarray(table[name][:, list(places)].T) for name in ("sum", "min", "max")]
    flat = [np.ascontiguousarray(table[name]) for name in ("time", "count", "place")]
    return Groups(flat[0], flat[1], flat[2], first, *wide)


def _packed(layout: Layout) -> np.dtype[Any]:
    kind, count = layout.dtype, (layout.count,)
    return np.dtype(
        [
            ("time", "<i8"), ("count", "<i8"), ("place", "<i8"), ("first", "u1"),
            ("sum", sum_type(kind), count), ("min", kind, count), ("max", kind, count),
        ]
    )  # fmt: skip


def _extremes(kind: np.dtype[Any]) -> tuple[np.ufunc, np.ufunc]:
    return (np.fmin, np.fmax) if kind.kind == "f" else (np.minimum, np.maximum)


def finished(groups: Groups, layout: Layout) -> Array:
    """Rows of a level as readers get them; the groups hold only the columns wanted."""
    out = np.empty(len(groups), levels_dtype(layout.dtype, len(groups.sums)))
    out[TIMESTAMP] = groups.times
    with np.errstate(all="ignore"):
        out[MEAN] = (groups.sums / groups.counts).T
    out[MIN] = groups.low.T
    out[MAX] = groups.high.T
    return out
