"""Runs one SELECT over an engine: read-only, bounded in time, memory and rows, without access to anything but tables.

A query goes: tokens, parameters, our functions rewritten, logical plan, what each scan can be narrowed to, physical
plan over the engine's parts, rows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from datafusion import RuntimeEnvBuilder, SessionConfig, SessionContext, SQLOptions

from kymograph.engine.interface import Engine
from kymograph.errors import KymographError, LimitExceeded, QueryError
from kymograph.model.time import TIME
from kymograph.options import QueryLimits
from kymograph.sql import counters, filling, worker
from kymograph.sql.catalog import Catalog
from kymograph.sql.dataset import Access, SourceDataset
from kymograph.sql.failure import translated
from kymograph.sql.gapfill import Block, find_block
from kymograph.sql.parameters import bind, named
from kymograph.sql.prune import Key, selections
from kymograph.sql.result import Result
from kymograph.sql.rewrite import render
from kymograph.sql.tokens import Token, name_token, tokenize

_READS = frozenset(("select", "with", "values", "explain", "table"))
_CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
# Scalar functions that make much out of little, before any memory pool has a say.
_REFUSED = ("repeat", "lpad", "rpad", "array_repeat", "list_repeat", "array_resize", "list_resize", "range")
_OPTIONS = SQLOptions().with_allow_ddl(False).with_allow_dml(False).with_allow_statements(False)


class SqlSession:
    """SQL over one engine. Safe to use from many threads; queries share nothing but the engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._catalog = Catalog(engine)

    def query(
        self,
        text: str,
        params: Mapping[str, Any] | Sequence[Any] | None = None,
        limits: QueryLimits = QueryLimits(),  # noqa: B008  frozen
    ) -> Result:
        """Run one reading statement to its end.

        Args:
            text: SELECT, WITH, VALUES or EXPLAIN.
            params: values of `$name` in the text, or a sequence for `$1`, `$2`, …; text, int, float, bool, None,
                datetime, date, timedelta, or a list of these for `IN $list`.
            limits: time, memory (of the plan, and again of the result) and rows.

        Raises:
            QueryError: it cannot be planned or run, or is no reading statement.
            LimitExceeded: rows, time or memory.
        """
        run = _Run(self._engine, self._catalog, named(params), limits)
        try:
            return worker.run(lambda: run.all(text), limits.timeout, run.abandon)
        except TimeoutError:
            raise LimitExceeded(
                f"the query took longer than {limits.timeout:g} s", hint="narrow its time range"
            ) from None
        except KymographError:
            raise
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as problem:
            failure = run.access.failure
            if isinstance(failure, KymographError):
                raise failure from None
            raise translated(problem, limits, self._catalog.like) from None


@dataclass
class _Run:
    """One query on its way."""

    engine: Engine
    catalog: Catalog
    params: Mapping[str, Any]
    limits: QueryLimits
    access: Access = field(default_factory=Access)

    def abandon(self) -> None:
        self.access.cancelled = worker.Abandoned()

    def all(self, text: str) -> Result:
        tokens = tokenize(text)
        first = next((t for t in tokens if not t.is_punct("(")), tokens[0])
        if not first.is_word(*_READS):
            raise QueryError(
                f"{first.text[:40]!r} cannot begin a query", hint="only reading: SELECT, WITH, VALUES, EXPLAIN"
            )
        filled: dict[str, pa.Table] = {}
        while (block := find_block(tokens, self.params)) is not None:
            name = f"__gapfill_{len(filled)}"
            filled[name] = self._fill(tokens, block, filled)
            stand_in = [Token("word", "select", "SELECT"), Token("punct", "*", "*"), Token("word", "from", "FROM")]
            tokens = [*tokens[: block.begin], *stand_in, name_token(name), *block.tail, *tokens[block.end :]]
        schema, batches, _ = self._execute(tokens, filled)
        return Result(schema, batches)

    def _fill(self, tokens: list[Token], block: Block, filled: Mapping[str, pa.Table]) -> pa.Table:
        # WITH queries before it belong to the statement, so a block that is the main SELECT takes them along
        prefix = tokens[: block.begin] if tokens[0].is_word("with") and block.end == len(tokens) else []
        schema, batches, bounds = self._execute([*prefix, *block.inner], filled)
        rows = pa.Table.from_batches(batches, schema)
        start = bounds[0] if block.start is None else block.start
        finish = bounds[1] if block.finish is None else block.finish
        if start is None or finish is None:
            raise QueryError(
                "time_bucket_gapfill does not know its range",
                hint="add WHERE time >= … AND time < …, or give start and finish",
            )
        return filling.fill(rows, block.fills, block.width, start, finish)

    def _execute(
        self, tokens: Sequence[Token], extra: Mapping[str, pa.Table]
    ) -> tuple[pa.Schema, list[pa.RecordBatch], tuple[int | None, int | None]]:
        """Schema, batches, and the [start, end) that the scans were narrowed to, where they agree."""
        bound, values = bind(tokens, self.params)
        context = SessionContext(_config())
        for function in counters.functions():
            context.register_udf(function)
        for name in _REFUSED:
            context.deregister_udf(name)
        datasets = self.catalog.register(context, bound, self.access, extra)
        frame = context.sql_with_options(render(bound, self.params), _OPTIONS, param_values=values)
        plan = frame.optimized_logical_plan()
        bounds = self._narrow(plan, datasets, sum(t.is_word("select") for t in bound) > 1)
        runtime = RuntimeEnvBuilder().with_disk_manager_disabled().with_greedy_memory_pool(self.limits.memory)
        # the plan is optimized already: this context only turns it into a physical one
        executor = SessionContext(_config().set("datafusion.optimizer.max_passes", "0"), runtime)
        frame = executor.create_dataframe_from_logical_plan(plan)
        schema = frame.schema()
        return schema, self._collect(frame), bounds

    def _narrow(
        self, plan: Any, datasets: Mapping[Key, SourceDataset], subqueries: bool
    ) -> tuple[int | None, int | None]:
        def labels_of(key: Key) -> frozenset[str]:
            return datasets[key].labels if key in datasets else frozenset()

        timed = []
        for key, selection in selections(plan, labels_of, subqueries=subqueries).items():
            if key in datasets:
                datasets[key].selection = selection
                if TIME in datasets[key].labels:
                    timed.append((selection.start, selection.end))
        return timed[0] if len(set(timed)) == 1 else (None, None)

    def _collect(self, frame: Any) -> list[pa.RecordBatch]:
        batches: list[pa.RecordBatch] = []
        rows = size = 0
        for batch in frame.execute_stream():
            self.access.check()
            arrow = batch.to_pyarrow()
            rows += arrow.num_rows
            size += arrow.nbytes
            if self.limits.rows is not None and rows > self.limits.rows:
                raise LimitExceeded(f"the result has more than {self.limits.rows} rows", hint="add LIMIT, or aggregate")
            if size > self.limits.memory:
                raise LimitExceeded(
                    f"the result is larger than {self.limits.memory} bytes", hint="add LIMIT, or aggregate"
                )
            if arrow.num_rows:
                batches.append(arrow)
        return batches


def _config() -> SessionConfig:
    config = SessionConfig().with_target_partitions(_CPUS).with_information_schema(False)
    return config.set("datafusion.execution.time_zone", "+00:00")
