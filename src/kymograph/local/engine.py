"""The embedded engine: what `Engine`, `Bounded` and `Maintained` promise, over one folder."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from kymograph.engine.interface import CheckReport, PruneReport, Scan, TableStatistics
from kymograph.errors import (
    AlreadyExists,
    LimitExceeded,
    ReadOnly,
    SchemaError,
    StorageError,
    StoreClosed,
)
from kymograph.local import integrity, retention, ringed, sealing
from kymograph.local.catalog import Catalog
from kymograph.local.commit import Committer
from kymograph.local.files import Files, storage_errors
from kymograph.local.folder import Folder, Generation, Table
from kymograph.local.lock import WriterLock
from kymograph.local.numbers import statistics_of
from kymograph.local.recovery import LOSSES, load, open_folder
from kymograph.local.rings import LocalRings
from kymograph.local.scanning import Query
from kymograph.local.snapshot import Copying
from kymograph.local.streams.engine import LocalStreams
from kymograph.local.upkeep import Upkeep
from kymograph.model.matcher import Matcher
from kymograph.model.schema import SAMPLES, TableSchema
from kymograph.options import StoreOptions

_ATTEMPTS = 100  # of a question whose blocks are replaced faster than it opens them
Answer = TypeVar("Answer")


class LocalEngine(Copying):
    """Tables in a folder: one writing instance, any number of read-only ones beside it.

    Attributes:
        notes: what was noticed at opening (recovered, rebuilt, lost), in words.
    """

    def __init__(
        self,
        path: str | Path,
        options: StoreOptions | None = None,
        files: Files | None = None,
        within: LocalEngine | None = None,
    ) -> None:
        """Open a folder; `within` is the engine of the store whose cap counts this one too."""
        self.path = Path(path)
        self.options = options or StoreOptions()
        self.notes: list[str] = []
        self._files = files or Files()
        self._closed = False
        self._lock: WriterLock | None = None
        if self.options.read_only:
            catalog = Catalog(self.path, self._files, read_only=True)
            catalog.verify()
            self._folder = Folder(self.path, self.options, self._files, catalog)
            self._seen = -1
            self._refreshing = threading.Lock()
            self._refresh()
        else:
            with storage_errors(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
            self._lock = WriterLock(self.path)
            try:
                self._folder, self.notes = open_folder(self.path, self.options, self._files)
            except BaseException:
                self._lock.release()
                raise
            if within is not None:
                self._folder.join(within._folder.budgets[0])
        self._committer = Committer(self._folder)
        self._upkeep = Upkeep(self._folder, self._writable)
        self.streams = LocalStreams(self._folder, self._readable, self._writable, self._upkeep.wake)
        self.rings = LocalRings(self._readable, self._writable, self._committer)
        if not self.options.read_only:
            self._upkeep.start(self.streams)

    @property
    def failure(self) -> str:
        """Why background work fails at present, or ""."""
        return self._upkeep.failure

    # tables

    def tables(self) -> Mapping[str, TableSchema]:
        """The tables as of now, by name."""
        return {name: table.schema for name, table in self._readable().tables.items()}

    def create_table(self, schema: TableSchema) -> None:
        """Durable when it returns; an equal table may be there already."""
        folder = self._writable()
        with folder.structure:
            present = folder.tables.get(schema.name)
            if present is not None:
                if present.schema == schema:
                    return
                raise AlreadyExists(f"there is a table {schema.name!r} already", hint="drop it, or choose another name")
            with folder.catalog.transaction():
                table_id = folder.catalog.put_table(schema)
            folder.tables = {**folder.tables, schema.name: Table(table_id, schema, (), None)}

    def alter_table(self, schema: TableSchema) -> None:
        """Add labels or fields, or change policies."""
        folder = self._writable()
        with folder.structure:
            table = folder.table(schema.name)
            schema.check_follows(table.schema)
            with self._committer.lock:
                if schema.duplicates != table.schema.duplicates:
                    # what the old policy has decided stays decided
                    sealing.seal(folder, table)
                with folder.catalog.transaction():
                    folder.catalog.put_table(schema, table.id)
                table.extend(schema)

    def drop_table(self, name: str) -> None:
        """Forget the table and its rows."""
        folder = self._writable()
        with folder.structure, self._committer.lock:
            table = folder.table(name)
            if name == SAMPLES:
                self.rings.drop(list(folder.rings.rings))
            folder.forget(table)

    # rows

    def append(self, table: str, batch: pa.RecordBatch) -> int:
        """Store rows; durable as `sync` says and visible when it returns."""
        folder = self._writable()
        found = folder.table(table)
        if not found.schema.accepts(batch.schema):
            raise SchemaError(f"table {table}: this batch was made for another schema", hint="make it with conform()")
        if batch.num_rows == 0:
            return 0
        cap = self.options.cap
        if cap is not None and batch.nbytes > cap // 8:
            raise LimitExceeded(
                f"table {table}: a batch of {batch.nbytes} bytes is too large for a cap of {cap}",
                hint=f"write at most {cap // 8} bytes at once",
            )
        self._upkeep.wait_for_room()
        retention.make_room(folder, 2 * batch.nbytes + self._upkeep.head_limit)
        rows = self._committer.append(found, batch)
        if self._upkeep.wants_sealing():
            self._upkeep.wake()
        return rows

    def scan(
        self,
        table: str,
        matchers: Sequence[Matcher] = (),
        start: int | None = None,
        end: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> Scan:
        """Rows of [start, end) whose labels satisfy every matcher."""

        def ask(_: Table, generation: Generation) -> Scan:
            found = Query(generation, matchers, start, end, columns).scan()
            return ringed.scan(found, self._folder.rings, matchers, start, end) if table == SAMPLES else found

        return self._asked(table, ask)

    def _asked(self, name: str, ask: Callable[[Table, Generation], Answer]) -> Answer:
        """The answer to a question that opens blocks; once more where one was replaced since the generation was taken."""
        for _ in range(_ATTEMPTS):
            table = self._readable().table(name)
            generation = table.generation()
            try:
                return ask(table, generation)
            except StorageError:
                self._seen = -1
                if generation.is_whole(self._readable().table(name)):
                    raise
        raise StorageError(f"table {name}: its blocks are replaced faster than they are read", hint="ask again")

    def delete(
        self, table: str, matchers: Sequence[Matcher] = (), start: int | None = None, end: int | None = None
    ) -> int:
        """Remove rows for good. Returns how many."""
        folder = self._writable()
        found = folder.table(table)
        Query(found.generation(), matchers, start, end, ())
        gone = self._delete(found, matchers, start, end)
        return gone + (self.rings.delete(matchers, start, end) if table == SAMPLES else 0)

    def _delete(self, table: Table, matchers: Sequence[Matcher], start: int | None, end: int | None) -> int:
        folder = self._folder
        with folder.structure:
            with self._committer.lock:  # what was written before is in blocks then; what comes later stays
                sealing.seal(folder, table)
            return sealing.delete_rows(folder, table, matchers, start, end)

    def latest(self, table: str, matchers: Sequence[Matcher] = ()) -> pa.Table:
        """The newest row of every series."""

        def ask(found: Table, generation: Generation) -> pa.Table:
            Query(generation, matchers, None, None, ())
            with found.lock:
                newest = found.newest().table(matchers)
            return ringed.latest(newest, self._folder.rings, matchers, found.schema) if table == SAMPLES else newest

        return self._asked(table, ask)

    def statistics(self, table: str) -> TableStatistics:
        """Numbers of one table."""
        numbers = self._asked(table, statistics_of)
        return ringed.statistics(numbers, self._folder.rings) if table == SAMPLES else numbers

    # series and documents

    def register_series(self, series: Sequence[tuple[str, Mapping[str, str]]]) -> list[int]:
        """Ids of the scalar series `name{labels}`, in order, durable where new."""
        return self._writable().registry.register(series)

    def series(self) -> Mapping[int, tuple[str, Mapping[str, str]]]:
        """Every registered series by id."""
        return self._readable().registry.series()

    def get_document(self, kind: str, key: str) -> Any:
        """A small JSON value, or None."""
        return self._readable().registry.get(kind, key)

    def put_document(self, kind: str, key: str, value: Any) -> None:
        """Durable when it returns; None removes it."""
        self.put_documents(kind, {key: value})

    def put_documents(self, kind: str, values: Mapping[str, Any]) -> None:
        """Several documents of one kind in one durable step."""
        folder = self._writable()
        folder.registry.put(kind, values)
        folder.settings.save_now(kind)

    def documents(self, kind: str) -> Mapping[str, Any]:
        """All documents of one kind by key."""
        return self._readable().registry.all(kind)

    # bounds and maintenance

    def prune(self, *, now: int, dry_run: bool = False, force: bool = False) -> PruneReport:
        """Apply age, byte and cap bounds as of `now` (µs): whole blocks, with `force` age to the row."""
        folder = self._readable() if dry_run else self._writable()
        return retention.prune(
            folder, now=now, dry_run=dry_run, force=force, delete=lambda table, end: self._delete(table, (), None, end)
        )

    def usage(self) -> int:
        """Bytes on disk, everything counted, open namespaces too."""
        return self._readable().budgets[0].usage()

    def seal(self, table: str | None = None) -> int:
        """Turn hot rows into blocks now. Returns rows sealed."""
        folder = self._writable()
        chosen = list(folder.tables.values()) if table is None else [folder.table(table)]
        rows = [self._upkeep.seal(one) for one in chosen]
        rows += [self.streams.fold()] if table is None else []
        self._upkeep.shrink()
        return sum(rows)

    def compact(self, progress: Callable[[int, int], None] | None = None) -> int:
        """Merge small blocks until none is left to merge. Returns blocks removed net."""
        folder = self._writable()
        removed = 0
        while more := sealing.compact(folder, eager=True, progress=progress):
            removed += more
        return removed + self.streams.merge()

    def check(self, *, repair: bool = False, progress: Callable[[int, int], None] | None = None) -> CheckReport:
        """Verify everything stored; `repair` salvages. Notes tell of earlier openings too, until a repair."""
        folder = self._writable() if repair else self._readable()
        earlier = [note for note in self.get_document(*LOSSES) or [] if not note.endswith(tuple(self.notes))]
        report = integrity.check(folder, repair=repair, notes=[*earlier, *self.notes], progress=progress)
        if repair and self.get_document(*LOSSES):
            self.put_document(*LOSSES, None)
        return report

    def _readable(self) -> Folder:
        if self._closed:
            raise StoreClosed(f"{self.path} has been closed")
        if self.options.read_only:
            self._refresh()
        return self._folder

    def _writable(self) -> Folder:
        if self._closed:
            raise StoreClosed(f"{self.path} has been closed")
        if self.options.read_only:
            raise ReadOnly(f"{self.path} is open read-only")
        return self._folder

    def _refresh(self) -> None:
        """See what the writing process has committed since."""
        with self._refreshing:
            version = self._folder.catalog.data_version()
            if version != self._seen:
                load(self._folder)
                self._seen = version

    def close(self) -> None:
        """Stop background work and give the folder free; what is hot stays in the log. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._upkeep.close()
        self._folder.leave()
        self.streams.close()
        with self._folder.structure, self._committer.lock:
            if not self.options.read_only:
                for last in (self._folder.settings.save, lambda: self._folder.catalog.shrink(0, wait=True)):
                    with contextlib.suppress(StorageError):  # a full disk keeps nobody from closing
                        last()
            self._folder.catalog.close()
        if self._lock is not None:
            self._lock.release()
