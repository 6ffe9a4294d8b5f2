"""What users hold: one object that writes, reads, asks and keeps house, over whatever engine is below."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from kymograph.engine.interface import Attended, Bounded, CheckReport, Engine, Maintained, PruneReport
from kymograph.errors import StorageError, StoreClosed
from kymograph.model.matcher import Matcher, matchers_of
from kymograph.model.schema import Duplicates, TableSchema, table_schema
from kymograph.model.time import to_micros
from kymograph.options import QueryLimits, Retention, StoreOptions, parse_duration
from kymograph.store.jobs import Job, Jobs, now_micros
from kymograph.store.metrics import Metrics, Sample
from kymograph.store.reading import Selection, read_ordered, stream
from kymograph.store.report import BOUNDS, bounds_of, describe_store
from kymograph.store.tables import Tables

if TYPE_CHECKING:
    from datetime import timedelta

    from kymograph.promql.result import PromResult
    from kymograph.promql.source import Source
    from kymograph.sql.result import Result
    from kymograph.sql.session import SqlSession

Labels = Mapping[str, Any] | Iterable[Matcher] | None
Progress = Callable[[int, int], None]
_T = TypeVar("_T")


class Store:
    """A store of tables and metrics; every method may be called from many threads.

    Wherever a time is taken it is int µs, datetime (naive means UTC), ISO 8601 text, or an Arrow, NumPy or pandas
    timestamp; ranges are [start, end), and None leaves a side open. Wherever labels select rows they are
    `{"gpu_uuid": "GPU-1"}`, `{"gpu_uuid": ["GPU-1", "GPU-2"]}` or an iterable of `Matcher`.

    Every method raises StoreClosed after `close()`; unknown tables raise NotFound.

    Attributes:
        path: where it is: the folder's absolute path, or "memory:".
        options: what it was opened with.
    """

    def __init__(self, engine: Engine, options: StoreOptions | None = None, path: str = "memory:") -> None:
        """Use `kymograph.connect`. The store owns the engine from here on and closes it."""
        self._engine = engine
        self._closed = False
        self._closing = threading.Lock()
        self._session: SqlSession | None = None
        self._session_lock = threading.Lock()
        self._source: Source | None = None
        self._write_failure: str | None = None
        self.options = options or StoreOptions()
        self.path = path
        self._tables = Tables(engine, self.options.cap)
        self._metrics = Metrics(engine)
        self._jobs = Jobs(engine, [] if self.options.read_only else [self._prune_job()])
        if not self.options.read_only:
            if engine.get_document(*BOUNDS) != bounds_of(self.options):
                engine.put_document(*BOUNDS, bounds_of(self.options))
            self._jobs.start()

    @property
    def engine(self) -> Engine:
        """The engine below. Raises StoreClosed."""
        if self._closed:
            raise StoreClosed("the store is closed", hint="connect again")
        return self._engine

    # Tables

    def create_table(
        self,
        name: str,
        labels: Iterable[str] = (),
        fields: Mapping[str, str | pa.DataType] | None = None,
        *,
        duplicates: Duplicates = "overwrite",
        partition: str | int = "1d",
        retention: Retention | None = None,
    ) -> TableSchema:
        """Create a table; creating an equal one again is fine.

        Args:
            name: letters, digits, `_`, `.`, `-`; `samples` and `metrics` are taken.
            labels: names of the string columns that identify a series.
            fields: type name (`"float32"`, …) or Arrow type of each field.
            duplicates: what a second row of one (series, time) does: overwrite, ignore or reject.
            partition: width of one time slice, duration text or int µs; retention drops whole slices.
            retention: age or bytes that bound this table.

        Raises:
            SchemaError, InvalidInput: a name, type or policy that is none.
            AlreadyExists: there is a different table of that name.
        """
        schema = table_schema(name, labels, fields, duplicates, partition, retention)
        return self._written(lambda: self._tables.create(schema))

    def tables(self) -> dict[str, TableSchema]:
        """The schemas of all tables by name, as of now."""
        return dict(self.engine.tables())

    def set_retention(self, name: str, retention: Retention | None) -> None:
        """Replace what bounds a table; None leaves only the store-wide bounds. The next prune applies it."""
        self._written(lambda: self._tables.set_retention(name, retention))

    def drop_table(self, name: str) -> None:
        """Forget a table and its rows."""
        self._written(lambda: self.engine.drop_table(name))

    # Writing

    def write(self, table: str, data: Any) -> int:
        """Store rows; durable (see `StoreOptions.sync`) and visible when it returns.

        An unknown table is created: string columns are labels, the rest fields. Columns that the table lacks become
        new fields (a new string column too: labels are fixed when a table is created).

        Args:
            data: pyarrow Table, RecordBatch or RecordBatchReader, a pandas or Polars frame, or a dict of columns;
                `time` is required. A reader is stored batch by batch; anything else in steps of at most 64 MB, and
                only tables that reject duplicates take any size whole. Each step is durable by itself.

        Returns:
            Rows accepted, duplicates included.

        Raises:
            SchemaError: a column that cannot be stored, or values the stored type cannot hold exactly; names table,
                column and both types. Nothing of the step is stored.
            TimeError: `time` has a null, or is no time.
            DuplicateRows: the table's policy is reject.
            DiskFull, StorageError, ReadOnly: nothing of the step is stored.
        """
        return self._written(lambda: self._tables.write(table, data))

    def gauge(
        self,
        name: str,
        value: float,
        labels: Mapping[str, str] | None = None,
        time: Any = None,
        *,
        unit: str | None = None,
        help: str | None = None,
    ) -> None:
        """Store one value of a gauge; see `record` for many.

        Args:
            name: metric name, any non-empty text of at most 255 characters.
            value: float, or an int that float64 holds exactly; NaN (every payload) and infinities are kept.
            labels: label names to text; empty values mean the label is absent.
            time: None is now.
            unit, help: metadata of the metric, kept when given.

        Raises:
            InvalidInput: a name, label or value that is none, or a metric that is a counter.
        """
        self._written(lambda: self._metrics.one(Sample(name, value, labels or {}, time, "gauge"), unit, help))

    def counter(
        self,
        name: str,
        value: float,
        labels: Mapping[str, str] | None = None,
        time: Any = None,
        *,
        unit: str | None = None,
        help: str | None = None,
    ) -> None:
        """Store one reading of a counter: a total that only grows, except when it starts again. As `gauge`."""
        self._written(lambda: self._metrics.one(Sample(name, value, labels or {}, time, "counter"), unit, help))

    def record(self, samples: Iterable[Sample]) -> int:
        """Store many scalar samples in one step: all of them or none. Returns how many.

        Samples without a time share the moment of the call.
        """
        return self._written(lambda: self._metrics.record(samples))

    def describe(self, name: str, *, kind: str | None = None, unit: str | None = None, help: str | None = None) -> None:
        """Set metadata of a metric; None leaves what is there. Nothing is written when nothing changes."""
        self._written(lambda: self._metrics.describe(name, kind, unit, help))

    def metrics(self) -> list[dict[str, Any]]:
        """Every metric by name: name, kind, unit, help ("" where unknown) and series, its number of series."""
        self._check()
        return self._metrics.listing()

    def delete(self, table: str, labels: Labels = None, start: Any = None, end: Any = None) -> int:
        """Remove the selected rows for good; durable when it returns. Returns how many."""
        gone = _selection(table, labels, start, end, None)
        return self._written(lambda: self.engine.delete(table, gone.matchers, gone.start, gone.end))

    # Reading

    def sql(
        self, query: str, params: Mapping[str, Any] | None = None, *, limits: QueryLimits | None = None, **named: Any
    ) -> Result:
        """Run one read-only SQL statement.

        Args:
            params: values of `$name` placeholders; also as keywords: `sql("… WHERE gpu = $gpu", gpu="GPU-1")`.
            limits: time, memory and rows the query may take.

        Raises:
            QueryError: it cannot be planned or run, or writes.
            LimitExceeded: it took more than `limits`.
        """
        self._check()
        return self._sql_session().query(query, {**(params or {}), **named}, limits or QueryLimits())

    def promql(self, text: str, *, time: Any = None) -> PromResult:
        """Evaluate PromQL or MetricsQL at one time (anything that is a time; default now).

        Returns:
            A vector, matrix, scalar or string with labels, int64 µs times and float64 values; see `PromResult`.

        Raises:
            QueryError: the text is no query or cannot be evaluated. LimitExceeded: series, samples or seconds.
        """
        from kymograph.promql.engine import query_instant

        at = now_micros() if time is None else to_micros(time)
        return query_instant(self._series_source(), text, at)

    def promql_range(self, text: str, *, start: Any, end: Any, step: str | timedelta | int) -> PromResult:
        """Evaluate PromQL or MetricsQL at `start`, `start + step`, … up to `end`, both included; see `promql`.

        Args:
            step: duration text, timedelta or int µs.
        """
        from kymograph.promql.engine import query_range

        return query_range(self._series_source(), text, to_micros(start), to_micros(end), parse_duration(step))

    def scan(
        self,
        table: str,
        labels: Labels = None,
        start: Any = None,
        end: Any = None,
        columns: Iterable[str] | None = None,
        *,
        descending: bool = False,
    ) -> pa.Table:
        """The selected rows in memory, ascending in time (or descending); rows of one time are in label order.

        Args:
            columns: the columns to return, in this order; None is all of them.
        """
        return read_ordered(self.engine, _selection(table, labels, start, end, columns), descending=descending)

    def reader(
        self,
        table: str,
        labels: Labels = None,
        start: Any = None,
        end: Any = None,
        columns: Iterable[str] | None = None,
    ) -> pa.RecordBatchReader:
        """The selected rows as a stream in the order of `scan`, in bounded memory, however many there are.

        Rows written while it runs may or may not be in it; none is in it twice.
        """
        return stream(self.engine, _selection(table, labels, start, end, columns))

    def latest(self, table: str, labels: Labels = None) -> pa.Table:
        """The newest row of every selected series, all columns, in no particular order."""
        return self.engine.latest(table, matchers_of(labels))

    # Keeping house

    def prune(self, *, dry_run: bool = False, force: bool = False) -> PruneReport:
        """Apply age, byte and cap bounds now; report what went, or with `dry_run` what would go.

        Whole partitions go once all of their rows are out of bounds. With `force` the age bound is applied to the
        microsecond: rows beyond it inside a younger partition go too.
        """
        engine = self.engine
        if not isinstance(engine, Bounded):
            return PruneReport((), dry_run)
        return self._written(lambda: engine.prune(now=now_micros(), dry_run=dry_run, force=force))

    def seal(self, table: str | None = None) -> int:
        """Turn hot rows into blocks now. Returns rows sealed; 0 on an engine that has no blocks."""
        engine = self.engine
        return self._written(lambda: engine.seal(table)) if isinstance(engine, Maintained) else 0

    def compact(self, progress: Progress | None = None) -> int:
        """Merge small blocks; `progress(done, total)` counts blocks. Returns blocks removed net."""
        engine = self.engine
        return self._written(lambda: engine.compact(progress)) if isinstance(engine, Maintained) else 0

    def check(self, repair: bool = False, progress: Progress | None = None) -> CheckReport:
        """Verify everything stored; `repair` salvages every undamaged row of what is damaged."""
        engine = self.engine
        return engine.check(repair=repair, progress=progress) if isinstance(engine, Maintained) else CheckReport()

    def info(self) -> dict[str, Any]:
        """What is stored and how it is kept.

        Keys: path, engine, version, tables (by name: rows, series, oldest, newest, hot_rows, hot_bytes, sealed_bytes,
        bytes_per_value, blocks, partitions), rows, series, oldest, newest, usage_bytes, cap_bytes, age, next_prune,
        jobs (newest last: job, started, finished, ok, detail), notes (what was noticed at opening). Times are int µs,
        durations int µs, sizes bytes; None where there is no such thing.
        """
        return describe_store(self.engine, self.options, self.path, self._jobs)

    def healthy(self) -> dict[str, Any]:
        """`{"ok": bool, "reason": str}`: the last write's or background job's failure, until the next success."""
        if self._closed:
            return {"ok": False, "reason": "the store is closed"}
        background = self._engine.failure if isinstance(self._engine, Attended) else ""
        reason = self._write_failure or background or self._jobs.failure() or ""
        return {"ok": not reason, "reason": reason}

    def close(self) -> None:
        """Stop the background jobs and close the engine; everything accepted is durable. May be called twice."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._jobs.stop()
            self._engine.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<kymograph.Store {self.path}{' (closed)' if self._closed else ''}>"

    def _check(self) -> None:
        _ = self.engine

    def _written(self, work: Callable[[], _T]) -> _T:
        """Run something that writes, and remember whether the storage below took it."""
        self._check()
        try:
            result = work()
        except StoreClosed:
            raise
        except StorageError as problem:
            if self._closed:  # it was closed under a write in progress, which was not acknowledged
                raise StoreClosed("the store is closed", hint="connect again") from None
            self._write_failure = str(problem)
            raise
        self._write_failure = None
        return result

    def _sql_session(self) -> SqlSession:
        from kymograph.sql.session import SqlSession

        with self._session_lock:
            if self._session is None:
                self._session = SqlSession(self.engine)
            return self._session

    def _series_source(self) -> Source:
        from kymograph.promql.source import Source

        engine = self.engine
        with self._session_lock:
            if self._source is None:
                self._source = Source(engine)  # kept, because it holds the label index
            return self._source

    def _prune_job(self) -> Job:
        def run() -> str:
            report = self.prune()
            return f"{len(report.victims)} partitions, {report.rows} rows, {report.bytes} bytes removed"

        return Job("prune", self.options.prune_every, run)


def _selection(table: str, labels: Labels, start: Any, end: Any, columns: Iterable[str] | None) -> Selection:
    return Selection(
        table,
        matchers_of(labels),
        None if start is None else to_micros(start),
        None if end is None else to_micros(end),
        None if columns is None else (columns,) if isinstance(columns, str) else tuple(columns),
    )
