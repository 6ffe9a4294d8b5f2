"""The open folder: its tables with their current generation, and the one way to change what is published.

Locks, always taken in this order: `structure` (who seals, compacts, deletes or drops), the catalog's lock (who commits), a table's
lock (who swaps or reads a generation; held for moments only).
"""

from __future__ import annotations

import contextlib
import difflib
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from kymograph.errors import Corrupt, NotFound
from kymograph.local.block import Block, OpenFiles
from kymograph.local.budget import Budget
from kymograph.local.cache import ColumnCache
from kymograph.local.catalog import BlockRow, Catalog
from kymograph.local.encoding import EncodingChooser
from kymograph.local.files import Files
from kymograph.local.format import encode, footer, new_path
from kymograph.local.head import Head, Run
from kymograph.local.latest import LatestRows
from kymograph.local.registry import LocalRegistry
from kymograph.local.ring_pages import RingPages
from kymograph.local.settings import Settings
from kymograph.local.streams.folder import StreamFolder
from kymograph.model.schema import SERIES_ID, TableSchema
from kymograph.model.time import TIME, micros_of
from kymograph.options import StoreOptions


@dataclass(frozen=True)
class Generation:
    """What a reader works on: unaffected by anything published later."""

    schema: TableSchema
    blocks: tuple[Block, ...]
    runs: tuple[Run, ...]

    def is_whole(self, table: Table) -> bool:
        """Whether none of these blocks has been replaced in `table`, so that all of their files should be there."""
        return {block.row.id for block in self.blocks} <= {block.row.id for block in table.blocks}


class Table:
    """One table of the open folder. Everything but `id` is guarded by `lock`."""

    def __init__(self, table_id: int, schema: TableSchema, blocks: Sequence[Block], saved: bytes | None) -> None:
        self.id = table_id
        self.schema = schema
        self.lock = threading.RLock()
        self.blocks: tuple[Block, ...] = ()
        self.swap_blocks(blocks)
        self._latest = LatestRows(schema, saved)
        self._latest_known = saved is not None or not blocks
        self.head = Head(schema, self._latest.add)
        self.dropped = False
        self.damage: list[str] = []
        self.damaged_hot: list[int] = []

    def swap_blocks(self, blocks: Sequence[Block]) -> None:
        """Make these the table's blocks, in order of time."""
        self.blocks = tuple(sorted(blocks, key=lambda b: (b.row.min_time, b.row.id)))
        self.block_bytes = sum(block.row.bytes for block in self.blocks)

    def generation(self) -> Generation:
        """The current generation.

        Raises:
            Corrupt: part of the hot log could not be read when the folder was opened.
        """
        with self.lock:
            if self.damage:
                raise Corrupt(f"table {self.schema.name}: {self.damage[0]}", hint="run kymo check --repair")
            return Generation(self.schema, self.blocks, tuple(self.head.runs()))

    def newest(self) -> LatestRows:
        """The newest rows, found among all blocks first where a crash or a repair has lost them."""
        self.head.runs()
        if not self._latest_known:
            for block in self.blocks:
                for group in block.groups():
                    self._latest.add(group)
            # rows of the head are newer wherever they collide, so they come once more
            for run in self.head.runs():
                self._latest.add(run.rows)
            self._latest_known = True
        return self._latest

    def forget_latest(self) -> None:
        """The newest rows are in doubt; the next who asks finds them among the blocks."""
        self._latest = LatestRows(self.schema)
        self._latest_known = False
        self.head.on_run = self._latest.add

    def extend(self, schema: TableSchema) -> None:
        """Take a schema with more labels or fields, or other policies."""
        with self.lock:
            self.head.extend(schema)
            self._latest.extend(schema)
            self.blocks = tuple(block.with_labels(schema.labels) for block in self.blocks)
            self.schema = schema


