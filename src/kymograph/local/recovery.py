"""Opening a folder: what a crash left is removed, an unreadable catalog is rebuilt from the blocks."""

from __future__ import annotations

import contextlib
import logging
import struct
import time
from pathlib import Path

import pyarrow as pa

from kymograph.engine.interface import SNAPSHOTS
from kymograph.errors import Corrupt
from kymograph.local import rebuild
from kymograph.local.catalog import BlockRow, Catalog, HotRow
from kymograph.local.commit import decode_batches
from kymograph.local.database import CATALOG, OLD_PAGE_BYTES, PAGE_BYTES, log_bytes
from kymograph.local.files import TEMPORARY, Files
from kymograph.local.folder import Folder, Table
from kymograph.local.settings import NAME
from kymograph.local.snapshot import remove_unfinished
from kymograph.model.schema import TableSchema
from kymograph.options import StoreOptions

log = logging.getLogger("kymograph.local")
# the document that keeps what was lost, until a repair has taken note of it
LOSSES = ("store", "losses")


def open_folder(path: Path, options: StoreOptions, files: Files) -> tuple[Folder, list[str]]:
    """Open for writing; the caller holds the lock. Returns what was noticed on the way, in words.

    Raises:
        StorageError: the folder cannot be used at all.
    """
    notes: list[str] = []
    rebuild.finish(path, files, notes)
    lost = damaged_log(path)
    # a catalog with nothing in it, not even tables of its own, is a new one only where there is nothing else either
    alone = not rebuild.has_more(path)
    try:
        folder = _load(path, options, files, alone) if alone or (path / CATALOG).exists() else None
    except Corrupt as problem:
        log.error("the catalog cannot be read and is rebuilt from the blocks: %s", problem)
        notes.append(f"the catalog could not be read ({problem.message}) and was rebuilt from the blocks")
        folder = None
    if folder is None:
        rebuild.rebuild(path, options, files, notes)
        folder = _load(path, options, files, True)
    if lost:
        notes.append(lost)
        log.error("%s", lost)
    if notes:
        _remember(folder, notes)
    _remove_strays(folder, notes)
    remove_unfinished(path / SNAPSHOTS)
    return folder, notes


def _remember(folder: Folder, notes: list[str]) -> None:
    """Keep what was found damaged for the next `kymo check`: the damage itself may be gone once the folder is open."""
    with folder.catalog.transaction():
        earlier = folder.catalog.load_documents().get(LOSSES) or []
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        folder.catalog.put_document(*LOSSES, [*earlier, *(f"{now} {note}" for note in notes)][-100:])


def _load(path: Path, options: StoreOptions, files: Files, alone: bool) -> Folder:
    catalog = Catalog(path, files, sync=options.sync, log_bytes=log_bytes(options), may_be_new=alone)
    try:
        catalog.verify()
        folder = Folder(path, options, files, catalog)
        load(folder)
    except BaseException:
        catalog.close()
        raise
    return folder


def load(folder: Folder) -> None:
    """Read everything the catalog knows into `folder`, replacing what it held."""
    catalog = folder.catalog
    with catalog.reading():
        schemas = catalog.load_tables()
        rows: dict[int, list[BlockRow]] = {table_id: [] for table_id in schemas}
        for row in catalog.load_blocks():
            if row.table_id not in rows:
                raise Corrupt(f"block {row.path} belongs to no table")
            rows[row.table_id].append(row)
        hot: dict[int, list[HotRow]] = {table_id: [] for table_id in schemas}
        for entry in catalog.load_hot():
            if entry.table_id not in hot:
                raise Corrupt(f"hot batch {entry.id} belongs to no table")
            hot[entry.table_id].append(entry)
        tables = {}
        for table_id, schema in schemas.items():
            tables[schema.name] = _table(folder, schema, table_id, rows[table_id], hot[table_id])
        folder.registry.load()
        folder.rings.load()
        folder.streams.load()
    folder.tables = tables


