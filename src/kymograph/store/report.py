"""The numbers behind `Store.info`."""

from __future__ import annotations

from typing import Any

from kymograph._version import __version__
from kymograph.engine.interface import Attended, Bounded, Engine, TableStatistics
from kymograph.errors import NotFound
from kymograph.model.schema import SAMPLES, TableSchema
from kymograph.options import StoreOptions
from kymograph.store.jobs import Jobs

BOUNDS = ("store", "bounds")


def bounds_of(options: StoreOptions) -> dict[str, int | None]:
    """The store-wide bounds as the document that other processes read: bytes and µs."""
    return {"cap": options.cap, "age": options.age}


def describe_store(engine: Engine, options: StoreOptions, path: str, jobs: Jobs) -> dict[str, Any]:
    """A dict of plain values that JSON can carry; see `Store.info` for its keys and units."""
    tables: dict[str, dict[str, Any]] = {}
    for name, schema in sorted(engine.tables().items()):
        try:
            tables[name] = _table(schema, engine.statistics(name))
        except NotFound:  # dropped meanwhile
            continue
    # bounds belong to the writer; beside it a reader shows what it was opened with
    bounds = (engine.get_document(*BOUNDS) if options.read_only else None) or bounds_of(options)
    oldest = [t["oldest"] for t in tables.values() if t["oldest"] is not None]
    newest = [t["newest"] for t in tables.values() if t["newest"] is not None]
    return {
        "path": path,
        "engine": "memory" if path == "memory:" else "local",
        "version": __version__,
        "tables": tables,
        "rows": sum(t["rows"] for t in tables.values()),
        "series": sum(t["series"] for t in tables.values()),
        "oldest": min(oldest, default=None),
        "newest": max(newest, default=None),
        "usage_bytes": engine.usage() if isinstance(engine, Bounded) else None,
        "cap_bytes": bounds["cap"],
        "age": bounds["age"],
        "next_prune": jobs.next_run("prune"),
        "jobs": jobs.history(),
        "notes": list(engine.notes) if isinstance(engine, Attended) else [],
    }


def _table(schema: TableSchema, numbers: TableStatistics) -> dict[str, Any]:
    # a value is one field of one row; a scalar sample is one value
    width = 1 if schema.name == SAMPLES else max(1, len(schema.fields))
    sealed = numbers.rows - numbers.hot_rows - numbers.ring_rows
    return {
        "rows": numbers.rows,
        "series": numbers.series,
        "oldest": numbers.oldest,
        "newest": numbers.newest,
        "hot_rows": numbers.hot_rows,
        "hot_bytes": numbers.hot_bytes,
        "sealed_bytes": numbers.sealed_bytes,
        "bytes_per_value": numbers.sealed_bytes / (sealed * width) if sealed > 0 and numbers.sealed_bytes else None,
        "blocks": numbers.blocks,
        "partitions": numbers.partitions,
    }
