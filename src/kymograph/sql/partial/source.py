"""The dataset that a stand-in is: scans the real table, sums up its runs, and hands those to DataFusion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from kymograph.engine.interface import Scan, SeriesBatch
from kymograph.model.matcher import Matcher
from kymograph.model.schema import SAMPLES
from kymograph.model.time import TIME
from kymograph.sql.buckets import Floor
from kymograph.sql.dataset import Access, Fragment, SourceDataset
from kymograph.sql.metrics import MetricSource
from kymograph.sql.partial.groups import grouped, is_grouped, within_runs
from kymograph.sql.partial.measures import StandIn, Unfit
from kymograph.sql.partial.replaced import answered
from kymograph.sql.partial.runs import by_series, summed
from kymograph.sql.partial.tier import RAW, TierKeeper
from kymograph.sql.partial.tiers import Asked, Rest
from kymograph.sql.prune import Need
from kymograph.sql.residual import filtered
from kymograph.sql.sources import TableSource

# What runs may take in memory, about; and how many there may be without each standing for a few rows.
_MOST_BYTES, _BYTES_PER_VALUE = 128 * 2**20, 8
_FEW_RUNS, _ROWS_PER_RUN = 50_000, 3

Part = Callable[[], Iterator[SeriesBatch]]
Make = Callable[[SeriesBatch], pa.RecordBatch]


class StandInSource:
    """A real table with the columns of its stand-in."""

    def __init__(self, source: TableSource | MetricSource, stand_in: StandIn) -> None:
        self._source = source
        self._measures = frozenset(stand_in.measures)
        self.schema = stand_in.schema
        self.labels = source.labels

    def scan(self, matchers: Sequence[Matcher], start: int | None, end: int | None, columns: Sequence[str]) -> Scan:
        """Rows of the real table; measures are left out."""
        return self._source.scan(matchers, start, end, [name for name in columns if name not in self._measures])


class StandInDataset(SourceDataset):
    """A stand-in during one query. Its rows are summed up when DataFusion asks for fragments."""

    def __init__(
        self, source: TableSource | MetricSource, stand_in: StandIn, access: Access, keeper: TierKeeper | None = None
    ) -> None:
        super().__init__(StandInSource(source, stand_in), access)
        self._real, self._keeper = source, keeper
        self._stand_in = stand_in
        self._floor: Floor | None = None
        self._grouped: frozenset[str] = frozenset()

    def group(self, floor: Floor | None, labels: frozenset[str]) -> None:
        """Say what is grouped by, before DataFusion asks for fragments: to which bucket a time belongs (None: that does not
        matter), and labels."""
        self._floor, self._grouped = floor, labels

    def narrow(self, need: Need) -> int:
        """Say what the plan needs. Returns 0: few rows come out."""
        self._need = Need(need.selection)
        return 0

    def get_fragments(self, filter: Any = None) -> Iterator[Fragment]:
        self._access.check()
        residual, columns = self._residual(filter), self._columns

        def runs() -> Scan:
            try:
                return self._runs(columns, residual)
            except BaseException as problem:
                self._access.fail(problem)
                raise

        return self._fragments(runs(), runs, None)

    def _runs(self, columns: list[str], residual: Any) -> Scan:
        stand_in, floor = self._stand_in, self._floor
        measures = {name: measure for name, measure in stand_in.measures.items() if name in columns}
        labels = [name for name in columns if name in stand_in.table.labels]
        others = set(columns) - set(measures) - set(labels)
        keys = {TIME} if floor else set()
        if others != keys:
            raise Unfit
        schema = wanted = pa.schema([self._schema.field(name) for name in columns])
        all_runs = is_grouped(measures)
        if all_runs:
            # what a group is has to show in the runs
            if self._grouped != set(labels):
                raise Unfit
            measures = within_runs(stand_in, measures)
            more = [pa.field(name, measures[name].type) for name in measures if name not in columns]
            wanted = pa.schema([*schema, *more])
        read = others.union(labels, (measure.column for measure in measures.values()), (TIME,) if all_runs else ())
        names = [name for name in stand_in.table.columns if name in read]

        def make(batch: SeriesBatch) -> pa.RecordBatch:
            arrays = summed(batch, floor, measures)
            return pa.RecordBatch.from_arrays([arrays[name] for name in wanted.names], schema=wanted)

        asked = Asked(self._need.selection, labels, measures, floor, wanted)
        while True:
            # samples may be replaced while they are read: then what was read is not all, or too much
            before = self._changes()
            made = self._made(asked, names, residual, make)
            if self._changes() == before:
                made = grouped(made, [*labels, *keys], stand_in, schema) if all_runs else made
                return Scan(schema, [partial(iter, made)] if made else [], sum(batch.num_rows for batch in made))

    def _changes(self) -> object:
        scalar = self._keeper is not None and self._real.table == SAMPLES
        return self._keeper.changes() if self._keeper is not None and scalar else None

    def _made(self, asked: Asked, names: list[str], residual: Any, make: Make) -> list[pa.RecordBatch]:
        access, keeper = self._access, self._keeper
        routed = answered(keeper, self._real, asked) if keeper is not None and residual is None else None
        summing = _Summing(access, make)
        if routed is None and is_grouped(asked.measures):
            raise Unfit
        if routed is None:
            access.tiers.setdefault(RAW)
            if self._real.table == SAMPLES and keeper is not None and residual is not None:
                access.miss(keeper.replaced_upto(), asked.selection.start)
            return summing.run(_parts(self._scan(names, residual is None), asked.labels, residual))
        access.tiers.update(dict.fromkeys(routed.tiers))
        access.approximate |= routed.approximate
        access.alone |= routed.alone
        made = [runs for runs in routed.runs if runs.num_rows]
        for rest in routed.rest:
            made += summing.run(_parts(self._rest(asked, rest, names), asked.labels, None))
        return made

    def _rest(self, asked: Asked, rest: Rest, names: list[str]) -> Scan:
        wanted = names or [TIME]
        if rest.ids is not None:
            return self._real.of_series(rest.ids, rest.start, rest.end, wanted)
        return self._real.scan(asked.selection.matchers, rest.start, rest.end, wanted)


def _parts(scan: Scan, labels: Sequence[str], residual: Any) -> Sequence[Part]:
    parts = scan.by_series if residual is None else None
    return parts or [partial(_by_series, part, labels, residual) for part in scan.parts]


def _by_series(
    part: Callable[[], Iterator[pa.RecordBatch]], labels: Sequence[str], residual: Any
) -> Iterator[SeriesBatch]:
    for batch in part():
        kept = batch if residual is None else filtered(batch, residual)
        if kept.num_rows:
            yield by_series(kept, labels)


class _Summing:
    """The parts of one scan on their way, one after the other: each step is so short that threads would mostly wait for
    each other's interpreter lock (measured: no gain from two)."""

    def __init__(self, access: Access, make: Make) -> None:
        self._access = access
        self._make = make
        self._rows = self._runs = 0

    def run(self, parts: Iterable[Part]) -> list[pa.RecordBatch]:
        made: list[pa.RecordBatch] = []
        for part in parts:
            for batch in part():
                self._access.check()
                made.append(self._make(batch))
                self._count(len(batch.times), made[-1])
        return made

    def _count(self, rows: int, made: pa.RecordBatch) -> None:
        """Give up where runs are about as many as rows: DataFusion is as fast then, and takes less memory."""
        self._rows += rows
        self._runs += made.num_rows
        many = self._runs > _FEW_RUNS and self._runs * _ROWS_PER_RUN > self._rows
        if many or self._runs * made.num_columns * _BYTES_PER_VALUE > _MOST_BYTES:
            raise Unfit
