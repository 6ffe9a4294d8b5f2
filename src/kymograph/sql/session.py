"""Runs one SELECT over an engine: read-only, bounded in time, memory and rows, without access to anything but tables.

A query goes: tokens, parameters, our functions rewritten, logical plan, what each scan can be narrowed to, physical
plan over the engine's parts, rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from datafusion import SQLOptions

from kymograph.engine.interface import Engine
from kymograph.errors import KymographError, LimitExceeded, QueryError
from kymograph.model.schema import SAMPLES, TableSchema
from kymograph.model.time import TIME
from kymograph.options import QueryLimits
from kymograph.sql import filling, worker
from kymograph.sql.catalog import Catalog
from kymograph.sql.contexts import CPUS, planning, running
from kymograph.sql.dataset import Access, SourceDataset
from kymograph.sql.failure import translated
from kymograph.sql.gapfill import Block, find_block
from kymograph.sql.growth import check_growth
from kymograph.sql.joins import check_joins
from kymograph.sql.metrics import METRIC
from kymograph.sql.newest import with_newest
from kymograph.sql.parameters import bind, named
from kymograph.sql.partial.blocks import rewrite
from kymograph.sql.partial.measures import NeverFit, StandIn, Unfit
from kymograph.sql.partial.shape import keys_of
from kymograph.sql.partial.source import StandInDataset
from kymograph.sql.partial.tier import RAW, TierKeeper
from kymograph.sql.prune import Key, Need, needs
from kymograph.sql.residual import agreed
from kymograph.sql.result import Result, Stream
from kymograph.sql.rewrite import Rewriter
from kymograph.sql.sources import HeldSource
from kymograph.sql.tokens import Token, name_token, tokenize

_EXPLAIN = ("explain", "analyze", "verbose")
_READS = ("select", "with", "values")
# The optimizer's second and third pass find nothing in a statement that joins nothing and has but a few SELECTs.
_SIMPLE_PASSES, _PASSES = 1, 3
_FEW_SELECTS = 4
_MOST_UNFIT = 256
# Rows up to which one thread is done before two have begun.
_SMALL = 32_768
# Takes batches; first of all the schema where they are streamed.
Put = Callable[[Any], None]
_OPTIONS = SQLOptions().with_allow_ddl(False).with_allow_dml(False).with_allow_statements(False)


class SqlSession:
    """SQL over one engine. Safe to use from many threads; queries share nothing but the engine.

    Attributes:
        tiers: who knows the rollups that can answer; None where there are none.
    """

    tiers: TierKeeper | None = None

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._catalog = Catalog(engine)
        # statements that looked fit for sums before SQL and are not; planning those twice once is enough
        self._unfit: set[str] = set()

    def query(
        self,
        text: str,
        params: Mapping[str, Any] | Sequence[Any] | None = None,
        limits: QueryLimits = QueryLimits(),  # noqa: B008  frozen
        tables: Mapping[str, pa.Table] | None = None,
    ) -> Result:
        """Run one reading statement to its end.

        Args:
            text: SELECT, WITH, VALUES or EXPLAIN.
            params: values of `$name` in the text, or a sequence for `$1`, `$2`, …; text, int, float, bool, None,
                datetime, date, timedelta, or a list of these for `IN $list`.
            limits: time, memory (of the plan, and again of the result) and rows.
            tables: stand in for what the engine has of these names; times in such a statement are whole seconds.

        Raises:
            QueryError: it cannot be planned or run, or is no reading statement.
            LimitExceeded: rows, time or memory.
        """
        run = self._run(params, limits, tables)
        with self._told(run):
            return worker.run(lambda: run.all(text), limits.timeout, run.abandon)

    def stream(
        self,
        text: str,
        params: Mapping[str, Any] | Sequence[Any] | None = None,
        limits: QueryLimits = QueryLimits(),  # noqa: B008  frozen
    ) -> Stream:
        """As `query`, with rows as they come: only a few batches are held, and `limits.memory` is the plan's alone.

        The time limit counts waiting for rows, not what the caller does with them. Returns with the first rows; what
        fails later is raised amid them.
        """
        run = self._run(params, limits, None)
        items = self._items(run, worker.flow(lambda put: run.each(text, put), limits.timeout, run.abandon))
        return Stream(next(items), items)

    def _run(
        self,
        params: Mapping[str, Any] | Sequence[Any] | None,
        limits: QueryLimits,
        tables: Mapping[str, pa.Table] | None,
    ) -> _Run:
        return _Run(self._engine, self._catalog, named(params), limits, tables or {}, self._unfit, self.tiers)

    def _items(self, run: _Run, flow: Iterator[Any]) -> Iterator[Any]:
        with self._told(run):
            yield from flow

    @contextmanager
    def _told(self, run: _Run) -> Iterator[None]:
        """What goes wrong inside, as a KymographError that says it in the words of the statement."""
        limits = run.limits
        try:
            yield
        except TimeoutError:
            raise LimitExceeded(
                f"the query took longer than {limits.timeout:g} s", hint="narrow its time range"
            ) from None
        except KymographError:
            raise
        except (KeyboardInterrupt, SystemExit, MemoryError, GeneratorExit):
            raise
        except BaseException as problem:
            failure = run.access.failure
            if isinstance(failure, KymographError):
                raise failure from None
            raise translated(problem, limits, self._catalog.like) from None


@dataclass(frozen=True)
class _Answer:
    """What a statement gives beside its rows; `bounds` is the [start, end) that its scans were narrowed to, where they agree."""

    schema: pa.Schema
    bounds: tuple[int | None, int | None]


@dataclass
class _Run:
    """One query on its way."""

    engine: Engine
    catalog: Catalog
    params: Mapping[str, Any]
    limits: QueryLimits
    tables: Mapping[str, pa.Table]
    unfit: set[str]
    tiers: TierKeeper | None = None
    access: Access = field(default_factory=Access)
    text: str = ""

    def abandon(self) -> None:
        self.access.cancelled = worker.Abandoned()

    def all(self, text: str) -> Result:
        batches: list[pa.RecordBatch] = []
        answer = self._execute(*self._prepared(text), batches.append)
        return Result(answer.schema, batches, tuple(self.access.tiers) or (RAW,), self.access.approximate)

    def each(self, text: str, put: Put) -> None:
        """Put the schema, then every batch, as they come."""
        self._execute(*self._prepared(text), put, streamed=True)

    def _prepared(self, text: str) -> tuple[Sequence[Token], dict[str, pa.Table]]:
        """The statement, its gap-filling SELECTs replaced by tables that hold their rows."""
        self.text = text
        tokens: Sequence[Token] = tokenize(text)
        _only_reading(tokens)
        check_growth(tokens, self.params)
        filled = dict(self.tables)
        while (block := find_block(tokens, self.params)) is not None:
            name = f"__gapfill_{len(filled)}"
            filled[name] = self._fill(tokens, block, filled)
            stand_in = [Token("word", "select", "SELECT"), Token("punct", "*", "*"), Token("word", "from", "FROM")]
            tokens = [*tokens[: block.begin], *stand_in, name_token(name), *block.tail, *tokens[block.end :]]
        return tokens, filled

    def _look_for_replaced(self, datasets: Mapping[Key, SourceDataset], start: int | None) -> None:
        """Samples that were replaced by summaries are not in what reads rows of samples."""
        if self.tiers is not None and any(key[0] == METRIC or key == ("", SAMPLES) for key in datasets):
            self.access.miss(self.tiers.replaced_upto(), start)

    def _fill(self, tokens: Sequence[Token], block: Block, filled: Mapping[str, pa.Table]) -> pa.Table:
        # WITH queries before it belong to the statement, so a block that is the main SELECT takes them along
        prefix = list(tokens[: block.begin]) if tokens[0].is_word("with") and block.end == len(tokens) else []
        batches: list[pa.RecordBatch] = []
        answer = self._execute([*prefix, *block.inner], filled, batches.append)
        rows = pa.Table.from_batches(batches, answer.schema)
        start = answer.bounds[0] if block.start is None else block.start
        finish = answer.bounds[1] if block.finish is None else block.finish
        if start is None or finish is None:
            raise QueryError(
                "time_bucket_gapfill does not know its range",
                hint="add WHERE time >= … AND time < …, or give start and finish",
            )
        return filling.fill(rows, block.fills, block.width, start, finish)

    def _execute(
        self, tokens: Sequence[Token], extra: Mapping[str, pa.Table], put: Put, *, streamed: bool = False
    ) -> _Answer:
        bound, values = bind(tokens, self.params)
        own = {name: schema for name, schema in self.engine.tables().items() if name not in extra}
        bound, values = with_newest(bound, values, lambda name: self._span(own.get(name)))
        rewritten = None
        if self.text not in self.unfit:
            whole = self.tiers is not None and self.tiers.summarises()
            rewritten = rewrite(bound, lambda key: self._columns(own, *key), whole=whole)
        never = False
        if rewritten is not None:
            try:
                return self._answer(rewritten.tokens, values, extra, rewritten.tables, put, streamed)
            except Exception as problem:
                # DataFusion passes on no exception as it was
                if not isinstance(problem, Unfit) and not isinstance(self.access.failure, Unfit):
                    raise
                never = isinstance(problem, NeverFit)
                self.access.restart()
        answer = self._answer(bound, values, extra, {}, put, streamed)
        if never:  # not what fails either way: it may fit once a table has the column that it names
            if len(self.unfit) == _MOST_UNFIT:
                self.unfit.clear()
            self.unfit.add(self.text)
        return answer

    def _columns(self, own: Mapping[str, TableSchema], schema: str, name: str) -> TableSchema | None:
        """What a table or the view of a metric looks like."""
        return self.catalog.metric(name) if schema == METRIC else None if schema else own.get(name)

    def _span(self, table: TableSchema | None) -> tuple[int, int] | None:
        """Oldest and newest time of a table, where the engine knows."""
        # rings add their own to the rows of a table by series
        return None if table is None or table.by_series else self.engine.scan(table.name, columns=(TIME,)).span

    def _answer(
        self,
        tokens: Sequence[Token],
        values: dict[str, pa.Scalar],
        extra: Mapping[str, pa.Table],
        stand_ins: Mapping[str, StandIn],
        put: Put,
        streamed: bool,
        pushed: bool = True,
    ) -> _Answer:
        rewriter = Rewriter(self.params, seconds=bool(self.tables))
        text = rewriter.render(tokens)
        selects, joins = sum(t.is_word("select") for t in tokens), _joins(tokens)
        with planning(_PASSES if joins or selects > _FEW_SELECTS else _SIMPLE_PASSES, pushed) as planner:
            planner.add_functions(rewriter.functions.values())
            held = {name: SourceDataset(HeldSource(rows), self.access) for name, rows in extra.items()}
            summing = {
                name: StandInDataset(self.catalog.source(one.key), one, self.access, self.tiers)
                for name, one in stand_ins.items()
            }
            datasets = self.catalog.register(planner, tokens, self.access, held | summing)
            try:
                plan = planner.context.sql_with_options(text, _OPTIONS, param_values=values).optimized_logical_plan()
            except Exception as problem:
                # the error to tell is that of the statement as it was written
                raise (NeverFit() if stand_ins else problem) from None
            for name, (bucket, labels) in keys_of(plan, stand_ins, rewriter.floors).items():
                summing[name].group(rewriter.floors.get(bucket), labels)
            asked = _asked(plan, datasets, subqueries=selects > 1)
            if pushed and not all(map(agreed, asked.values())):
                if stand_ins:
                    raise Unfit
                # DataFusion applies the filters itself
                return self._answer(tokens, values, extra, stand_ins, put, streamed, pushed=False)
            rows, bounds = _narrow(asked, datasets)
            self._look_for_replaced(datasets, bounds[0])
            if joins or selects > 1:
                check_joins(plan, lambda key: datasets[key].most_rows() if key in datasets else None)
            partitions = 1 if rows <= _SMALL else CPUS
            for dataset in datasets.values():
                dataset.divide(partitions)
            with running(self.limits.memory, partitions) as context:
                running_frame = context.create_dataframe_from_logical_plan(plan)
                schema = running_frame.schema()
                # sums before SQL are made here, and nothing is put before they are known to fit
                if 0 < rows <= _SMALL and selects == 1 and not joins and not any(t.value == "unnest" for t in tokens):
                    # one SELECT of few rows yields no more than those, so they come at one go
                    batches = iter(running_frame.collect())
                else:
                    batches = iter(running_frame.execute_stream())
                if streamed:
                    put(schema)
                self._hand_over(batches, put, None if streamed else self.limits.memory)
        return _Answer(schema, bounds)

    def _hand_over(self, stream: Iterator[Any], put: Put, most: int | None) -> None:
        """Put the batches, which may hold `most` bytes in all."""
        rows = size = 0
        while True:
            with worker.exposed():
                batch = next(stream, None)
            if batch is None:
                return
            self.access.check()
            arrow = batch if isinstance(batch, pa.RecordBatch) else batch.to_pyarrow()
            rows += arrow.num_rows
            size += arrow.nbytes
            if self.limits.rows is not None and rows > self.limits.rows:
                raise LimitExceeded(f"the result has more than {self.limits.rows} rows", hint="add LIMIT, or aggregate")
            if most is not None and size > most:
                raise LimitExceeded(f"the result is larger than {most} bytes", hint="add LIMIT, or aggregate")
            if arrow.num_rows:
                put(arrow)


def _only_reading(tokens: Sequence[Token]) -> None:
    # DataFusion refuses all else too; this says so in fewer words, and before EXPLAIN gets to look at a target file
    begin = 0
    while begin < len(tokens) and (
        tokens[begin].is_punct("(") or (tokens[0].is_word("explain") and tokens[begin].is_word(*_EXPLAIN))
    ):
        begin += 1
    if begin == len(tokens) or not tokens[begin].is_word(*_READS):
        first = tokens[min(begin, len(tokens) - 1)]
        raise QueryError(
            f"{first.text[:40]!r} cannot begin a query", hint="only SELECT, WITH, VALUES and EXPLAIN of them"
        )


def _joins(tokens: Sequence[Token]) -> bool:
    """Whether a SELECT of the statement names more than one table."""
    return any(t.is_word("join") or (t.clause == "from" and t.is_punct(",")) for t in tokens)


def _asked(plan: Any, datasets: Mapping[Key, SourceDataset], *, subqueries: bool) -> dict[Key, Need]:
    """What the plan needs of each dataset."""

    def labels_of(key: Key) -> frozenset[str]:
        return datasets[key].labels if key in datasets else frozenset()

    return {key: need for key, need in needs(plan, labels_of, subqueries=subqueries).items() if key in datasets}


def _narrow(
    asked: Mapping[Key, Need], datasets: Mapping[Key, SourceDataset]
) -> tuple[int, tuple[int | None, int | None]]:
    """At most how many rows the scans of all tables yield; and the time range they agree on."""
    rows = 0
    ranges = set()
    for key, need in asked.items():
        rows += datasets[key].narrow(need)
        if TIME in datasets[key].labels:
            ranges.add(need.selection.bounds)
    return rows, ranges.pop() if len(ranges) == 1 else (None, None)
