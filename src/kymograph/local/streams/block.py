"""A block of a stream: an immutable file of chunks of rows, chunks of coarser levels, and a footer that finds them."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kymograph.errors import Corrupt
from kymograph.local.files import storage_errors
from kymograph.local.streams.chunk import Chunk, Folded, chunk_rows, encode_groups, encode_rows
from kymograph.local.streams.cores import ahead
from kymograph.local.streams.lanes import Array, Orders, decode, encode
from kymograph.local.streams.pyramid import (
    FIRST_STORED,
    LAST_STORED,
    Groups,
    Runs,
    coarser,
    pack,
)
from kymograph.model.interval import Intervals
from kymograph.model.stream import Layout, StreamSchema

VERSION = 1
SUFFIX = ".kys"
MAGIC = b"KYMSTRM\x01"
END = b"KYSE"
_TAIL = struct.Struct("<II4s")
_BLOCK_BYTES = 20 * 2**20
# groups of one level chunk, and at most so many are kept in the catalog
_GROUP_CHUNK = 1 << 14
SUMMARY_GROUPS = 16

# `first`, `last`: times of rows, mean times of groups
INDEX = np.dtype(
    [
        ("level", "<u8"), ("offset", "<u8"), ("bytes", "<u8"), ("rows", "<u8"),
        ("first", "<i8"), ("last", "<i8"),
    ]
)  # fmt: skip


def block_rows(layout: Layout) -> int:
    """Rows after which a block is full: some 20 MiB of them."""
    step = chunk_rows(layout)
    return max(1, _BLOCK_BYTES // layout.rows.itemsize // step) * step


@dataclass(frozen=True)
class Encoded:
    """A block that is ready to be written."""

    data: memoryview
    rows: int
    first: int
    last: int
    place: int
    place_end: int
    joined: bool
    pyramid_bytes: int
    summary_level: int
    summary: bytes
    checksum: int


@dataclass(frozen=True)
class Ready:
    """Encoded chunks, with their groups of the finest stored level."""

    chunks: Sequence[tuple[bytes, int, int, int]]  # bytes, rows, first and last time
    opening: Runs
    end: int
    groups: Groups | None


Part = tuple[Array, Runs] | Ready


def build(
    schema: StreamSchema,
    stream_id: int,
    parts: Iterable[Part],
    coverage: Intervals,
    orders: Orders,
    replaces: Sequence[str] = (),
) -> Encoded:
    """Encode rows as a block.

    Args:
        parts: rows (not none) in time order and how they continue one another, or chunks that are encoded already.
        coverage: the covered time that the block stands for; what a rebuilt catalog would know.
        replaces: paths of the blocks whose rows these are.
    """
    step = chunk_rows(schema.layout)
    pieces: list[bytes] = [MAGIC]
    index: list[tuple[int, ...]] = []
    fine: list[Groups] = []
    offset = len(MAGIC)
    opening: Runs | None = None
    works = (partial(_encoded, part, orders, schema.pyramid) for part in _stepped(parts, step))
    for ready in ahead(works):
        for data, count, first, last in ready.chunks:
            index.append((0, offset, len(data), count, first, last))
            pieces.append(data)
            offset += len(data)
        opening, end = opening or ready.opening, ready.end
        fine += [ready.groups] if ready.groups is not None else []
    assert opening is not None
    raw = offset
    level, summary = 0, b""
    if schema.pyramid:
        for number, chunk, groups in _levels(Groups.concatenate(fine), orders, schema.layout):
            index.append((number, offset, len(chunk), len(groups), int(groups.times[0]), int(groups.times[-1])))
            pieces.append(chunk)
            offset += len(chunk)
            if not level and len(groups) <= SUMMARY_GROUPS:
                level, summary = number, pack(groups, schema.layout)
    table = np.array(index, INDEX)
    foot = _footer(schema, stream_id, coverage, table, replaces)
    data = b"".join([*pieces, foot])
    rowed = table[table["level"] == 0]
    return Encoded(
        data=memoryview(data),
        rows=int(rowed["rows"].sum()),
        first=int(rowed["first"][0]),
        last=int(rowed["last"][-1]),
        place=int(opening.places[0]),
        place_end=end,
        joined=not opening.first[0],
        pyramid_bytes=offset - raw,
        summary_level=level,
        summary=summary,
        checksum=zlib.crc32(foot),
    )


def _encoded(part: Part, orders: Orders, pyramid: bool) -> Ready:
    """The rows as a chunk."""
    if isinstance(part, Ready):
        return part
    rows, runs = part
    folded = Folded(rows)
    data = encode_rows(folded, runs, orders)
    chunk = (data, len(rows), int(folded.times[0]), int(folded.times[-1]))
    return Ready([chunk], runs, runs.end(len(rows)), folded.groups(runs, FIRST_STORED) if pyramid else None)


def _stepped(parts: Iterable[Part], step: int) -> Iterable[Part]:
    """The same rows in arrays of `step`, but for the last and those before chunks that are ready."""
    waiting: list[tuple[Array, Runs]] = []
    count = 0
    for part in parts:
        if isinstance(part, Ready):
            if waiting:
                yield _joined(waiting)
            waiting, count = [], 0
            yield part
            continue
        rows, runs = part
        at = 0
        while at < len(rows):
            take = min(step - count, len(rows) - at)
            waiting.append((rows[at : at + take], runs.slice(at, at + take)))
            count, at = count + take, at + take
            if count == step:
                yield _joined(waiting)
                waiting, count = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(waiting: Sequence[tuple[Array, Runs]]) -> tuple[Array, Runs]:
    if len(waiting) == 1:
        return waiting[0]
    return np.concatenate([rows for rows, _ in waiting]), Runs.concatenate(
        [(runs, len(rows)) for rows, runs in waiting]
    )


def _levels(fine: Groups, orders: Orders, layout: Layout) -> Iterable[tuple[int, bytes, Groups]]:
    """Chunks of every stored level, up to the first that is short enough for the catalog."""
    groups = fine
    for level in range(FIRST_STORED, LAST_STORED + 1):
        groups = coarser(groups, level)
        for at in range(0, len(groups), _GROUP_CHUNK):
            part = groups.slice(at, at + _GROUP_CHUNK)
            yield level, encode_groups(part, level, orders, layout), part
        if len(groups) <= SUMMARY_GROUPS:
            return


def _footer(schema: StreamSchema, stream_id: int, coverage: Intervals, table: Array, replaces: Sequence[str]) -> bytes:
    about = {
        "version": VERSION,
        "stream_id": stream_id,
        "stream": schema.to_json(),
        "intervals": len(coverage),
        "chunks": len(table),
        "replaces": list(replaces),
    }
    text = json.dumps(about).encode()
    lanes = [encode(np.ascontiguousarray(part), 1 if len(coverage) else 0) for part in (coverage.starts, coverage.ends)]
    sizes = struct.pack("<III", len(text), *map(len, lanes))
    body = b"".join([sizes, text, *lanes, table.tobytes()])
    return body + _TAIL.pack(zlib.crc32(body), len(body), END)


class BlockFile:
    """An open block. The file may be unlinked meanwhile; it is read until this object is gone.

    Attributes:
        about: the footer's JSON.
        coverage: covered time that it stood for when it was written.
        index: INDEX, chunks of rows first, in time order, then each level's.
        checksum: CRC-32 of the footer.

    Raises:
        Corrupt: it is damaged; StorageError: it cannot be read.
    """

    def __init__(self, path: Path, layout: Layout | None = None) -> None:
        self.path = path
        self._handle = -1
        with storage_errors(path):
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            size = os.fstat(self._handle).st_size
            tail = os.pread(self._handle, _TAIL.size, max(0, size - _TAIL.size))
        if len(tail) < _TAIL.size or tail[-4:] != END:
            raise Corrupt(f"{path.name} does not end like a block")
        crc, length, _ = _TAIL.unpack(tail)
        if length + _TAIL.size > size:
            raise Corrupt(f"{path.name} is cut short")
        with storage_errors(path):
            body = os.pread(self._handle, length, size - _TAIL.size - length)
        if zlib.crc32(body) != crc:
            raise Corrupt(f"{path.name}: the checksum of the footer does not hold")
        self.checksum = zlib.crc32(body + tail)
        sizes = struct.unpack_from("<III", body)
        at = 12
        self.about: dict[str, Any] = json.loads(body[at : at + sizes[0]])
        at += sizes[0]
        count = self.about["intervals"]
        kind = np.dtype("<i8")
        starts = decode(memoryview(body)[at : at + sizes[1]], count, kind)
        at += sizes[1]
        ends = decode(memoryview(body)[at : at + sizes[2]], count, kind)
        self.coverage = Intervals.sorted(starts, ends)
        self.index = np.frombuffer(body, INDEX, self.about["chunks"], at + sizes[2])
        self.layout = layout or Layout.parse(self.about["stream"]["layout"])

    def __del__(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)

    def level(self, level: int) -> Array:
        """Index of the chunks of a level; 0 is the rows."""
        chosen: Array = self.index[self.index["level"] == level]
        return chosen

    def raw(self, entry: Any) -> bytes:
        """A chunk's bytes."""
        with storage_errors(self.path):
            return os.pread(self._handle, int(entry["bytes"]), int(entry["offset"]))

    def chunk(self, entry: Any) -> Chunk:
        """A chunk of the index, its CRC checked."""
        try:
            return Chunk(self.raw(entry), self.layout)
        except Corrupt as problem:
            raise Corrupt(f"{self.path.name}, {int(entry['offset'])}: {problem.message}") from None

    def ready(self, *, joined: bool, pyramid: bool) -> Ready | None:
        """Its chunks to be taken into another block; None when they had better be encoded anew.

        Args:
            joined: whether the rows before continue into it now.
        """
        index = self.level(0)
        if 2 * int(index["rows"].sum()) < len(index) * chunk_rows(self.layout):
            return None
        opening = self.chunk(index[0]).runs()
        if bool(opening.first[0]) == joined:
            return None
        last = self.chunk(index[-1])
        groups = None
        if pyramid:
            everything = range(self.layout.count)
            groups = Groups.concatenate([self.chunk(one).groups(everything) for one in self.level(FIRST_STORED)])
            groups.first[0] = not joined
        chunks = []
        for one in index:
            data = self.raw(one)
            Chunk(data, self.layout)  # what is damaged is not handed on
            chunks.append((data, int(one["rows"]), int(one["first"]), int(one["last"])))
        return Ready(chunks, opening, last.runs().end(last.rows), groups)
