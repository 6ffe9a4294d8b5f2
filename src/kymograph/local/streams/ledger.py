"""The streams' tables in the catalog: streams, coverage, blocks and the log of small insertions (docs/format/stream.md).

As everywhere in the catalog each row carries a CRC-32 and each table a count of its rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from kymograph.errors import Corrupt
from kymograph.local.catalog import Catalog
from kymograph.local.database import checksum
from kymograph.local.streams.hot import decode_hot
from kymograph.local.streams.pieces import Array, Piece
from kymograph.model.interval import Intervals
from kymograph.model.stream import TIMESTAMP, StreamSchema

VERSION = "1"
_VERSION_KEY = "streams_version"
_TABLES = {
    "streams": "id INTEGER PRIMARY KEY AUTOINCREMENT, schema TEXT NOT NULL, crc INTEGER NOT NULL",
    "stream_coverage": "stream_id INTEGER NOT NULL, start INTEGER NOT NULL, end INTEGER NOT NULL, crc INTEGER NOT NULL,"
    " PRIMARY KEY (stream_id, start)",
    "stream_blocks": "id INTEGER PRIMARY KEY AUTOINCREMENT, stream_id INTEGER NOT NULL, path TEXT NOT NULL,"
    " first INTEGER NOT NULL, last INTEGER NOT NULL, start INTEGER NOT NULL, end INTEGER NOT NULL, rows INTEGER NOT NULL,"
    " place INTEGER NOT NULL, place_end INTEGER NOT NULL, joined INTEGER NOT NULL, bytes INTEGER NOT NULL,"
    " pyramid_bytes INTEGER NOT NULL, checksum INTEGER NOT NULL, summary_level INTEGER NOT NULL, crc INTEGER NOT NULL,"
    " summary BLOB NOT NULL",
    "stream_hot": "id INTEGER PRIMARY KEY AUTOINCREMENT, stream_id INTEGER NOT NULL, start INTEGER NOT NULL,"
    " end INTEGER NOT NULL, place INTEGER NOT NULL, joined INTEGER NOT NULL, data BLOB NOT NULL, crc INTEGER NOT NULL",
}
_BLOCK = "id, stream_id, path, first, last, start, end, rows, place, place_end, joined, bytes, pyramid_bytes, checksum, summary_level"


class Ledger:
    """Reads and writes the streams' tables; what changes something needs an open `catalog.transaction()`."""

    def __init__(self, catalog: Catalog, *, read_only: bool) -> None:
        self.catalog = catalog
        self._db = catalog.connection
        self._there = False
        if not read_only and not self._prepared():
            with catalog.transaction():
                for name, columns in _TABLES.items():
                    rest = " WITHOUT ROWID" if name == "stream_coverage" else ""
                    self._db.execute(f"CREATE TABLE {name} ({columns}){rest}")
                    self._db.execute("INSERT INTO tally VALUES (?, 0)", (name,))
                self._db.execute("CREATE INDEX stream_blocks_of ON stream_blocks (stream_id, first)")
                self._db.execute("INSERT INTO meta VALUES (?, ?)", (_VERSION_KEY, VERSION))

    def _prepared(self) -> bool:
        """Whether the tables are there.

        Raises:
            StorageError: those of another version are.
        """
        if not self._there:
            row = self._db.execute("SELECT value FROM meta WHERE key = ?", (_VERSION_KEY,)).fetchone()
            if row is not None:
                self.catalog.check_version("streams", row[0], VERSION)
            self._there = row is not None
        return self._there

    # streams

    def load_streams(self) -> dict[int, StreamSchema]:
        if not self._prepared():
            return {}
        return {row[0]: StreamSchema.from_json(json.loads(row[1])) for row in self._checked("streams", "id, schema")}

    def put_stream(self, schema: StreamSchema, stream_id: int | None = None) -> int:
        """Insert a stream, or replace the schema of one; returns its id."""
        self.catalog.configured += 1
        text = json.dumps(schema.to_json())
        if stream_id is None:
            stream_id = int(self._db.execute("INSERT INTO streams (schema, crc) VALUES (?, 0)", (text,)).lastrowid or 0)
            self._count("streams", 1)
        self._db.execute(
            "UPDATE streams SET schema = ?, crc = ? WHERE id = ?", (text, checksum(stream_id, text), stream_id)
        )
        return stream_id

    def restore_stream(self, schema: StreamSchema, stream_id: int) -> None:
        """Insert a stream under the id that it had."""
        self.catalog.configured += 1
        text = json.dumps(schema.to_json())
        self._db.execute("INSERT INTO streams VALUES (?, ?, ?)", (stream_id, text, checksum(stream_id, text)))
        self._count("streams", 1)

    def remove_stream(self, stream_id: int) -> None:
        """Forget a stream with all that is its."""
        self.catalog.configured += 1
        for kind in _TABLES:
            column = "id" if kind == "streams" else "stream_id"
            gone = self._db.execute(f"DELETE FROM {kind} WHERE {column} = ?", (stream_id,)).rowcount  # noqa: S608
            self._count(kind, -gone)

    # coverage

    def load_coverage(self) -> dict[int, Intervals]:
        if not self._prepared():
            return {}
        rows = self._checked("stream_coverage", "stream_id, start, end", order="stream_id, start")
        table = np.array(rows, np.int64).reshape(-1, 4)
        ids, cuts = np.unique(table[:, 0], return_index=True)
        parts = np.split(table, cuts[1:]) if len(ids) else []
        return {int(i): Intervals(part[:, 1], part[:, 2]) for i, part in zip(ids, parts, strict=True)}

    def change_coverage(self, stream_id: int, gone: Intervals, came: Intervals) -> None:
        self._db.executemany(
            "DELETE FROM stream_coverage WHERE stream_id = ? AND start = ?", [(stream_id, start) for start, _ in gone]
        )
        rows = [(stream_id, start, end, checksum(stream_id, start, end)) for start, end in came]
        self._db.executemany("INSERT INTO stream_coverage VALUES (?, ?, ?, ?)", rows)
        self._count("stream_coverage", len(came) - len(gone))

    # blocks

    def load_blocks(self) -> Iterator[tuple[int, Piece]]:
        """Stream id and piece of every block."""
        if self._prepared():
            for row in self._checked("stream_blocks", _BLOCK):
                number, stream_id, path, first, last, start, end, rows, place, place_end, joined = row[:11]
                size, pyramid, crc, level = row[11:15]
                yield (
                    stream_id,
                    Piece(
                        number,
                        first,
                        last,
                        start,
                        end,
                        rows,
                        place,
                        place_end,
                        bool(joined),
                        size,
                        pyramid,
                        path,
                        crc,
                        level,
                    ),
                )

    def add_block(self, stream_id: int, piece: Piece, summary: bytes) -> int:
        """Insert a block; `piece.id` is ignored and the id returned."""
        values = _values(stream_id, piece)
        marks = ", ".join("?" * (len(values) + 1))
        query = f"INSERT INTO stream_blocks ({_BLOCK[4:]}, crc, summary) VALUES ({marks[:-1]}0, ?)"  # noqa: S608
        number = int(self._db.execute(query, (*values, summary)).lastrowid or 0)
        self._db.execute("UPDATE stream_blocks SET crc = ? WHERE id = ?", (checksum(number, *values), number))
        self._count("stream_blocks", 1)
        return number

    def remove_blocks(self, ids: Iterable[int]) -> None:
        self._remove("stream_blocks", list(ids))

    def unjoin(self, stream_id: int, piece: Piece) -> None:
        """Note that the rows before no longer continue into a piece; `piece` is as it is from now on."""
        if piece.hot is None:
            crc = checksum(piece.id, *_values(stream_id, piece))
            self._db.execute("UPDATE stream_blocks SET joined = 0, crc = ? WHERE id = ?", (crc, piece.id))
        else:
            data = self._db.execute("SELECT data FROM stream_hot WHERE id = ?", (piece.id,)).fetchone()[0]
            crc = checksum(stream_id, piece.start, piece.end, piece.place, 0, data)
            self._db.execute("UPDATE stream_hot SET joined = 0, crc = ? WHERE id = ?", (crc, piece.id))

    def summaries(self, ids: list[int]) -> dict[int, bytes]:
        """The groups that the catalog keeps of some blocks, encoded."""
        found: dict[int, bytes] = {}
        with self.catalog.reading():
            for at in range(0, len(ids), 500):
                some = ids[at : at + 500]
                query = f"SELECT id, summary FROM stream_blocks WHERE id IN ({', '.join('?' * len(some))})"  # noqa: S608
                found.update(self._db.execute(query, some))
        return found

    # hot log

    def hot_ids(self) -> dict[int, bool]:
        """Whether the rows before continue into it, of every hot insertion."""
        if not self._prepared():
            return {}
        return {number: bool(joined) for number, joined in self._db.execute("SELECT id, joined FROM stream_hot")}

    def load_hot(self, known: set[int], schemas: dict[int, StreamSchema]) -> Iterator[tuple[int, Piece | str, int]]:
        """Stream id, piece and id of every hot insertion not in `known`; for a damaged one words instead of a piece."""
        if not self._prepared():
            return
        query = "SELECT id, stream_id, start, end, place, joined, data, crc FROM stream_hot ORDER BY id"
        count = 0
        for row in self._db.execute(query):
            number, stream_id, start, end, place, joined, data, crc = row
            count += 1
            if number in known:
                continue
            try:
                if checksum(*row[1:7]) != crc or stream_id not in schemas:
                    raise Corrupt("the checksum does not hold")
                rows = decode_hot(data, schemas[stream_id].layout)
            except Corrupt as problem:
                yield stream_id, f"hot insertion {number} is damaged: {problem.message}", number
                continue
            yield stream_id, hot_piece(number, rows, start, end, place, bool(joined), len(data)), number
        self._verify("stream_hot", count)

    def add_hot(self, stream_id: int, start: int, end: int, place: int, joined: bool, data: bytes) -> int:
        values = (stream_id, start, end, place, int(joined), data)
        query = "INSERT INTO stream_hot (stream_id, start, end, place, joined, data, crc) VALUES (?, ?, ?, ?, ?, ?, ?)"
        number = int(self._db.execute(query, (*values, checksum(*values))).lastrowid or 0)
        self._count("stream_hot", 1)
        return number

    def remove_hot(self, ids: Iterable[int]) -> None:
        self._remove("stream_hot", list(ids))

    # each table's rows

    def _count(self, kind: str, change: int) -> None:
        self._db.execute("UPDATE tally SET rows = rows + ? WHERE kind = ?", (change, kind))

    def _remove(self, kind: str, ids: list[int]) -> None:
        self._db.executemany(f"DELETE FROM {kind} WHERE id = ?", [(number,) for number in ids])  # noqa: S608
        self._count(kind, -len(ids))

    def _checked(self, kind: str, columns: str, order: str = "1") -> list[tuple[Any, ...]]:
        found = self._db.execute(f"SELECT {columns}, crc FROM {kind} ORDER BY {order}").fetchall()  # noqa: S608
        for row in found:
            if checksum(*row[:-1]) != row[-1]:
                raise Corrupt(f"{self.catalog.path}: a row of {kind} is damaged ({row[0]!r})")
        self._verify(kind, len(found))
        return found

    def _verify(self, kind: str, found: int) -> None:
        row = self._db.execute("SELECT rows FROM tally WHERE kind = ?", (kind,)).fetchone()
        if row is None or row[0] != found:
            raise Corrupt(f"{self.catalog.path}: {kind} should hold {row and row[0]} rows and holds {found}")


def hot_piece(number: int, rows: Array, start: int, end: int, place: int, joined: bool, size: int) -> Piece:
    """A hot insertion as a piece."""
    times = rows[TIMESTAMP]
    return Piece(
        number, int(times[0]), int(times[-1]), start, end, len(rows), place, place + len(rows), joined, size, hot=rows
    )


def _values(stream_id: int, piece: Piece) -> tuple[int | str, ...]:
    return (
        stream_id, piece.path, piece.first, piece.last, piece.start, piece.end, piece.rows, piece.place, piece.place_end,
        int(piece.joined), piece.bytes, piece.pyramid_bytes, piece.checksum, piece.summary_level,
    )  # fmt: skip
