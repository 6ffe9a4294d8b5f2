"""A catalog that is lost or cannot be read is made anew, from the blocks, the settings and what is left of it.

The new one is made in `rebuilding/` and then renamed: killed at any moment, the next opening finds the old state or the
new one, and never a catalog that knows less than there is, whose unknown blocks would be taken for leftovers.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import stat
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kymograph.errors import Corrupt, KymographError
from kymograph.local import ring_rows, settings
from kymograph.local.block import file_checksum
from kymograph.local.catalog import BlockRow, Catalog
from kymograph.local.commit import decode_batches
from kymograph.local.database import CATALOG, good_rows, log_bytes
from kymograph.local.files import Files, storage_errors
from kymograph.local.format import NewerBlock, decode_metadata, footer
from kymograph.local.settings import Kept
from kymograph.local.streams import recovery as streams
from kymograph.model.schema import SAMPLES, TableSchema
from kymograph.model.time import TIME, micros_of
from kymograph.options import StoreOptions

_FOLDER = "rebuilding"
# whole, and not in its place yet
_READY = "catalog.rebuilt.db"
_SUFFIXES = ("", "-wal", "-shm")
# what a rollup has summarised may have been in the log that is lost; without these it is made anew
_SUMMARISED = ("touched", "watch")

_Found = tuple[Path, dict[str, Any], pq.FileMetaData]


def has_more(path: Path) -> bool:
    """Whether there is something in the folder that its catalog should know."""
    blocks = any((path / "blocks").glob("*/*/*.parquet"))
    return blocks or streams.has_blocks(path) or (path / settings.NAME).exists()


def rebuild(path: Path, options: StoreOptions, files: Files, notes: list[str]) -> None:
    """Put a new catalog in the place of the one that is damaged or missing; `notes` gets what became of it, in words.

    Raises:
        NewerBlock, StorageError: a block or the settings are of a later release, or the disk failed; nothing is changed.
    """
    old = path / CATALOG if (path / CATALOG).exists() else None
    kept = settings.read(path)
    if kept.problem:
        notes.append(f"{settings.NAME}: {kept.problem}")
    with storage_errors(path):
        _forget(path)
        (path / _FOLDER).mkdir()
        like = next((one for one in (old, path / settings.NAME) if one is not None and one.exists()), None)
        if like is not None:  # it has hashes of tokens in it, too
            mode = stat.S_IMODE(like.stat().st_mode)
            os.close(os.open(path / _FOLDER / CATALOG, os.O_CREAT | os.O_WRONLY, mode))
            (path / _FOLDER / CATALOG).chmod(mode)
    catalog = Catalog(path / _FOLDER, files, sync=options.sync, log_bytes=log_bytes(options))
    try:
        _fill(path, catalog, old, kept, notes)
        streams.restore(path, catalog, old, kept.streams, notes)
        catalog.shrink(0, wait=True)
    finally:
        catalog.close()
    with storage_errors(path):
        files.step("rename", path / _READY)
        os.rename(path / _FOLDER / CATALOG, path / _READY)
        if options.sync == "full":
            files.sync_name(path / _READY)
    finish(path, files, notes)


def finish(path: Path, files: Files, notes: list[str]) -> None:
    """Put a catalog that was made anew in its place, and the damaged one aside, whatever a crash has left of that."""
    with storage_errors(path):
        if (path / _READY).exists():
            if (path / CATALOG).exists():
                aside = _move_aside(path, files)
                notes.append(f"the damaged catalog is kept as {aside.name}")
            files.step("rename", path / CATALOG)
            os.rename(path / _READY, path / CATALOG)
            files.sync_name(path / CATALOG)
        _forget(path)


def _forget(path: Path) -> None:
    """Remove what an interrupted rebuilding has left."""
    if (path / _FOLDER).is_dir():
        shutil.rmtree(path / _FOLDER)


def _move_aside(path: Path, files: Files) -> Path:
    name = f"catalog.damaged-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
    target = path / f"{name}.db"
    number = 1
    while target.exists():
        number += 1
        target = path / f"{name}-{number}.db"
    # the file itself comes last: until then, what a crash leaves is found again as damaged
    for suffix in reversed(_SUFFIXES):
        files.step("rename", Path(f"{path / CATALOG}{suffix}"))
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path / CATALOG}{suffix}").rename(f"{target}{suffix}")
    return target


def _fill(path: Path, catalog: Catalog, old: Path | None, kept: Kept, notes: list[str]) -> None:
    """Enter tables, blocks, series, documents, rings and the log into a new catalog."""
    found = _blocks(path, notes)
    replaced = {name for _, document, _ in found for name in document["replaces"]}
    schemas: dict[str, TableSchema] = {}
    for schema in [TableSchema.from_json(document["table"]) for _, document, _ in found] + kept.tables:
        _newer(schemas, schema)
    salvaged = _Salvage(old, schemas)
    series = {number: (name, labels) for number, (name, labels, _) in kept.rings.items()} | salvaged.series
    with catalog.transaction():
        ids = {name: catalog.put_table(schema) for name, schema in schemas.items()}
        stored: set[int] = set()
        for file, document, _ in found:
            name = TableSchema.from_json(document["table"]).name
            relative = str(file.relative_to(path / "blocks"))
            own = {int(i): (n, labels) for i, (n, labels) in document.get("series", {}).items()}
            series |= own
            if relative not in replaced:
                catalog.add_block(
                    _block_row(file, relative, ids[name], document), footer(memoryview(file.read_bytes()))
                )
                stored |= own.keys() if name == SAMPLES else set()
        catalog.add_series([(number, *one) for number, one in sorted(series.items())])
        for name, hot in salvaged.hot:
            batches = decode_batches(hot)
            times = [micros_of(batch.column(TIME)) for batch in batches]
            low, high = min(int(t.min()) for t in times), max(int(t.max()) for t in times)
            catalog.add_hot([(ids[name], sum(len(t) for t in times), low, high, hot)])
        for (kind, key), value in _documents(salvaged.documents, kept).items():
            catalog.put_document(kind, key, value)
        # a series has its samples in a ring or in blocks
        rings = {number: ring for number, (_, _, ring) in kept.rings.items() if number not in stored}
        ring_rows.restore(old, catalog, rings, series)
    notes.append(
        f"rebuilt {len(ids)} tables from {len(found)} blocks and {len(salvaged.hot)} batches of the damaged catalog's log"
        f", with {len(kept)} settings"
    )


def _blocks(path: Path, notes: list[str]) -> list[_Found]:
    found: list[_Found] = []
    for file in sorted((path / "blocks").glob("*/*/*.parquet")):
        try:
            with pq.ParquetFile(file) as opened:
                found.append((file, decode_metadata(opened.schema_arrow), opened.metadata))
        except NewerBlock:
            raise
        except (Corrupt, pa.ArrowException, OSError) as problem:
            aside = path / "damaged" / file.relative_to(path / "blocks")
            aside.parent.mkdir(parents=True, exist_ok=True)
            file.rename(aside)
            notes.append(
                f"block {file.relative_to(path / 'blocks')} is no readable block and was moved aside: {problem}"
            )
    return found


def _newer(schemas: dict[str, TableSchema], schema: TableSchema) -> None:
    """Take a schema in place of what is known of its table, unless that has more columns."""
    if len(schema.columns) >= len(schemas.get(schema.name, schema).columns):
        schemas[schema.name] = schema


def _documents(salvaged: dict[tuple[str, str], Any], kept: Kept) -> dict[tuple[str, str], Any]:
    """What is known of the documents. Where the settings are whole, what they do not have was removed."""
    whole = bool(kept.documents) and not kept.problem
    found = {
        (kind, key): value
        for (kind, key), value in salvaged.items()
        if kind not in _SUMMARISED and (not whole or kind in Catalog.PASSING or kind in Catalog.FOLLOWING)
    }
    return {**found, **kept.documents}


def _block_row(file: Path, relative: str, table_id: int, document: dict[str, Any]) -> BlockRow:
    times = micros_of(pq.read_table(file, columns=[TIME]).column(TIME).combine_chunks())
    crc, size = file_checksum(file)
    low, high = int(times.min()), int(times.max())
    return BlockRow(0, table_id, document["partition"], relative, document["level"], len(times), low, high, size, crc)


class _Salvage:
    """Whatever rows of a damaged catalog still carry a good checksum."""

    def __init__(self, path: Path | None, schemas: dict[str, TableSchema]) -> None:
        self.hot: list[tuple[str, bytes]] = []
        self.series: dict[int, tuple[str, dict[str, str]]] = {}
        self.documents: dict[tuple[str, str], Any] = {}
        if path is None:
            return
        with contextlib.closing(sqlite3.connect(path)) as db:
            names = {}
            for table_id, name, text, _ in good_rows(db, "SELECT id, name, schema, crc FROM tables"):
                with contextlib.suppress(KymographError, ValueError, KeyError):
                    _newer(schemas, TableSchema.from_json(text))
                    names[table_id] = name
            for row in good_rows(db, "SELECT table_id, rows, min_time, max_time, data, crc FROM hot ORDER BY id"):
                if row[0] in names:
                    self.hot.append((names[row[0]], row[4]))
            for series_id, name, text, _ in good_rows(db, "SELECT id, name, labels, crc FROM series"):
                self.series[series_id] = (name, json.loads(text))
            for kind, key, text, _ in good_rows(db, "SELECT kind, key, value, crc FROM documents"):
                self.documents[kind, key] = json.loads(text)
