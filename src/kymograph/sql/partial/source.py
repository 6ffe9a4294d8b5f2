"""The dataset that a stand-in is: scans the real table, sums up its runs, and hands those to DataFusion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa

from kymograph.engine.interface import Scan, SeriesBatch
from kymograph.model.matcher import Matcher
from kymograph.model.time import TIME
from kymograph.sql.buckets import Floor
from kymograph.sql.dataset import Access, Fragment, Source, SourceDataset, filtered
from kymograph.sql.partial.measures import StandIn, Unfit
from kymograph.sql.partial.runs import by_series, summed
from kymograph.sql.partial.tier import RAW
from kymograph.sql.partial.tiers import Routed
from kymograph.sql.prune import Need

# What runs may take in memory, about; and how many there may be without each standing for a few rows.
_MOST_BYTES, _BYTES_PER_VALUE = 128 * 2**20, 8
_FEW_RUNS, _ROWS_PER_RUN = 50_000, 3

Part = Callable[[], Iterator[SeriesBatch]]
Route = Callable[..., Routed | None]
Make = Callable[[SeriesBatch], pa.RecordBatch]


class StandInSource:
    """A real table with the columns of its stand-in."""

    def __init__(self, source: Source, stand_in: StandIn) -> None:
        self._source = source
        self._measures = frozenset(stand_in.measures)
        self.schema = stand_in.schema
        self.labels = source.labels

    def scan(self, matchers: Sequence[Matcher], start: int | None, end: int | None, columns: Sequence[str]) -> Scan:
        """Rows of the real table; measures are left out."""
        return self._source.scan(matchers, start, end, [name for name in columns if name not in self._measures])


class StandInDataset(SourceDataset):
    """A stand-in during one query. Its rows are summed up when DataFusion asks for fragments."""

    def __init__(self, source: Source, stand_in: StandIn, access: Access, tiers: Route | None = None) -> None:
        super().__init__(StandInSource(source, stand_in), access)
        self._tiers = tiers
        self._stand_in = stand_in
        self._floor: Floor | None = None

    @property
    def table(self) -> str:
        """The real table's name."""
        return self._stand_in.table.name

    def group(self, floor: Floor | None) -> None:
        """Say to which bucket a time belongs, before DataFusion asks for fragments; None where that does not matter."""
        self._floor = floor

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
        if others != ({TIME} if floor else set()):
            raise Unfit
        read = others.union(labels, (measure.column for measure in measures.values()))
        names = [name for name in stand_in.table.columns if name in read]
        schema = pa.schema([self._schema.field(name) for name in columns])
        selection = self._need.selection
        routed = (
            self._tiers(stand_in.table.name, selection, labels, measures, floor, schema)
            if (self._tiers is not None and residual is None)
            else None
        )

        def make(batch: SeriesBatch) -> pa.RecordBatch:
            arrays = summed(batch, floor, measures)
            return pa.RecordBatch.from_arrays([arrays[name] for name in columns], schema=schema)

        self._access.tiers.update(dict.fromkeys((RAW,) if routed is None else routed.tiers))
        if routed is None:
            made = _Summing(self._access, make).run(_parts(self._scan(names, residual is None), labels, residual))
        else:
            self._access.approximate |= routed.approximate
            summing = _Summing(self._access, make)
            made = [routed.runs] if routed.runs.num_rows else []
            for start, end in routed.rest:
                scan = self._scan(names, True, replace(selection, start=start, end=end))
                made += summing.run(_parts(scan, labels, None))
        return Scan(schema, [lambda: iter(made)] if made else [], sum(batch.num_rows for batch in made))


def _parts(scan: Scan, labels: list[str], residual: Any) -> Sequence[Part]:
    parts = scan.by_series if residual is None else None
    return parts or [partial(_by_series, part, labels, residual) for part in scan.parts]


def _by_series(part: Callable[[], Iterator[pa.RecordBatch]], labels: list[str], residual: Any) -> Iterator[SeriesBatch]:
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
