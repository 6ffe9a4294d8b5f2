"""Rings and their pages as rows of catalog.db (docs/format/catalog.md): read and written whole, each with a checksum.

Methods that change something need an open `Catalog.transaction()`, the others an open `Catalog.reading()`.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kymograph.engine.rings import Ints, Ring
from kymograph.errors import Corrupt, InvalidInput
from kymograph.local.catalog import Catalog
from kymograph.local.database import checksum

# A minute of seconds. A write touches one page of each series, and pages of one number lie side by side, so that 16
# series share a page of SQLite's; larger ones would only make the log grow faster.
PAGE_SLOTS = 60
PAGE_SHIFT = 40  # a page's id is number << 40 | series
SERIES_MASK = (1 << PAGE_SHIFT) - 1
EMPTY = np.iinfo(np.int64).min  # the time of a slot that holds nothing; older than any time there is

_SCHEMA = (
    "CREATE TABLE rings (series_id INTEGER PRIMARY KEY, step INTEGER NOT NULL, slots INTEGER NOT NULL,"
    " kind TEXT NOT NULL, crc INTEGER NOT NULL)",
    "CREATE TABLE ring_pages (id INTEGER PRIMARY KEY, rows INTEGER NOT NULL, min_time INTEGER NOT NULL,"
    " max_time INTEGER NOT NULL, data BLOB NOT NULL, crc INTEGER NOT NULL)",
)
_KINDS = ("rings", "ring_pages")
_RINGS = "SELECT series_id, step, slots, kind, crc FROM rings ORDER BY 1"
_PAGES = "SELECT id, rows, min_time, max_time, data, crc FROM ring_pages ORDER BY 1"
PageRow = tuple[int, int, int, int, bytes]


class RingRows:
    """The tables `rings` and `ring_pages` of one catalog; made here where an older release left them out."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._db = catalog.connection
        self._there = False

    @property
    def there(self) -> bool:
        """Whether the catalog has these tables; a reader may find that a writer has made them since."""
        if not self._there:
            query = "SELECT count(*) FROM sqlite_schema WHERE name IN ('rings', 'ring_pages')"
            self._there = self._db.execute(query).fetchone()[0] == 2
        return self._there

    def create(self) -> None:
        """Make the tables where they are missing; in a transaction of its own."""
        with self._catalog.reading():
            if self.there:
                return
        with self._catalog.transaction():
            self._make()

    def _make(self) -> None:
        for statement in _SCHEMA:
            self._db.execute(statement)
        self._db.executemany("INSERT INTO tally VALUES (?, 0)", [(kind,) for kind in _KINDS])

    def rings(self) -> dict[int, Ring]:
        """Every ring by series.

        Raises:
            Corrupt: a row or their number does not hold.
        """
        found = self._db.execute(_RINGS).fetchall() if self.there else []
        for row in found:
            if checksum(*row[:-1]) != row[-1]:
                raise Corrupt(f"{self._catalog.path}: a row of rings is damaged ({row[0]!r})")
        self._verify("rings", len(found))
        return {row[0]: Ring(*row[1:4]) for row in found}

    def pages(self) -> Ints:
        """Every page without its bytes, as int64 of shape (pages, 5): id, rows, min_time, max_time, crc; by id."""
        query = "SELECT id, rows, min_time, max_time, crc FROM ring_pages ORDER BY 1"
        found = self._db.execute(query).fetchall() if self.there else []
        self._verify("ring_pages", len(found))
        return np.array(found, np.int64).reshape(-1, 5)

    def page(self, page_id: int) -> tuple[Ints, int]:
        """The slots of a page, int64 of shape (2, slots): times, and the bits of the values; and its checksum.

        Raises:
            Corrupt: the page is not there or damaged.
        """
        query = "SELECT rows, min_time, max_time, data, crc FROM ring_pages WHERE id = ?"
        row = self._db.execute(query, (page_id,)).fetchone()
        if row is None or checksum(page_id, *row[:-1]) != row[-1] or len(row[3]) % 16:
            raise Corrupt(
                f"{self._catalog.path}: page {page_id >> PAGE_SHIFT} of the ring of series {series_of(page_id)} is damaged",
                hint="run kymo check --repair",
            )
        return np.frombuffer(row[3], "<i8").astype(np.int64, copy=False).reshape(2, -1), row[4]

    def summary(self, page_id: int) -> tuple[int, int, int] | None:
        """What a page's row says of its samples: how many, the oldest and the newest; None where it is gone."""
        query = "SELECT rows, min_time, max_time FROM ring_pages WHERE id = ?"
        found: tuple[int, int, int] | None = self._db.execute(query, (page_id,)).fetchone()
        return found

    def put_rings(self, rings: Iterable[tuple[int, Ring]], new: int) -> None:
        """Take rings, `new` of which were not there."""
        self._catalog.configured += 1
        rows = [(number, ring.step, ring.slots, ring.kind) for number, ring in rings]
        given = [(*row, checksum(*row)) for row in rows]
        self._db.executemany("INSERT OR REPLACE INTO rings VALUES (?, ?, ?, ?, ?)", given)
        self._count("rings", new)

    def put_pages(self, pages: Sequence[PageRow], new: int) -> list[int]:
        """Take pages, `new` of which were not there; returns their checksums."""
        sums = [checksum(*page) for page in pages]
        self._db.executemany(
            "INSERT INTO ring_pages VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET rows = excluded.rows,"
            " min_time = excluded.min_time, max_time = excluded.max_time, data = excluded.data, crc = excluded.crc",
            [(*page, crc) for page, crc in zip(pages, sums, strict=True)],
        )
        if new:
            self._count("ring_pages", new)
        return sums

    def remove(self, series: Sequence[int], pages: Sequence[int]) -> None:
        """Forget rings and pages that are there."""
        self._catalog.configured += len(series)
        self._db.executemany("DELETE FROM rings WHERE series_id = ?", [(number,) for number in series])
        self._db.executemany("DELETE FROM ring_pages WHERE id = ?", [(page,) for page in pages])
        self._count("rings", -len(series))
        self._count("ring_pages", -len(pages))

    def _count(self, kind: str, change: int) -> None:
        self._db.execute("UPDATE tally SET rows = rows + ? WHERE kind = ?", (change, kind))

    def _verify(self, kind: str, found: int) -> None:
        row = self._db.execute("SELECT rows FROM tally WHERE kind = ?", (kind,)).fetchone()
        if self.there and (row is None or row[0] != found):
            raise Corrupt(f"{self._catalog.path}: {kind} should hold {row and row[0]} rows and holds {found}")


