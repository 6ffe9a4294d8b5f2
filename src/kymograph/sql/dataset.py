"""Shows an engine's rows to DataFusion as a pyarrow dataset whose fragments are read in parallel.

DataFusion asks a dataset three things while it plans: the schema of a projection, the fragments (each becomes one
partition), and for every fragment a scanner. Filters it hands over are then ours to apply: it drops its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial, reduce
from operator import and_
from threading import Lock
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads

from kymograph.engine.interface import Scan
from kymograph.model.matcher import Matcher
from kymograph.model.time import TIME, micros_of
from kymograph.sql import worker
from kymograph.sql.prune import Need, Selection
from kymograph.sql.residual import filtered, present

# Upper bounds of rows up to which a scan narrowed by labels, or by time alone, is read before the plan runs.
_READ_AT_ONCE, _READ_SOME = 2_000_000, 600_000

Part = Callable[[], Iterator[pa.RecordBatch]]


class Source(Protocol):
    """Something with rows that SQL can name.

    Attributes:
        schema: Arrow schema of the whole.
        labels: columns that `scan` can narrow by a set of values; `time` among them if it can narrow by time.
    """

    @property
    def schema(self) -> pa.Schema: ...

    @property
    def labels(self) -> frozenset[str]: ...

    def scan(self, matchers: Sequence[Matcher], start: int | None, end: int | None, columns: Sequence[str]) -> Scan:
        """Rows that satisfy all of it; columns in the asked order."""


class Access:
    """What the fragments of one query share: its selections, its cancellation, and the first engine error.

    DataFusion turns an exception into text on its way; `failure` keeps the real one for the caller.
    """

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        # what was read: "raw", or tables of summaries; and whether rows that are gone were left out
        self.tiers: dict[str, None] = {}
        self.approximate = False
        # whether there were summaries whose rows may be gone
        self.alone = False
        self.cancelled: BaseException | None = None

    def miss(self, upto: int | None, start: int | None) -> None:
        """Take note that samples up to a time (None: none) have been replaced where the statement reads samples from `start` on."""
        self.approximate |= upto is not None and (start is None or start <= upto)

    def restart(self) -> None:
        """Forget a first attempt; without its summaries, what only they have is missing."""
        self.failure = None
        self.tiers.clear()
        self.approximate, self.alone = self.alone, False

    def check(self) -> None:
        if self.cancelled is not None:
            raise self.cancelled

    def fail(self, problem: BaseException) -> None:
        if self.failure is None and not isinstance(problem, GeneratorExit):
            self.failure = problem


class SourceDataset(pads.Dataset):  # type: ignore[misc]
    """One source during one query."""

    def __init__(self, source: Source, access: Access) -> None:  # the C++ half stays empty on purpose
        self._source = source
        self._access = access
        self._schema = source.schema
        self._columns: list[str] = []
        self._projected = self._schema
        self._need = Need(Selection())
        self._prepared: tuple[list[str], Scan] | None = None
        self._partitions = 1

    @property
    def labels(self) -> frozenset[str]:
        return self._source.labels

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    def narrow(self, need: Need) -> int:
        """Say what the plan needs, before DataFusion asks for fragments.

        Returns:
            At most how many rows one scan yields.
        """
        self._need = need
        if need.columns is None:
            return self.most_rows()
        scan = self._first_rows(need, *need.first) if need.first and need.selection.exact else None
        if scan is None:
            scan = self._scan(need.columns, need.selection.exact)
            if scan.rows <= (_READ_AT_ONCE if need.selection.labels else _READ_SOME if need.selection.timed else 0):
                scan = _read(scan)
        self._prepared = (need.columns, scan)
        return scan.rows

    def _first_rows(self, need: Need, rows: int, newest: bool) -> Scan | None:
        """The rows as new (or old) as the first `rows` by time: times are read of all, the rest of a few.

        None where that does not pay, or somebody has deleted rows in between.
        """
        kept = np.empty(0, np.int64)
        for batch in self._scan([TIME], True).batches():
            self._access.check()
            kept = np.concatenate((kept, micros_of(batch.column(TIME))))
            if len(kept) > rows > 0:
                place = len(kept) - rows if newest else rows - 1
                kept = np.partition(kept, place)
                kept = kept[place:] if newest else kept[:rows]
        if not 0 < rows == len(kept):
            return None
        whole = need.selection
        near = replace(whole, start=int(kept.min())) if newest else replace(whole, end=int(kept.max()) + 1)
        scan = self._scan(need.columns or [], True, near)
        if scan.rows > _READ_AT_ONCE:
            return None
        scan = _read(scan)
        return scan if scan.rows >= rows else None

    def most_rows(self) -> int:
        """At most how many rows one scan of the plan yields."""
        prepared = self._prepared
        return (prepared[1] if prepared else self._scan([], self._need.selection.exact)).rows

    def divide(self, partitions: int) -> None:
        """Into how many fragments a scan may be divided."""
        self._partitions = partitions

    def scanner(self, columns: Sequence[str] | None = None, filter: Any = None) -> _Projection:
        # DataFusion asks for the fragments right after this, in the same breath; only here does it name the columns
        self._columns = self._schema.names if columns is None else list(columns)
        self._projected = pa.schema([self._schema.field(name) for name in self._columns])
        return _Projection(self._projected)

    def get_fragments(self, filter: Any = None) -> Iterator[Fragment]:
        self._access.check()
        residual = self._residual(filter)
        prepared, self._prepared = self._prepared, None  # the parts of a scan can be read once
        if prepared is not None and prepared[0] == self._columns:
            scan = prepared[1]
        else:
            scan = self._scan(self._columns, residual is None)
        columns = self._columns
        return self._fragments(scan, lambda: self._scan(columns, residual is None), residual)

    def _residual(self, filter: Any) -> Any:
        """What is left of a filter to apply to the rows of a scan: a pyarrow expression, or None."""
        if self._need.selection.exact:
            return None
        if filter is None:
            return None
        # one that DataFusion could work out beforehand comes as a plain value
        given = filter.as_py() if isinstance(filter, pa.Scalar) else filter
        whole = given if isinstance(given, pads.Expression) else pads.scalar(given)
        return reduce(and_, present(self._need.selection), whole)

    def _fragments(self, scan: Scan, again: Callable[[], Scan], residual: Any) -> Iterator[Fragment]:
        rounds = _Rounds(scan, again)
        first = self._need.first
        fragments = max(1, min(self._partitions, len(scan.parts)))
        return iter([Fragment(self._projected, rounds, residual, first, self._access) for _ in range(fragments)])

    def _scan(self, columns: Sequence[str], exact: bool, selection: Selection | None = None) -> Scan:
        wanted, selection = list(columns), selection or self._need.selection
        if not exact:
            read = selection.columns
            needed = set(self._schema.names) if read is None else read
            wanted += [name for name in self._schema.names if name in needed and name not in columns]
        try:
            # a scan of no column at all still has to count its rows
            return self._source.scan(selection.matchers, selection.start, selection.end, wanted or [TIME])
        except BaseException as problem:
            self._access.fail(problem)
            raise


def _read(scan: Scan) -> Scan:
    """A scan of few rows, read here and now: how many is known then, and no thread has to be woken for them."""
    batches = list(scan.batches())
    parts = [partial(iter, (batch,)) for batch in batches]
    return Scan(scan.schema, parts, sum(batch.num_rows for batch in batches))


class _Projection:
    def __init__(self, schema: pa.Schema) -> None:
        self.projected_schema = schema


class _Rounds:
    """The parts of a scan, shared by its fragments: who is done with one takes the next.

    A plan is usually executed once. The recursive half of a WITH RECURSIVE is executed again and again, and every
    round needs all rows: from the second on, the source is scanned anew.
    """

    def __init__(self, scan: Scan, again: Callable[[], Scan]) -> None:
        self._rounds = [deque(scan.parts)]
        self._again = again
        self._lock = Lock()

    def parts(self, number: int) -> deque[Part]:
        with self._lock:
            if number == len(self._rounds):
                self._rounds.append(deque(self._again().parts))
            return self._rounds[number]


class Fragment:
    """One partition of the plan."""

    def __init__(
        self, schema: pa.Schema, rounds: _Rounds, residual: Any, first: tuple[int, bool] | None, access: Access
    ) -> None:
        self.projected_schema = schema
        self._rounds = rounds
        self._executed = 0
        self._residual = residual
        self._first = first
        self._access = access

    def scanner(
        self, schema: pa.Schema, columns: Sequence[str] | None = None, filter: Any = None, batch_size: int = 0
    ) -> Fragment:
        # `columns` and `filter` repeat what the dataset was asked for when it made this fragment
        return self

    def to_batches(self) -> Iterator[pa.RecordBatch]:
        number, self._executed = self._executed, self._executed + 1
        return self._batches(number)

    def _batches(self, number: int) -> Iterator[pa.RecordBatch]:
        names = self.projected_schema.names
        try:
            with worker.shielded():
                parts = self._rounds.parts(number)
            while parts:
                try:
                    part = parts.popleft()
                except IndexError:  # a sibling was faster
                    return
                for batch in _undisturbed(part):
                    self._access.check()
                    if self._residual is not None:
                        batch = filtered(batch, self._residual)
                    if self._first is not None and batch.num_rows > self._first[0]:
                        batch = _first_by_time(batch, *self._first)
                    if batch.num_rows:
                        yield batch if batch.schema.names == names else batch.select(names)
        except BaseException as problem:
            self._access.fail(problem)
            raise


def _undisturbed(part: Part) -> Iterator[pa.RecordBatch]:
    """The part's batches; the engine's own code is not interrupted while it makes one."""
    with worker.shielded():
        batches = part()
    while True:
        with worker.shielded():
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def _first_by_time(batch: pa.RecordBatch, rows: int, newest: bool) -> pa.RecordBatch:
    """The `rows` newest (or oldest) rows and all that tie with the last of them: no other can be in the answer."""
    times = micros_of(batch.column(TIME))
    if newest:
        keep = times >= np.partition(times, len(times) - rows)[len(times) - rows] if rows else times != times
    else:
        keep = times <= np.partition(times, rows - 1)[rows - 1] if rows else times != times
    kept = np.flatnonzero(keep)
    if len(kept) and kept[-1] - kept[0] + 1 == len(kept):  # so it is within one series; nothing to copy
        return batch.slice(kept[0], len(kept))
    return batch.take(pa.array(kept))
