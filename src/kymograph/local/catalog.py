"""DIR/catalog.db: tables, blocks, the hot log, series and documents in one SQLite file (docs/format/catalog.md)."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from kymograph.errors import Corrupt
from kymograph.local.database import Database, checksum
from kymograph.model.schema import TableSchema


@dataclass(frozen=True)
class BlockRow:
    """One published block. `path` is relative to DIR/blocks, times are inclusive µs, `checksum` is CRC-32 of the file."""

    id: int
    table_id: int
    partition: int
    path: str
    level: int
    rows: int
    min_time: int
    max_time: int
    bytes: int
    checksum: int


@dataclass(frozen=True)
class HotRow:
    """One batch of the hot log without its bytes."""

    id: int
    table_id: int
    rows: int
    min_time: int
    max_time: int


class Catalog(Database):
    """What the database holds. Methods that change something need an open `transaction()`.

    Attributes:
        configured: grows with each change of what follows in `settings.jsonl` in the background.
    """

    # kinds of documents that change all the time and are made anew where they are lost
    PASSING = frozenset({"job", "store", "touched", "watch"})
    # those that come with what is written, many at a time
    FOLLOWING = frozenset({"metric"})
    configured = 0

    # tables

    def load_tables(self) -> dict[int, TableSchema]:
        rows = self._checked("tables", "id, name, schema")
        return {row[0]: TableSchema.from_json(row[2]) for row in rows}

    def put_table(self, schema: TableSchema, table_id: int | None = None) -> int:
        """Insert a new table or replace the schema of `table_id`; returns its id."""
        text = schema.to_json()
        self.configured += 1
        if table_id is None:
            cursor = self._db.execute("INSERT INTO tables (name, schema, crc) VALUES (?, ?, 0)", (schema.name, text))
            table_id = int(cursor.lastrowid or 0)
            self._count("tables", 1)
        crc = checksum(table_id, schema.name, text)
        self._db.execute("UPDATE tables SET schema = ?, crc = ? WHERE id = ?", (text, crc, table_id))
        return table_id

    def remove_table(self, table_id: int) -> None:
        self.configured += 1
        for kind, column in (("tables", "id"), ("latest", "table_id"), ("blocks", "table_id"), ("hot", "table_id")):
            gone = self._db.execute(f"DELETE FROM {kind} WHERE {column} = ?", (table_id,)).rowcount  # noqa: S608
            self._count(kind, -gone)

    def load_latest(self, table_id: int) -> bytes | None:
        row = self._db.execute("SELECT data, crc FROM latest WHERE table_id = ?", (table_id,)).fetchone()
        if row is not None and checksum(table_id, row[0]) != row[1]:
            raise Corrupt(f"{self.path}: the latest rows of table {table_id} are damaged")
        return None if row is None else row[0]

    def put_latest(self, table_id: int, data: bytes | None) -> None:
        """Save a table's newest rows; None forgets them."""
        gone = self._db.execute("DELETE FROM latest WHERE table_id = ?", (table_id,)).rowcount
        if data is not None:
            self._db.execute("INSERT INTO latest VALUES (?, ?, ?)", (table_id, data, checksum(table_id, data)))
        self._count("latest", (data is not None) - gone)

    # blocks

    def load_blocks(self) -> list[BlockRow]:
        columns = "id, table_id, partition, path, level, rows, min_time, max_time, bytes, checksum"
        return [BlockRow(*row[:-1]) for row in self._checked("blocks", columns)]

    def add_block(self, row: BlockRow, footer: bytes) -> BlockRow:
        """Insert; `row.id` is ignored and the stored row returned. `footer` is the file's, kept for repair."""
        values = astuple(row)[1:]
        cursor = self._db.execute(
            "INSERT INTO blocks (table_id, partition, path, level, rows, min_time, max_time, bytes, checksum, crc, footer)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?)",
            (*values, zlib.compress(footer, 1)),
        )
        block_id = int(cursor.lastrowid or 0)
        self._db.execute("UPDATE blocks SET crc = ? WHERE id = ?", (checksum(block_id, *values), block_id))
        self._count("blocks", 1)
        return BlockRow(block_id, *values)

    def read_footer(self, block_id: int) -> bytes:
        """The copy of a block's footer.

        Raises:
            Corrupt: the copy is damaged itself.
        """
        with self.lock, self._errors():
            found = self._db.execute("SELECT footer FROM blocks WHERE id = ?", (block_id,)).fetchone()
            try:
                return zlib.decompress(found[0])
            except (zlib.error, TypeError) as problem:
                raise Corrupt(f"{self.path}: the footer copy of block {block_id} is damaged") from problem

    def remove_blocks(self, ids: list[int]) -> None:
        self._remove("blocks", ids)

    # hot log

    def add_hot(self, batches: Iterable[tuple[int, int, int, int, bytes | memoryview]]) -> list[int]:
        """Log batches, each (table id, rows, least time, greatest time, bytes). Returns their ids."""
        ids = []
        for batch in batches:
            cursor = self._db.execute(
                "INSERT INTO hot (table_id, rows, min_time, max_time, data, crc) VALUES (?, ?, ?, ?, ?, ?)",
                (*batch, checksum(*batch)),
            )
            ids.append(int(cursor.lastrowid or 0))
        self._count("hot", len(ids))
        return ids

    def load_hot(self) -> list[HotRow]:
        """The log in commit order, without bytes; counts are verified."""
        query = "SELECT id, table_id, rows, min_time, max_time FROM hot ORDER BY id"
        rows = [HotRow(*row) for row in self._db.execute(query)]
        self._verify_count("hot", len(rows))
        return rows

    def read_hot(self, row: HotRow) -> bytes:
        found = self._db.execute("SELECT data, crc FROM hot WHERE id = ?", (row.id,)).fetchone()
        if found is None or checksum(row.table_id, row.rows, row.min_time, row.max_time, found[0]) != found[1]:
            raise Corrupt(f"{self.path}: hot batch {row.id} is damaged", hint="run kymo check --repair")
        return bytes(found[0])

    def remove_hot(self, ids: list[int]) -> None:
        self._remove("hot", ids)

    def _remove(self, kind: str, ids: list[int]) -> None:
        self._db.executemany(f"DELETE FROM {kind} WHERE id = ?", [(i,) for i in ids])  # noqa: S608
        self._count(kind, -len(ids))

    # series and documents

    def load_series(self, after: int = 0) -> list[tuple[int, str, dict[str, str]]]:
        """Series whose id is greater, ascending; with 0, all of them, and their number is verified."""
        if after:
            query = "SELECT id, name, labels, crc FROM series WHERE id > ? ORDER BY id"
            rows = self._verified("series", self._db.execute(query, (after,)).fetchall())
        else:
            rows = self._checked("series", "id, name, labels")
        return [(row[0], row[1], json.loads(row[2])) for row in rows]

    def add_series(self, series: Sequence[tuple[int, str, Mapping[str, str]]]) -> None:
        """Take (id, name, labels); the labels' text, JSON with sorted keys, is what SQLite holds unique."""
        texts = [
            (number, name, json.dumps(dict(one), sort_keys=True, ensure_ascii=False)) for number, name, one in series
        ]
        self._db.executemany("INSERT INTO series VALUES (?, ?, ?, ?)", [(*row, checksum(*row)) for row in texts])
        self._count("series", len(texts))

    def load_documents(self) -> dict[tuple[str, str], Any]:
        rows = self._checked("documents", "kind, key, value")
        return {(row[0], row[1]): json.loads(row[2]) for row in rows}

    def put_document(self, kind: str, key: str, value: Any) -> None:
        self.configured += kind in self.FOLLOWING
        gone = self._db.execute("DELETE FROM documents WHERE kind = ? AND key = ?", (kind, key)).rowcount
        if value is not None:
            text = json.dumps(value)
            row = (kind, key, text, checksum(kind, key, text))
            self._db.execute("INSERT INTO documents VALUES (?, ?, ?, ?)", row)
        self._count("documents", (value is not None) - gone)
