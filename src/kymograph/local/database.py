"""The SQLite file below a catalog: its connection and transactions, its checksums and row counts, its size.

Every row carries a CRC-32 of its values and every table of it a row count, because SQLite itself would serve a flipped
byte as data.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kymograph.errors import Corrupt, DiskFull, StorageError, StoreClosed
from kymograph.local.files import NO_ROOM, Files, storage_errors
from kymograph.options import StoreOptions, Sync

log = logging.getLogger("kymograph.local")

VERSION = 1
CATALOG = "catalog.db"
PAGE_BYTES, OLD_PAGE_BYTES = 8192, 16384  # of new catalogs, and of those that the first release made

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tally (kind TEXT PRIMARY KEY, rows INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE tables (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE NOT NULL, schema TEXT NOT NULL,
    crc INTEGER NOT NULL);
CREATE TABLE latest (table_id INTEGER PRIMARY KEY, data BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE blocks (id INTEGER PRIMARY KEY AUTOINCREMENT, table_id INTEGER NOT NULL, partition INTEGER NOT NULL,
    path TEXT NOT NULL, level INTEGER NOT NULL, rows INTEGER NOT NULL, min_time INTEGER NOT NULL,
    max_time INTEGER NOT NULL, bytes INTEGER NOT NULL, checksum INTEGER NOT NULL, crc INTEGER NOT NULL, footer BLOB NOT NULL);
CREATE TABLE hot (id INTEGER PRIMARY KEY AUTOINCREMENT, table_id INTEGER NOT NULL, rows INTEGER NOT NULL,
    min_time INTEGER NOT NULL, max_time INTEGER NOT NULL, data BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE series (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, labels TEXT NOT NULL,
    crc INTEGER NOT NULL, UNIQUE (name, labels));
CREATE TABLE documents (kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, crc INTEGER NOT NULL,
    PRIMARY KEY (kind, key)) WITHOUT ROWID;
"""
_COUNTED = ("tables", "latest", "blocks", "hot", "series", "documents")
_SYNCHRONOUS = {"full": "FULL", "normal": "NORMAL", "off": "OFF"}


def checksum(*values: Any) -> int:
    """CRC-32 over values of a row, in order; bytes as they are, the rest as text."""
    crc = 0
    for value in values:
        crc = zlib.crc32(value if isinstance(value, (bytes, memoryview)) else f"{value}\0".encode(), crc)
    return crc