def _table(folder: Folder, schema: TableSchema, table_id: int, rows: list[BlockRow], hot: list[HotRow]) -> Table:
    """A table as the catalog has it now; what was there already is kept where it still holds."""
    old = folder.tables.get(schema.name)
    known = {block.row.id: block.with_labels(schema.labels) for block in old.blocks} if old else {}
    blocks = [known.get(row.id) or folder.block(row, schema) for row in rows]
    # with other blocks than before, the newest rows are other ones too, which only the catalog knows
    if old and old.id == table_id and old.schema == schema and not old.damage and set(known) == {r.id for r in rows}:
        have = set(old.head.hot_ids)
        if have <= {entry.id for entry in hot}:
            with old.lock:
                old.swap_blocks(blocks)
                _add_hot(folder, old, [entry for entry in hot if entry.id not in have])
            return old
    try:
        saved = folder.catalog.load_latest(table_id)
    except Corrupt:
        saved = None  # found again among the blocks
    table = Table(table_id, schema, blocks, saved)
    _add_hot(folder, table, hot)
    return table


def _add_hot(folder: Folder, table: Table, hot: list[HotRow]) -> None:
    for entry in hot:
        try:
            for batch in decode_batches(folder.catalog.read_hot(entry)):
                table.head.add(entry.id, batch)
        except (Corrupt, pa.ArrowException, OSError) as problem:
            table.damage.append(f"hot batch {entry.id} with {entry.rows} rows is damaged: {problem}")
            table.damaged_hot.append(entry.id)


def damaged_log(path: Path) -> str:
    """Words for committed transactions that SQLite will pass over in a damaged write-ahead log, or "".

    SQLite replays the log up to the first frame whose checksum does not hold and drops the rest without a word: right
    after a torn write, wrong after a flipped byte. Frames that are whole, carry this log's salt and end a transaction
    beyond that point tell the two apart, but for the very last transaction, which is reported too.
    """
    wal = path / (CATALOG + "-wal")
    with contextlib.suppress(OSError, struct.error):
        data = wal.read_bytes()
        if len(data) < 56:
            return ""
        magic, _, page, _, salt = struct.unpack(">IIII8s", data[:24])
        big = magic & 1
        sums = _wal_sum(data[:24], (0, 0), big)
        good = magic >> 1 == 0x377F0682 >> 1 and struct.pack(">II", *sums) == data[24:32]
        # a header that does not tell: the file itself is not opened here, because that would end SQLite's locks on it
        sizes = (page,) if good else (PAGE_BYTES, OLD_PAGE_BYTES)
        dropped = max(_dropped(data, size, salt, sums if good else None, big) for size in sizes)
        if dropped:
            return f"the log {wal.name} is damaged: the last {dropped} transactions in it are lost"
    return ""


def _dropped(data: bytes, page: int, salt: bytes, sums: tuple[int, int] | None, big: int) -> int:
    """How many transactions end beyond the first bad frame; `sums` are those of a good header."""
    first_salt = data[40:48]
    dropped = 0
    for at in range(32, len(data) - page - 23, page + 24):
        header = data[at : at + 24]
        if sums is not None and header[8:16] == salt:
            following = _wal_sum(data[at + 24 : at + 24 + page], _wal_sum(header[:8], sums, big), big)
            if struct.pack(">II", *following) == header[16:24]:
                sums = following
                continue
        sums = None
        commit = header[4:8] != b"\0\0\0\0"
        dropped += commit and header[8:16] in (salt, first_salt) and first_salt == header[8:16]
    return dropped


def _wal_sum(data: bytes, start: tuple[int, int], big: int) -> tuple[int, int]:
    s0, s1 = start
    for x, y in struct.iter_unpack(">II" if big else "<II", data):
        s0 = (s0 + x + s1) & 0xFFFFFFFF
        s1 = (s1 + y + s0) & 0xFFFFFFFF
    return s0, s1


def _remove_strays(folder: Folder, notes: list[str]) -> None:
    """Files that a crash left between writing and publishing, or between publishing and removing."""
    known = {block.path for table in folder.tables.values() for block in table.blocks}
    strays = [f for f in folder.blocks_path.rglob("*") if f.is_file() and f not in known]
    strays += folder.path.glob(NAME + TEMPORARY)
    for stray in strays:
        folder.files.unlink(stray)
    removed = len(strays) + folder.streams.tidy()
    if removed:
        notes.append(f"removed {removed} files that an interrupted run had left unpublished")
