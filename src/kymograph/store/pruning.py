"""Applying bounds on request: what the engine enforces by itself, and age to the microsecond where it is forced."""

from __future__ import annotations

import time as clock

from kymograph.engine.interface import Bounded, Engine, PruneReport, Victim
from kymograph.model.schema import TableSchema
from kymograph.model.time import TIME
from kymograph.options import StoreOptions


def prune(
    engine: Engine, options: StoreOptions, *, dry_run: bool = False, force: bool = False, now: int | None = None
) -> PruneReport:
    """Apply all bounds as of `now` (µs, None is the clock); see `Store.prune`."""
    now = clock.time_ns() // 1000 if now is None else now
    bounded = isinstance(engine, Bounded)
    victims = list(engine.prune(now=now, dry_run=dry_run).victims) if isinstance(engine, Bounded) else []
    if force or not bounded:
        for schema in engine.tables().values():
            own = schema.retention.age_micros
            age = options.age if own is None else own
            if age is not None:
                # a dry run left the engine's victims in place: count only what lies after them
                after = max((v.end for v in victims if dry_run and v.table == schema.name), default=None)
                victims += _beyond(engine, schema, after, now - age, dry_run=dry_run)
    return PruneReport(tuple(victims), dry_run)


def _beyond(engine: Engine, schema: TableSchema, after: int | None, cutoff: int, *, dry_run: bool) -> list[Victim]:
    """Rows of [after, cutoff), counted or deleted; their bytes are only known once blocks are rewritten, so 0."""
    oldest = engine.statistics(schema.name).oldest
    start = oldest if after is None or oldest is None else max(oldest, after)
    if start is None or start >= cutoff:
        return []
    if dry_run:
        rows = sum(batch.num_rows for batch in engine.scan(schema.name, (), start, cutoff, [TIME]).batches())
    else:
        rows = engine.delete(schema.name, (), None, cutoff)
    if rows == 0:
        return []
    return [Victim(schema.name, schema.partition_of(start), start, cutoff, rows, 0, "age")]
