"""The contract of an engine: small, synchronous, safe to call from many threads.

Ownership: batches given to `append` are the engine's to keep; the caller must not change their buffers. What `scan` and
`latest` return belongs to the caller and stays valid after later writes, deletes, compactions and `close()`
(a reader works on the generation it started with).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from kymograph.engine.rings import Rings
from kymograph.engine.streams import Streams
from kymograph.model.matcher import Matcher
from kymograph.model.schema import TableSchema

# where in its own folder a store is copied to by those who name no other place
SNAPSHOTS = "snapshots"


@dataclass(frozen=True)
class SeriesBatch:
    """Rows in the order of their series, each series in the order of time, with its labels told once.

    Attributes:
        labels: label columns, one value per series.
        counts: int64 of shape (series,), rows of each, none 0; they follow each other in `times` and `fields`.
        times: int64 µs of shape (rows,).
        fields: field columns, one value per row.
    """

    labels: Mapping[str, pa.Array]
    counts: Any
    times: Any
    fields: Mapping[str, pa.Array]


@dataclass(frozen=True)
class Scan:
    """Rows selected by a scan, as independent parts that may be read in parallel.

    Each part is sorted by labels, then time, and yields its batches when called; a part may be called once. Together
    the parts hold every selected row exactly once. Across parts nothing is ordered.

    Attributes:
        schema: Arrow schema of the batches: the asked columns in the asked order.
        parts: each returns an iterator of record batches of `schema`.
        rows: upper bound of the rows selected (exact when nothing had to be opened to know).
        by_series: where an engine keeps rows so, the same parts in that form, to be called in place of `parts`. The
            labels are those that were asked for; a series is one of all labels.
        span: oldest and newest time of a scan that nothing narrows, where an engine knows them beforehand.
    """

    schema: pa.Schema
    parts: Sequence[Callable[[], Iterator[pa.RecordBatch]]]
    rows: int
    by_series: Sequence[Callable[[], Iterator[SeriesBatch]]] | None = None
    span: tuple[int, int] | None = None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All parts, one after the other."""
        for part in self.parts:
            yield from part()

    def table(self) -> pa.Table:
        """Everything in memory; unordered across parts."""
        return pa.Table.from_batches(list(self.batches()), self.schema)


@dataclass(frozen=True)
class TableStatistics:
    """Numbers of one table. Times are int µs, None when it is empty; sizes are bytes.

    `rows` counts each (series, time) once, as a scan would. `blocks` counts immutable files, `partitions` the time
    slices that hold at least one row. `ring_rows` are in neither: they count among `rows` alone.
    """

    rows: int = 0
    series: int = 0
    oldest: int | None = None
    newest: int | None = None
    hot_rows: int = 0
    hot_bytes: int = 0
    sealed_bytes: int = 0
    blocks: int = 0
    partitions: int = 0
    ring_rows: int = 0


@dataclass(frozen=True)
class Victim:
    """What a prune takes: one partition (or its oldest part) of one table. Range is [start, end) in µs."""

    table: str
    partition: int
    start: int
    end: int
    rows: int
    bytes: int
    reason: str


@dataclass(frozen=True)
class PruneReport:
    """What a prune took, or with `dry_run` would take."""

    victims: tuple[Victim, ...] = ()
    dry_run: bool = False

    @property
    def rows(self) -> int:
        return sum(v.rows for v in self.victims)

    @property
    def bytes(self) -> int:
        return sum(v.bytes for v in self.victims)


@dataclass(frozen=True)
class Damage:
    """One thing that a check found wrong."""

    table: str
    place: str
    problem: str
    rows_lost: int | None = None
    repaired: bool = False


@dataclass(frozen=True)
class CheckReport:
    """What a check looked at and found."""

    blocks: int = 0
    bytes: int = 0
    damages: tuple[Damage, ...] = ()
    notes: tuple[str, ...] = field(default=())