class Folder:
    """Catalog, tables and block files of DIR."""

    def __init__(self, path: Path, options: StoreOptions, files: Files, catalog: Catalog) -> None:
        self.path = path
        self.blocks_path = path / "blocks"
        self.options = options
        self.files = files
        self.catalog = catalog
        self.structure = threading.RLock()
        self.cache = ColumnCache(options.cache_bytes)
        self.opened = OpenFiles()
        self.chooser = EncodingChooser()
        self.tables: dict[str, Table] = {}
        self.registry = LocalRegistry(catalog)
        self.rings = RingPages(catalog, self.cache)
        self.streams = StreamFolder(path, options, files, catalog)
        self.settings = Settings(self)
        self.budgets = [Budget(options.cap, self)]
        self._writing = 0
        self._counter = threading.Lock()
        self._doubtful: list[BlockRow] = []
        self._footers: dict[str, bytes] = {}

    def table(self, name: str) -> Table:
        found = self.tables.get(name)
        if found is None:
            raise NotFound(f"there is no table {name!r}", hint=_near(name, list(self.tables)))
        return found

    def block(self, row: BlockRow, schema: TableSchema) -> Block:
        return Block(row, self.blocks_path, schema.labels, self.cache, self.opened)

    @property
    def block_bytes(self) -> int:
        """Bytes of all published blocks."""
        return sum(table.block_bytes for table in self.tables.values())

    def usage(self) -> int:
        """Bytes of everything under DIR: blocks, files being written, catalog and its log, settings."""
        own = self.catalog.size() + self.settings.bytes + 4096
        return self.block_bytes + self._writing + self.streams.usage() + own

    def write_block(
        self, table: Table, data: pa.Table, *, partition: int, level: int, replaces: Sequence[Block] = ()
    ) -> BlockRow:
        """Write sorted rows of one partition as a file that no catalog knows yet.

        Raises:
            DiskFull, StorageError: nothing is left behind.
        """
        series = None
        if table.schema.by_series:
            ids = data.column(SERIES_ID).unique().to_pylist()
            known = self.registry.series()
            series = {i: known[i] for i in ids if i in known}
        paths = [block.row.path for block in replaces]
        encoded = encode(
            table.schema, data, self.chooser, partition=partition, level=level, replaces=paths, series=series
        )
        times = micros_of(data.column(TIME).combine_chunks())
        path = new_path(table.schema.name, partition, int(times.min()))
        with self._counter:
            self._writing += len(encoded)
        try:
            self.files.publish(self.blocks_path / path, encoded, sync=self.options.sync == "full")
        except BaseException:
            self._written(len(encoded))
            raise
        row = BlockRow(
            0, table.id, partition, path, level, len(times), int(times.min()), int(times.max()), len(encoded),
            zlib.crc32(encoded),
        )  # fmt: skip
        self._footers[path] = footer(encoded)
        return row

    def _written(self, size: int) -> None:
        with self._counter:
            self._writing -= size

    def publish(
        self,
        table: Table,
        new: Sequence[BlockRow],
        old: Sequence[Block],
        *,
        sealed: Sequence[int] | None = None,
        save_latest: bool = True,
    ) -> None:
        """Swap blocks in one transaction; with `sealed`, the frozen head and those hot rows go in the same.

        Without `save_latest` the saved newest rows go, because some of theirs do; the caller finds them anew.

        Either all of it happens or none.
        """
        try:
            with self.catalog.transaction():
                rows = [self.catalog.add_block(row, self._footers[row.path]) for row in new]
                self.catalog.remove_blocks([block.row.id for block in old])
                if sealed is not None:
                    self.catalog.remove_hot(list(sealed))
                if save_latest:
                    with table.lock:
                        saved = table.newest().dump()
                self.catalog.put_latest(table.id, saved if save_latest else None)
        except BaseException:
            # a commit that failed at its last fsync may still be found after power loss: the files
            # may only go once a later commit has overwritten it
            self._doubtful.extend(new)
            raise
        self._remove_doubtful()
        gone = {block.row.id for block in old}
        with table.lock:
            kept = [block for block in table.blocks if block.row.id not in gone]
            fresh = [self.block(row, table.schema) for row in rows]
            table.swap_blocks([*kept, *fresh])
            if sealed is not None:
                table.head.sealed()
        for row in rows:
            self._written(row.bytes)
            del self._footers[row.path]
        self.remove_files(old)

    def discard(self, rows: Sequence[BlockRow]) -> None:
        """Files that were written but will not be published; what a failed publish left in doubt stays."""
        for row in rows:
            if row not in self._doubtful:
                self._unlink_unpublished(row)

    def room_for(self, size: int) -> bool:
        """Whether writing `size` more bytes stays under the cap."""
        return all(one.cap is None or one.usage() + size <= one.cap * 95 // 100 for one in self.budgets)

    def join(self, budget: Budget) -> None:
        """Share another folder's cap beside one's own, until `leave`."""
        budget.add(self)
        self.budgets = [*self.budgets, budget]

    def leave(self) -> None:
        for budget in self.budgets[1:]:
            budget.remove(self)

    def _remove_doubtful(self) -> None:
        doubtful, self._doubtful = self._doubtful, []
        for row in doubtful:
            self._unlink_unpublished(row)

    def _unlink_unpublished(self, row: BlockRow) -> None:
        self.files.unlink(self.blocks_path / row.path)
        self._written(row.bytes)
        self._footers.pop(row.path, None)

    def remove_files(self, blocks: Sequence[Block]) -> None:
        """Unlink blocks that the catalog has forgotten; whoever has them open reads on."""
        for block in blocks:
            self.files.unlink(block.path)
            self.cache.drop_block(block.row.id)
            self.opened.drop(block.row.id)

    def forget(self, table: Table) -> None:
        """Drop a table: catalog first, then its files."""
        with self.catalog.transaction():
            self.catalog.remove_table(table.id)
        with table.lock:
            table.dropped = True
            self.tables = {name: t for name, t in self.tables.items() if t is not table}
            blocks = table.blocks
        self.remove_files(blocks)
        with contextlib.suppress(OSError):
            (self.blocks_path / table.schema.name).rmdir()


def _near(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, 3)
    return f"did you mean {' or '.join(close)}?" if close else ""