def page_id(series: int, number: int) -> int:
    return number << PAGE_SHIFT | series


def series_of(page: int) -> int:
    return page & SERIES_MASK


def restore(damaged: Path | None, catalog: Catalog, known: Mapping[int, Ring], series: Container[int]) -> None:
    """Enter rings into a new catalog, in its open transaction: those of a damaged one with what their pages still hold.

    Args:
        damaged: rows with a good checksum are taken from it.
        known: rings that are known from elsewhere, without their samples.
        series: those that are registered; others cannot be rings.
    """
    rows = RingRows(catalog)
    found: dict[int, Ring] = {}
    pages: list[PageRow] = []
    if damaged is not None:
        with contextlib.closing(sqlite3.connect(damaged)) as db:
            for row in _good(db, _RINGS):
                with contextlib.suppress(InvalidInput):
                    found[row[0]] = Ring(*row[1:4])
            found = {number: ring for number, ring in found.items() if number in series}
            pages += [row[:5] for row in _good(db, _PAGES) if series_of(row[0]) in found]
    rings = {**known, **found}
    if rings:
        rows._make()
        rows.put_rings(rings.items(), len(rings))
        rows.put_pages(pages, len(pages))


def _good(db: sqlite3.Connection, query: str) -> list[tuple[Any, ...]]:
    good: list[tuple[Any, ...]] = []
    with contextlib.suppress(sqlite3.Error):  # an older catalog has no rings; a damaged one ends early
        good.extend(row for row in db.execute(query) if checksum(*row[:-1]) == row[-1])
    return good
