"""DataFusion contexts, made once and lent to one query at a time; making one costs a tenth of a short query.

A planning context knows the tables and functions of the query that holds it, and forgets them when given back. A running
context only turns an optimized plan into a physical one; it owns the memory pool.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Lock

from datafusion import RuntimeEnvBuilder, ScalarUDF, SessionConfig, SessionContext
from datafusion.catalog import Schema

from kymograph.sql import ring_functions

CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_KEPT = 8
# Scalar functions that make much out of little, before any memory pool has a say. The table functions range and
# generate_series stay: they yield batch by batch.
_REFUSED = (
    *("repeat", "lpad", "rpad", "array_repeat", "list_repeat", "array_resize", "list_resize"),
    *("range", "generate_series", "gen_series"),
)
_DEFAULT = "public"
_ONE_BATCH = 65_536

_lock = Lock()
_planning: dict[tuple[int, bool], list[SessionContext]] = {}
_running: dict[tuple[int, int], list[SessionContext]] = {}


class Planner:
    """A planning context while one query holds it."""

    def __init__(self, context: SessionContext) -> None:
        self.context = context
        self._catalog = context.catalog()
        self._schemas = {"": self._catalog.schema(_DEFAULT)}
        self._functions: list[str] = []

    def schema(self, name: str) -> Schema:
        if name not in self._schemas:
            self._schemas[name] = Schema.memory_schema()
            self._catalog.register_schema(name, self._schemas[name])
        return self._schemas[name]

    def add_functions(self, functions: Iterable[ScalarUDF]) -> None:
        for function in functions:
            self.context.register_udf(function)
            self._functions.append(function.name)

    def clear(self) -> None:
        for name in self._functions:
            self.context.deregister_udf(name)
        for name, schema in self._schemas.items():
            if name:
                self._catalog.deregister_schema(name)
            else:
                for table in schema.table_names():
                    schema.deregister_table(table)


@contextmanager
def planning(passes: int, pushed: bool) -> Iterator[Planner]:
    """A context to plan in. After a failure it is thrown away.

    Args:
        passes: how often the optimizer may go over the plan.
        pushed: whether the scans are given filters to apply.
    """
    with _lock:
        kept = _planning.setdefault((passes, pushed), [])
        context = kept.pop() if kept else None
    planner = Planner(context or _planning_context(passes, pushed))
    yield planner
    planner.clear()
    with _lock:
        if len(kept) < _KEPT:
            kept.append(planner.context)


@contextmanager
def running(memory: int, partitions: int) -> Iterator[SessionContext]:
    """A context to run an optimized plan in, with a memory pool of its own of so many bytes."""
    with _lock:
        kept = _running.setdefault((memory, partitions), [])
        context = kept.pop() if kept else None
    if context is None:
        runtime = RuntimeEnvBuilder().with_disk_manager_disabled().with_greedy_memory_pool(memory)
        # one partition stands for few rows: in one batch they are sorted and windowed without a merge
        config = _config(partitions, passes=0)
        context = SessionContext(config.with_batch_size(_ONE_BATCH) if partitions == 1 else config, runtime)
    yield context
    with _lock:
        if len(kept) < _KEPT:
            kept.append(context)


def _planning_context(passes: int, pushed: bool) -> SessionContext:
    runtime = RuntimeEnvBuilder().with_disk_manager_disabled()
    context = SessionContext(_config(CPUS, passes), runtime)
    for name in _REFUSED:
        context.deregister_udf(name)
    ring_functions.add_to(context)
    if not pushed:
        context.remove_optimizer_rule("push_down_filter")
    return context


def _config(partitions: int, passes: int) -> SessionConfig:
    config = SessionConfig().with_target_partitions(partitions).with_information_schema(False)
    return config.set("datafusion.execution.time_zone", "+00:00").set("datafusion.optimizer.max_passes", str(passes))