@runtime_checkable
class Engine(Protocol):
    """What every engine does. Names of tables are given as text; unknown ones raise NotFound."""

    @property
    def rings(self) -> Rings:
        """The series that it keeps in rings."""

    @property
    def streams(self) -> Streams:
        """The streams it holds."""

    def tables(self) -> Mapping[str, TableSchema]:
        """The tables as of now, by name."""

    def create_table(self, schema: TableSchema) -> None:
        """Durable when it returns. Raises AlreadyExists unless an equal table is there already."""

    def alter_table(self, schema: TableSchema) -> None:
        """Replace a table's schema; durable when it returns.

        Labels and fields may only be added, each after those that are there (`TableSchema.extended`), and the partition
        never changes. Rows from before have null in what was added: a row with null in an added label is of the same
        series as one from before. Of two who add to one schema at once, the second, who did not see the first, is refused.

        Raises:
            SchemaError: anything else would change; nothing has.
        """

    def drop_table(self, name: str) -> None:
        """Forget the table and its rows; running scans finish."""

    def append(self, table: str, batch: pa.RecordBatch) -> int:
        """Store rows; durable (see StoreOptions.sync) and visible to new scans when it returns.

        Args:
            batch: exactly `TableSchema.arrow`, in any row order; made by `model.batch.conform`. A batch made for an
                older schema of the table (fewer labels or fields) is taken too.

        Returns:
            Rows accepted, duplicates included.

        Raises:
            DuplicateRows: policy "reject" and a (series, time) exists already or is twice in the batch; nothing is stored.
            DiskFull, StorageError, ReadOnly, StoreClosed: nothing is stored.
        """

    def scan(
        self,
        table: str,
        matchers: Sequence[Matcher] = (),
        start: int | None = None,
        end: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> Scan:
        """Rows with time in [start, end) whose labels satisfy every matcher; None leaves that side open.

        Raises:
            SchemaError: an unknown column, or a matcher on something that is no label.
        """

    def delete(
        self, table: str, matchers: Sequence[Matcher] = (), start: int | None = None, end: int | None = None
    ) -> int:
        """Remove rows for good; durable when it returns. Returns how many."""

    def latest(self, table: str, matchers: Sequence[Matcher] = ()) -> pa.Table:
        """The newest row of every series, all columns, in no particular order. Kept, not searched for."""

    def statistics(self, table: str) -> TableStatistics: ...

    def register_series(self, series: Sequence[tuple[str, Mapping[str, str]]]) -> list[int]:
        """Ids of the scalar series `name{labels}`, in order, where new made durable in one step, and greater than all
        before. Same name and labels in whatever order, same id, always.
        """

    def series(self) -> Mapping[int, tuple[str, Mapping[str, str]]]:
        """Every registered series by id, ascending: (metric name, labels). A snapshot; the caller changes nothing."""

    def get_document(self, kind: str, key: str) -> Any:
        """A small JSON value kept beside the tables (metric metadata, tokens, job history), or None."""

    def put_document(self, kind: str, key: str, value: Any) -> None:
        """Durable when it returns; None removes it."""

    def put_documents(self, kind: str, values: Mapping[str, Any]) -> None:
        """Several documents of one kind by key in one durable step: all of them or none."""

    def documents(self, kind: str) -> Mapping[str, Any]:
        """All documents of one kind by key."""

    def close(self) -> None:
        """Everything accepted is durable; every later call raises StoreClosed. May be called twice."""


@runtime_checkable
class Bounded(Protocol):
    """An engine that enforces retention and a cap by itself."""

    def prune(self, *, now: int, dry_run: bool = False, force: bool = False) -> PruneReport:
        """Apply age, byte and cap bounds as of `now` (µs).

        Without `force` an engine may keep rows past their age until what holds them is old as a whole; with it age
        holds to the microsecond when this returns.
        """

    def usage(self) -> int:
        """Bytes on disk, everything counted."""


@runtime_checkable
class Attended(Protocol):
    """An engine that works in the background and has something to say about it.

    Attributes:
        notes: what was noticed at opening (recovered, rebuilt, lost), in words.
        failure: why background work fails at present, or "".
    """

    notes: list[str]
    failure: str


@runtime_checkable
class Copyable(Protocol):
    """An engine that is kept in files."""

    def copy_to(self, target: Path) -> None:
        """A copy of everything committed by now at `target`, which is new: there completely or not at all.

        Raises:
            AlreadyExists: something is there. DiskFull, StorageError: nothing is left behind.
        """


@runtime_checkable
class Maintained(Protocol):
    """An engine with a hot log to seal and blocks to merge and verify."""

    def seal(self, table: str | None = None) -> int:
        """Turn the hot rows of one or all tables into blocks now. Returns rows sealed."""

    def compact(self, progress: Callable[[int, int], None] | None = None) -> int:
        """Merge small blocks until none is left to merge. Returns blocks removed net.

        `progress(done, total)` counts blocks.
        """

    def check(self, *, repair: bool = False, progress: Callable[[int, int], None] | None = None) -> CheckReport:
        """Verify sizes, checksums and structure of everything stored; `repair` salvages undamaged rows."""
