"""The questions in the words of each system, and whether two answers are the same.

Of a GPU fleet: `$gpu` is one GPU; `$day`, `$hour` and `$moment` are 24 hours, one hour and five minutes before the end of the data.
`ecc` respects counter resets inside each hour. `ecc_span` is not one of the seven: the same rows without the resets,
plain aggregates in every system.

Of TSBS, under its names, with `$host` one host and spans that end with the data.
"""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa

FLEET = ("latest100", "trend", "fleet5m", "spike", "ecc", "efficiency", "worst10", "ecc_span")
TSBS = ("single-1-1-1", "single-1-1-12", "cpu-max-all-1", "double-1", "double-all", "lastpoint")

_MODES = ("user", "system", "idle", "nice", "iowait", "irq", "softirq", "steal", "guest", "guest_nice")

_SHARED = {
    "latest100": "SELECT * FROM gpu_metrics WHERE gpu_uuid = $gpu ORDER BY time DESC LIMIT 100",
    "trend": """
        SELECT time_bucket(INTERVAL '5 minutes', time) AS bucket,
               avg(gpu_temp) AS mean, max(gpu_temp) AS top, stddev(gpu_temp) AS spread
        FROM gpu_metrics WHERE gpu_uuid = $gpu AND time >= $day GROUP BY 1 ORDER BY 1""",
    # 232: hardware slowdown, software and hardware thermal slowdown, power brake
    "fleet5m": """
        SELECT count(DISTINCT gpu_uuid) AS gpus, avg(gpu_temp) AS mean, max(gpu_temp) AS top,
               count(DISTINCT CASE WHEN (throttle_reasons & 232) <> 0 THEN gpu_uuid END) AS throttling,
               count(DISTINCT CASE WHEN ecc_dbe_volatile > 0 THEN gpu_uuid END) AS failing
        FROM gpu_metrics WHERE time >= $moment""",
    "spike": """
        WITH buckets AS (
            SELECT gpu_uuid, time_bucket(INTERVAL '5 minutes', time) AS bucket, avg(gpu_temp) AS mean
            FROM gpu_metrics WHERE time >= $hour GROUP BY 1, 2),
        steps AS (
            SELECT gpu_uuid, bucket, mean - lag(mean) OVER (PARTITION BY gpu_uuid ORDER BY bucket) AS jump
            FROM buckets)
        SELECT gpu_uuid, bucket, jump FROM steps WHERE jump > 15""",
    "efficiency": """
        SELECT gpu_uuid, time_bucket(INTERVAL '15 minutes', time) AS bucket,
               avg(gpu_utilization) / avg(power_usage) AS per_watt
        FROM gpu_metrics GROUP BY 1, 2""",
    "worst10": """
        SELECT gpu_uuid, score FROM gpu_scores
        WHERE time = (SELECT max(time) FROM gpu_scores) ORDER BY score, gpu_uuid LIMIT 10""",
    "ecc_span": """
        SELECT gpu_uuid, time_bucket(INTERVAL '1 hour', time) AS hour,
               max(ecc_sbe_volatile) - min(ecc_sbe_volatile) AS errors
        FROM gpu_metrics GROUP BY 1, 2""",
    "single-1-1-1": """
        SELECT time_bucket(INTERVAL '1 minute', time) AS minute, max(usage_user) AS top
        FROM cpu WHERE hostname = $host AND time >= $hour GROUP BY 1 ORDER BY 1""",
    "single-1-1-12": """
        SELECT time_bucket(INTERVAL '1 minute', time) AS minute, max(usage_user) AS top
        FROM cpu WHERE hostname = $host AND time >= $twelve GROUP BY 1 ORDER BY 1""",
    "cpu-max-all-1": f"""
        SELECT time_bucket(INTERVAL '1 hour', time) AS hour, {", ".join(f"max(usage_{m}) AS {m}" for m in _MODES)}
        FROM cpu WHERE hostname = $host AND time >= $eight GROUP BY 1 ORDER BY 1""",
    "double-1": """
        SELECT hostname, time_bucket(INTERVAL '1 hour', time) AS hour, avg(usage_user) AS mean
        FROM cpu WHERE time >= $twelve GROUP BY 1, 2""",
    "double-all": f"""
        SELECT hostname, time_bucket(INTERVAL '1 hour', time) AS hour,
               {", ".join(f"avg(usage_{m}) AS {m}" for m in _MODES)}
        FROM cpu WHERE time >= $twelve GROUP BY 1, 2""",
}
KYMOGRAPH = _SHARED | {
    "lastpoint": "SELECT hostname, time, usage_user, usage_guest_nice FROM latest.cpu",
    "ecc": """
        SELECT gpu_uuid, time_bucket(INTERVAL '1 hour', time) AS hour,
               counter_increase(ecc_sbe_volatile, time) AS errors
        FROM gpu_metrics GROUP BY 1, 2""",
}
DUCKDB = _SHARED | {
    "lastpoint": """
        SELECT hostname, max(time) AS time, arg_max(usage_user, time) AS usage_user,
               arg_max(usage_guest_nice, time) AS usage_guest_nice
        FROM cpu GROUP BY 1""",
    "ecc": """
        WITH steps AS (
            SELECT gpu_uuid, time_bucket(INTERVAL '1 hour', time) AS hour, ecc_sbe_volatile AS now,
                   lag(ecc_sbe_volatile) OVER (PARTITION BY gpu_uuid, time_bucket(INTERVAL '1 hour', time)
                                               ORDER BY time) AS before
            FROM gpu_metrics)
        SELECT gpu_uuid, hour, sum(CASE WHEN now < before THEN now ELSE now - before END) AS errors
        FROM steps GROUP BY 1, 2""",
}
_ROWS = "FROM gpu_metrics JOIN gpu ON gpu.id = gpu_metrics.gpu"
SQLITE = {
    "latest100": f"""
        SELECT time, gpu_uuid, hostname, gpu_metrics.* {_ROWS}
        WHERE gpu = (SELECT id FROM gpu WHERE gpu_uuid = $gpu) ORDER BY time DESC LIMIT 100""",
    "trend": """
        SELECT time / 300000000 * 300000000 AS bucket, avg(gpu_temp) AS mean, max(gpu_temp) AS top,
               sqrt((sum(gpu_temp * gpu_temp) - sum(gpu_temp) * avg(gpu_temp)) / (count(*) - 1)) AS spread
        FROM gpu_metrics WHERE gpu = (SELECT id FROM gpu WHERE gpu_uuid = $gpu) AND time >= $day
        GROUP BY 1 ORDER BY 1""",
    "fleet5m": """
        SELECT count(DISTINCT gpu) AS gpus, avg(gpu_temp) AS mean, max(gpu_temp) AS top,
               count(DISTINCT CASE WHEN (throttle_reasons & 232) <> 0 THEN gpu END) AS throttling,
               count(DISTINCT CASE WHEN ecc_dbe_volatile > 0 THEN gpu END) AS failing
        FROM gpu_metrics WHERE time >= $moment""",
    "spike": """
        WITH buckets AS (
            SELECT gpu, time / 300000000 * 300000000 AS bucket, avg(gpu_temp) AS mean
            FROM gpu_metrics WHERE time >= $hour GROUP BY 1, 2),
        steps AS (SELECT gpu, bucket, mean - lag(mean) OVER (PARTITION BY gpu ORDER BY bucket) AS jump FROM buckets)
        SELECT gpu_uuid, bucket, jump FROM steps JOIN gpu ON gpu.id = steps.gpu WHERE jump > 15""",
    "ecc": """
        WITH steps AS (
            SELECT gpu, time / 3600000000 * 3600000000 AS hour, ecc_sbe_volatile AS now,
                   lag(ecc_sbe_volatile) OVER (PARTITION BY gpu, time / 3600000000 ORDER BY time) AS before
            FROM gpu_metrics),
        sums AS (
            SELECT gpu, hour, sum(CASE WHEN now < before THEN now ELSE now - before END) AS errors
            FROM steps GROUP BY 1, 2)
        SELECT gpu_uuid, hour, errors FROM sums JOIN gpu ON gpu.id = sums.gpu""",
    "efficiency": """
        WITH means AS (
            SELECT gpu, time / 900000000 * 900000000 AS bucket, avg(gpu_utilization) / avg(power_usage) AS per_watt
            FROM gpu_metrics GROUP BY 1, 2)
        SELECT gpu_uuid, bucket, per_watt FROM means JOIN gpu ON gpu.id = means.gpu""",
    "worst10": _SHARED["worst10"],
    "ecc_span": """
        WITH spans AS (
            SELECT gpu, time / 3600000000 * 3600000000 AS hour, max(ecc_sbe_volatile) - min(ecc_sbe_volatile) AS errors
            FROM gpu_metrics GROUP BY 1, 2)
        SELECT gpu_uuid, hour, errors FROM spans JOIN gpu ON gpu.id = spans.gpu""",
}


