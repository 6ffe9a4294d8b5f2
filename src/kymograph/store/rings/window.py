"""SQL over a window of seconds: `samples(metric_id, ts, value)`, `metrics` and `metric_tags`, ranges closed at both ends."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.engine.interface import Engine
from kymograph.errors import InvalidInput, LimitExceeded, QueryError, TimeError
from kymograph.model.matcher import Matcher
from kymograph.model.schema import SAMPLES, SERIES_ID
from kymograph.model.time import MAX_TIME, MIN_TIME, SECOND, TIME, micros_of
from kymograph.options import QueryLimits
from kymograph.sql.result import Result
from kymograph.sql.session import SqlSession
from kymograph.store.rings.metric import RingMetric, RingMetrics

_MOST_BYTES = 256 * 2**20
_ALIAS = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_EMPTY = pa.schema([("metric_id", pa.int64()), ("ts", pa.int64()), ("value", pa.float64())])
_METRICS = pa.schema(
    [
        ("metric_id", pa.int64()), ("name", pa.string()), ("kind", pa.string()), ("unit", pa.string()),
        ("help", pa.string()), ("step", pa.float64()), ("slots", pa.int64()),
    ]
)  # fmt: skip
_TAGS = pa.schema([("metric_id", pa.int64()), ("key", pa.string()), ("value", pa.string())])


@dataclass(frozen=True)
class Selector:
    """One metric by its name and labels, and the alias that stands for its id in a statement as `{{alias}}`."""

    metric: str
    labels: Mapping[str, str] = field(default_factory=dict)
    alias: str | None = None


def micros_between(start: float | None, end: float | None) -> tuple[int | None, int | None]:
    """[start, end) in µs of whole seconds `start <= ts <= end`; None is open.

    Raises:
        TimeError: not a time, or out of range. InvalidInput: the end is before the start.
    """
    low = None if start is None else _whole("start_ts", start, math.ceil) * SECOND
    high = None if end is None else (_whole("end_ts", end, math.floor) + 1) * SECOND
    if start is not None and end is not None and end < start:
        raise InvalidInput(f"end_ts {end} is before start_ts {start}")
    return low, high


def _whole(name: str, value: float, way: Any) -> int:
    if not math.isfinite(value) or not MIN_TIME < value * SECOND < MAX_TIME:
        raise TimeError(f"{name} {value!r} is out of range", hint="seconds since 1970")
    found: int = way(value)
    return found


class Window:
    """Questions to the metrics of one store."""

    def __init__(self, engine: Engine, metrics: RingMetrics, session: SqlSession) -> None:
        self._engine = engine
        self._metrics = metrics
        self._session = session

    def ask(
        self,
        sql: str,
        start: float | None,
        end: float | None,
        ids: Sequence[int],
        selectors: Sequence[Selector],
        limits: QueryLimits,
    ) -> Result:
        """See `Store.ring_sql`."""
        low, high = micros_between(start, end)
        chosen = {self._metrics.get(number).id for number in ids}
        aliases: dict[str, int] = {}
        for one in selectors:
            number = self._metrics.resolve(one.metric, one.labels).id
            chosen.add(number)
            if one.alias is not None:
                if aliases.get(one.alias, number) != number:
                    raise InvalidInput(f"the alias {one.alias} stands for two metrics")
                aliases[one.alias] = number
        text = _filled(sql, aliases)
        named = bool(ids or selectors)
        tables = {"samples": self._samples(sorted(chosen) if named else None, low, high, limits.memory)}
        if re.search(r"\bmetrics\b|\bmetric_tags\b", text, re.IGNORECASE):
            tables |= _described(self._metrics.all())
        return self._session.query(text, None, limits, tables)

    def _samples(self, ids: Sequence[int] | None, start: int | None, end: int | None, most: int) -> pa.Table:
        """By metric and time; without ids, of all metrics."""
        if SAMPLES not in self._engine.tables() or ids == []:
            return _EMPTY.empty_table()
        matchers = [] if ids is None else [Matcher(SERIES_ID, "in", frozenset(ids))]
        scan = self._engine.scan(SAMPLES, matchers, start, end, [SERIES_ID, TIME, "value"])
        table = pa.Table.from_batches(_at_most(scan.batches(), most), scan.schema)
        return pa.table(_by_series(table), schema=_EMPTY)

    def samples(
        self, number: int, start: float | None, end: float | None, bucket: int | None, most: int
    ) -> dict[str, Any]:
        """Rows of one metric, oldest first: ts (seconds) and value; or per bucket of so many µs ts, value, min, max, count.

        The value of a bucket is the mean of a gauge, the last reading of a counter.

        Raises:
            NotFound: no such metric. LimitExceeded: more than `most` rows.
        """
        low, high = micros_between(start, end)
        found = self._metrics.get(number)
        scan = self._engine.scan(SAMPLES, [Matcher(SERIES_ID, "=", number)], low, high, [TIME, "value"])
        table = pa.Table.from_batches(_at_most(scan.batches(), _MOST_BYTES), scan.schema)
        times = micros_of(table[TIME].combine_chunks())
        values = table["value"].to_numpy()
        order = np.argsort(times, kind="stable")
        times, values = times[order], values[order]
        columns = {"ts": times, "value": values}
        if bucket is not None and len(times):
            columns = _bucketed(times, values, bucket, last=found.kind == "counter")
        if len(columns["ts"]) > most:
            raise LimitExceeded(f"the answer has more than {most} rows", hint="give bucket, or a shorter range")
        return {"metric": found, **columns}


def _bucketed(times: Any, values: Any, width: int, *, last: bool) -> dict[str, Any]:
    starts = times // width * width
    begin = np.flatnonzero(np.concatenate([[True], starts[1:] != starts[:-1]]))
    count = np.diff(np.append(begin, len(times)))
    with np.errstate(all="ignore"):
        value = values[begin + count - 1] if last else np.add.reduceat(values, begin) / count
        return {
            "ts": starts[begin],
            "value": value,
            "min": np.minimum.reduceat(values, begin),
            "max": np.maximum.reduceat(values, begin),
            "count": count,
        }


def _filled(sql: str, aliases: Mapping[str, int]) -> str:
    """The statement with the id of its metric, a number of ours, in place of every `{{alias}}`."""

    def number(found: re.Match[str]) -> str:
        if found[1] not in aliases:
            known = ", ".join(sorted(aliases)) or "none"
            raise QueryError(f"{{{{{found[1][:80]}}}}} is no alias of a selector", hint=f"there are: {known}")
        return str(aliases[found[1]])

    return _ALIAS.sub(number, sql)


def _at_most(batches: Iterable[pa.RecordBatch], most: int) -> Iterator[pa.RecordBatch]:
    size = 0
    for batch in batches:
        size += batch.nbytes
        if size > most:
            raise LimitExceeded(
                f"the samples of the range are more than {most} bytes", hint="name metric_ids or selectors"
            )
        yield batch


def _by_series(table: pa.Table) -> list[pa.Array]:
    ids = table[SERIES_ID].to_numpy()
    times = micros_of(table[TIME].combine_chunks())
    order = np.lexsort((times, ids))
    values = pc.take(table["value"].combine_chunks(), pa.array(order))
    return [pa.array(ids[order]), pa.array(times[order] // SECOND), values]


def _described(metrics: Sequence[RingMetric]) -> dict[str, pa.Table]:
    rows = [one.as_json() for one in metrics]
    tags = [(one.id, key, value) for one in metrics for key, value in sorted(one.labels.items())]
    columns = [pa.array([row[name] for row in rows], _METRICS.field(name).type) for name in _METRICS.names]
    parts = zip(*tags, strict=True) if tags else ((), (), ())
    typed = [pa.array(list(part), _TAGS.field(place).type) for place, part in enumerate(parts)]
    return {"metrics": pa.table(columns, schema=_METRICS), "metric_tags": pa.table(typed, schema=_TAGS)}