def log_bytes(options: StoreOptions) -> int:
    """Size of the log at which a writer folds it into the catalog himself; small under a small cap."""
    return 64 * 2**20 if options.cap is None else min(64 * 2**20, options.cap // 64)


def good_rows(db: sqlite3.Connection, query: str) -> list[tuple[Any, ...]]:
    """Of a damaged file the rows whose last column is the checksum of the others, up to where it cannot be read."""
    good: list[tuple[Any, ...]] = []
    try:
        good.extend(row for row in db.execute(query) if checksum(*row[:-1]) == row[-1])
    except sqlite3.Error as problem:
        log.warning("the damaged catalog ends early: %s", problem)
    return good


class Database:
    """One connection to a catalog, guarded by `lock`. Methods that change something need an open `transaction()`.

    Raises (from the constructor and every method):
        Corrupt: a structure or checksum does not hold.
        DiskFull, StorageError: the disk said no; nothing of the transaction is kept.
    """

    def __init__(
        self,
        folder: Path,
        files: Files,
        *,
        sync: Sync = "full",
        read_only: bool = False,
        log_bytes: int = 16 * 2**20,
        may_be_new: bool = True,
    ) -> None:
        """Open the file, which is made where it is missing or empty, unless what lies beside it says that it was more."""
        self.path = folder / CATALOG
        self.lock = threading.RLock()
        self._files = files
        self._synchronous = _SYNCHRONOUS[sync]
        there = self.path.exists()
        if not there and read_only:
            raise StorageError(f"{folder} holds no store", hint="open it once for writing, or check the path")
        uri = f"{self.path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
        with self._errors():
            self._db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=30)
            try:
                self._prepare(not there or not self.path.stat().st_size, read_only, log_bytes, may_be_new)
            except BaseException:
                self._db.close()
                raise

    def _prepare(self, new: bool, read_only: bool, log_bytes: int, may_be_new: bool) -> None:
        if not read_only:
            if new:
                # batches are blobs of up to a megabyte, which like large pages; a commit of one row likes small ones,
                # and so does an empty catalog; incremental vacuum gives the room of blobs back
                self._db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
                self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute(f"PRAGMA synchronous = {self._synchronous}")
            page = self._db.execute("PRAGMA page_size").fetchone()[0]
            self._db.execute(f"PRAGMA wal_autocheckpoint = {max(16, log_bytes // page)}")
            self._db.execute(f"PRAGMA journal_size_limit = {log_bytes}")
        self._db.execute("PRAGMA cache_size = -8192")
        self._db.execute("PRAGMA trusted_schema = OFF")
        if self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
            if read_only:
                raise StorageError(f"{self.path} holds no store yet")
            if not may_be_new:
                raise Corrupt(f"{self.path} is empty, though there are blocks or settings beside it")
            self._create()
        row = self._db.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
        self.check_version("a format", None if row is None else row[0], str(VERSION))

    def check_version(self, what: str, found: str | None, known: str) -> None:
        """Refuse what another release wrote, and leave it as it is; what no release writes is damage.

        Raises:
            StorageError, Corrupt.
        """
        if found == known:
            return
        message = f"{self.path} has {what} of version {found}, this release reads {known}"
        if found is not None and found.isdecimal():
            raise StorageError(message, hint="open it with the release that wrote it, or a newer one")
        raise Corrupt(message)

    def _create(self) -> None:
        with self.transaction():
            for statement in _SCHEMA.split(";\n"):
                if statement.strip():
                    self._db.execute(statement)
            self._db.execute("INSERT INTO meta VALUES ('version', ?)", (str(VERSION),))
            self._db.executemany("INSERT INTO tally VALUES (?, 0)", [(kind,) for kind in _COUNTED])

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with storage_errors(self.path):
                yield
        except UnicodeDecodeError as problem:  # text that was never written, or a message that quotes it
            raise Corrupt(f"{self.path} is damaged: {problem}", hint="run kymo check --repair") from problem
        except sqlite3.ProgrammingError as problem:
            raise StoreClosed(f"{self.path} has been closed") from problem
        except sqlite3.Error as problem:
            text = str(problem)
            if "full" in text:
                raise DiskFull(f"no room left for {self.path}", hint=NO_ROOM) from problem
            code = getattr(problem, "sqlite_errorname", "")
            if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_SCHEMA")) or "no such" in text:
                raise Corrupt(f"{self.path} is damaged: {text}", hint="run kymo check --repair") from problem
            if code.startswith("SQLITE_READONLY"):
                raise StorageError(
                    f"{self.path} may not be written by this user, which reading needs, too",
                    hint="its log says who reads; give the user the right to write there, or open a copy",
                ) from problem
            raise StorageError(f"{self.path}: {text}") from problem

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; durable as `sync` says once it ends without an exception."""
        with self.lock, self._errors():
            try:
                self._files.step("begin", self.path)
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._files.step("commit", self.path)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """One consistent view over several reads."""
        with self.lock, self._errors():
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("COMMIT")

    @property
    def connection(self) -> sqlite3.Connection:
        """For those that keep tables of their own here; used inside `transaction` or `reading` only."""
        return self._db

    def _count(self, kind: str, change: int) -> None:
        self._db.execute("UPDATE tally SET rows = rows + ? WHERE kind = ?", (change, kind))

    # the file itself

    def _checked(self, kind: str, columns: str) -> list[tuple[Any, ...]]:
        found = self._db.execute(f"SELECT {columns}, crc FROM {kind} ORDER BY 1").fetchall()  # noqa: S608
        self._verify_count(kind, len(found))
        return self._verified(kind, found)

    def _verified(self, kind: str, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        for row in rows:
            if checksum(*row[:-1]) != row[-1]:
                raise Corrupt(f"{self.path}: a row of {kind} is damaged ({row[0]!r})")
        return rows

    def _verify_count(self, kind: str, found: int) -> None:
        row = self._db.execute("SELECT rows FROM tally WHERE kind = ?", (kind,)).fetchone()
        if row is None or row[0] != found:
            raise Corrupt(f"{self.path}: {kind} should hold {row and row[0]} rows and holds {found}")

    def verify(self) -> None:
        """SQLite's own structural check.

        Raises:
            Corrupt: names the first problem.
        """
        with self.lock, self._errors():
            result = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if result != "ok":
            raise Corrupt(f"{self.path}: {result}", hint="run kymo check --repair")

    def data_version(self) -> int:
        """Changes when another process has committed."""
        with self.lock, self._errors():
            return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def size(self) -> int:
        """Bytes of the file, its write-ahead log and its index."""
        total = 0
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                total += Path(f"{self.path}{suffix}").stat().st_size
        return total

    def checkpoint(self) -> None:
        """Fold the log into the file, over a connection of its own, so that nobody waits for it."""
        with self._errors(), contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            self._files.step("checkpoint", self.path)
            other.execute(f"PRAGMA synchronous = {self._synchronous}")
            other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def shrink(self, keep: int, *, wait: bool = False) -> None:
        """Give back free pages beyond `keep` bytes and fold the log into the file.

        What other processes still read stays in the log; with `wait` they are waited for and the log is emptied.
        """
        with self.lock, self._errors():
            free = self._db.execute("PRAGMA freelist_count").fetchone()[0]
            page = self._db.execute("PRAGMA page_size").fetchone()[0]
            if free * page <= keep and not wait:
                return
            self._files.step("checkpoint", self.path)
            if free * page > keep:
                # a script: this pragma gives a row without columns per page, and execute() would stop at the first
                self._db.executescript(f"PRAGMA incremental_vacuum({free - keep // page})")
            self._db.execute(f"PRAGMA wal_checkpoint({'TRUNCATE' if wait else 'PASSIVE'})").fetchall()

    def close(self) -> None:
        with self.lock, contextlib.suppress(sqlite3.Error):
            self._db.close()