def differ(left: pa.Table, right: pa.Table) -> str:
    """Where two answers differ, or "". Order of rows is ignored, times are compared in µs, floats to one part in 10⁶."""
    if left.num_rows != right.num_rows:
        return f"{left.num_rows} rows and {right.num_rows}"
    shared = [name for name in left.column_names if name in right.column_names]
    if not shared:
        return "no column in common"
    for one, other in zip(_rows(left, shared), _rows(right, shared), strict=True):
        for name, a, b in zip(shared, one, other, strict=True):
            if not (a == b or (_numbers(a, b) and math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-6))):
                return f"{name}: {a!r} and {b!r}"
    return ""


def _numbers(a: Any, b: Any) -> bool:
    return isinstance(a, (int, float)) and isinstance(b, (int, float))


def _rows(table: pa.Table, names: list[str]) -> list[tuple[Any, ...]]:
    columns = []
    for name in names:
        column = table[name]
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("us", tz=column.type.tz)).cast(pa.int64())
        columns.append(column.to_pylist())
    # rounding keeps rows that differ in the last bits in the same place
    return sorted(zip(*columns, strict=True), key=lambda row: [_place(value) for value in row])


def _place(value: Any) -> tuple[int, Any]:
    if value is None:
        return (0, 0)
    return (1, round(value, 4)) if isinstance(value, (int, float)) else (2, str(value))
