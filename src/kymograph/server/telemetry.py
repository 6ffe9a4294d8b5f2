"""The GPU history as the telemetry API tells it: its names, and the SQL that answers it.

The table `gpu_metrics` may have been made by anyone, so a column that is not there reads as null. Column names come
from the fixed list below and are quoted, values are parameters.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from kymograph.errors import NotFound
from kymograph.model.time import isoformat
from kymograph.options import QueryLimits
from kymograph.server.encoding import rows
from kymograph.store.store import Store

TABLE = "gpu_metrics"
# name in the API: (stored column, how a bucket summarises it)
HISTORY = {
    "gpu_index": ("device_index", "group"),
    "gpu_name": ("name", "group"),
    "temperature": ("gpu_temp", "avg"),
    "fan_speed": ("fan_speed", "avg"),
    "power_draw": ("power_usage", "avg"),
    "core_clock": ("sm_clock_mhz", "avg"),
    "memory_clock": ("mem_clock_mhz", "avg"),
    "base_clock": ("base_clock_mhz", "max"),
    "max_clock": ("max_clock_mhz", "max"),
    "boost_active": ("boost_active", "bool_or"),
    "utilization": ("gpu_utilization", "avg"),
    "memory_used": ("fb_used_bytes", "avg"),
    "memory_total": ("fb_total_bytes", "max"),
}
_LEGACY = {stored: told for told, (stored, _) in HISTORY.items()}


def legacy_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A stored row under the API's names; columns the API has no name for keep theirs, `time` is `timestamp`."""
    told = {_LEGACY.get(name, name): value for name, value in row.items() if name != "time"}
    return {"timestamp": row.get("time"), **told}


def _columns(store: Store) -> frozenset[str]:
    """The columns of `gpu_metrics`; empty when nothing was recorded yet."""
    schema = store.tables().get(TABLE)
    return frozenset() if schema is None else frozenset(schema.columns)


def _moment(micros: int) -> dt.datetime:
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=micros)


def _where(columns: frozenset[str], gpu_index: int | None, start: int, params: dict[str, Any]) -> str:
    params["start"] = _moment(start)
    text = "time >= $start"
    if gpu_index is not None:
        if "device_index" not in columns:
            return text + " AND false"
        text += " AND device_index = $gpu"
        params["gpu"] = gpu_index
    return text


def history(
    store: Store, limits: QueryLimits, *, gpu_index: int | None, start: int, limit: int, step: int | None
) -> list[dict[str, Any]]:
    """Rows since `start` (µs), newest first, at most `limit`; with `step` (µs) one per GPU and bucket.

    A bucket's timestamp is its start; clocks' bounds and memory size are its maximum, `boost_active` is true if it
    ever was, all else is the mean.
    """
    columns = _columns(store)
    if not columns:
        return []
    params: dict[str, Any] = {"limit": limit}
    where = _where(columns, gpu_index, start, params)
    if step is None:
        parts = [
            f'"{stored}" AS {told}' if stored in columns else f"NULL AS {told}" for told, (stored, _) in HISTORY.items()
        ]
        query = f"SELECT time AS timestamp, {', '.join(parts)} FROM {TABLE} WHERE {where}"  # noqa: S608
        return rows(store.sql(f"{query} ORDER BY time DESC LIMIT $limit", params, limits=limits).arrow())
    bucket = f"time_bucket('{step}us', time)"
    keys = [f'"{stored}"' for stored, how in HISTORY.values() if how == "group" and stored in columns]
    # two GPUs of one name, or of one index on two hosts, are not to be averaged
    keys += [f'"{label}"' for label in ("gpu_uuid", "hostname", "source") if label in columns]
    parts = [_summary(told, stored, how, columns) for told, (stored, how) in HISTORY.items()]
    query = (
        f"SELECT {bucket} AS timestamp, {', '.join(parts)} FROM {TABLE} WHERE {where} "  # noqa: S608
        f"GROUP BY {', '.join([bucket, *keys])} ORDER BY timestamp DESC LIMIT $limit"
    )
    return rows(store.sql(query, params, limits=limits).arrow())


def _summary(told: str, stored: str, how: str, columns: frozenset[str]) -> str:
    if stored not in columns:
        return f"NULL AS {told}"
    return f'"{stored}" AS {told}' if how == "group" else f'{how}("{stored}") AS {told}'


def statistics(store: Store, limits: QueryLimits, *, gpu_index: int, hours: int, start: int) -> dict[str, Any]:
    """Least, greatest and mean values of one GPU since `start` (µs); null where there are no rows."""
    columns = _columns(store)
    found: dict[str, Any] = {"n": 0}
    if "device_index" in columns:
        params: dict[str, Any] = {}
        where = _where(columns, gpu_index, start, params)
        parts = ["count(*) AS n"]
        for told in ("temperature", "power_draw", "utilization", "core_clock", "memory_clock"):
            stored = HISTORY[told][0]
            if stored in columns:
                parts += [f'{how}("{stored}") AS {told}_{how}' for how in ("min", "max", "avg")]
        query = f"SELECT {', '.join(parts)} FROM {TABLE} WHERE {where}"  # noqa: S608
        found = rows(store.sql(query, params, limits=limits).arrow())[0]

    def three(name: str) -> dict[str, Any]:
        return {how: found.get(f"{name}_{how}") for how in ("min", "max", "avg")}

    return {
        "gpu_index": gpu_index,
        "hours": hours,
        "record_count": found["n"],
        "temperature": three("temperature"),
        "power_draw": three("power_draw"),
        "utilization_avg": found.get("utilization_avg"),
        "core_clock_avg": found.get("core_clock_avg"),
        "memory_clock_avg": found.get("memory_clock_avg"),
    }


def database(store: Store, limits: QueryLimits) -> dict[str, Any]:
    """How much is recorded, in all and per GPU. Times are ISO 8601, sizes bytes."""
    info = store.info()
    columns = _columns(store)
    keys = [name for name in ("device_index", "name", "gpu_uuid", "hostname") if name in columns]
    gpus: list[dict[str, Any]] = []
    if keys:
        quoted = ", ".join(f'"{name}"' for name in keys)
        query = (
            f"SELECT {quoted}, count(*) AS records, min(time) AS oldest, max(time) AS newest "  # noqa: S608
            f"FROM {TABLE} GROUP BY {quoted} ORDER BY {quoted}"
        )
        found = rows(store.sql(query, limits=limits).arrow())
        gpus = [{_LEGACY.get(name, name): value for name, value in row.items()} for row in found]
    return {
        "total_records": info["rows"],
        "gpu_records": sum(gpu["records"] for gpu in gpus),
        "gpus": gpus,
        "oldest": _iso(info["oldest"]),
        "newest": _iso(info["newest"]),
        "size_bytes": info["usage_bytes"],
        "cap_bytes": info["cap_bytes"],
    }


def _iso(micros: int | None) -> str | None:
    return None if micros is None else isoformat(micros)


def gpu_batches(reader: Iterable[pa.RecordBatch], gpu_index: int) -> Iterator[pa.RecordBatch]:
    """The batches of an export, only the rows of one GPU."""
    for batch in reader:
        kept = batch.filter(pc.equal(batch.column("device_index"), gpu_index))
        if kept.num_rows:
            yield kept


def require_gpu_column(store: Store, table: str) -> None:
    schema = store.tables().get(table)
    if schema is not None and "device_index" not in schema.columns:
        raise NotFound(f"the table {table} has no column device_index", hint="leave gpu_index out")
