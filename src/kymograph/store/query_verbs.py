"""The verbs that ask in a language: SQL and PromQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kymograph.model.time import to_micros
from kymograph.options import QueryLimits, parse_duration
from kymograph.store.jobs import now_micros
from kymograph.store.metric_verbs import MetricVerbs

if TYPE_CHECKING:
    from datetime import timedelta

    from kymograph.promql.limits import PromLimits
    from kymograph.promql.result import PromResult
    from kymograph.sql.result import Result, Stream
    from kymograph.sql.session import SqlSession

_LOOKBACK = 300 * 10**6  # as in Prometheus


class QueryVerbs(MetricVerbs):
    """Questions to a store; see `Store`."""

    def sql(
        self, query: str, params: Mapping[str, Any] | None = None, *, limits: QueryLimits | None = None, **named: Any
    ) -> Result:
        """Run one read-only SQL statement.

        Args:
            params: values of `$name` placeholders; also as keywords: `sql("… WHERE gpu = $gpu", gpu="GPU-1")`.
            limits: time, memory and rows the query may take.

        Raises:
            QueryError: it cannot be planned or run, or writes.
            LimitExceeded: it took more than `limits`.
        """
        self._check()
        return self._sql_session().query(query, {**(params or {}), **named}, limits or QueryLimits())

    def sql_stream(
        self, query: str, params: Mapping[str, Any] | None = None, *, limits: QueryLimits | None = None, **named: Any
    ) -> Stream:
        """As `sql`, with the rows batch by batch while the query runs: for results that are not to be held in memory.

        ```python
        stream = store.sql_stream("SELECT * FROM gpu_metrics")
        with pyarrow.ipc.new_stream(sink, stream.schema) as writer:
            for batch in stream:
                writer.write_batch(batch)
        ```

        Args:
            limits: as in `sql`; `memory` is the plan's alone, and `timeout` counts waiting for rows only.

        Raises:
            QueryError, LimitExceeded: as `sql`; what fails later is raised amid the batches.
        """
        self._check()
        return self._sql_session().stream(query, {**(params or {}), **named}, limits or QueryLimits())

    def promql(
        self,
        text: str,
        *,
        time: Any = None,
        limits: PromLimits | None = None,
        lookback: str | timedelta | int = _LOOKBACK,
    ) -> PromResult:
        """Evaluate PromQL or MetricsQL at one time (anything that is a time; default now).

        Args:
            limits: series, samples and seconds the query may take.
            lookback: how long a sample stands for the present; duration text, timedelta or int µs.

        Returns:
            A vector, matrix, scalar or string with labels, int64 µs times and float64 values; see `PromResult`.

        Raises:
            QueryError: the text is no query or cannot be evaluated. LimitExceeded: series, samples or seconds.
        """
        from kymograph.promql.engine import query_instant

        at = now_micros() if time is None else to_micros(time)
        return query_instant(self._series_source(), text, at, limits, lookback_us=parse_duration(lookback))

    def promql_range(
        self,
        text: str,
        *,
        start: Any,
        end: Any,
        step: str | timedelta | int,
        limits: PromLimits | None = None,
        lookback: str | timedelta | int = _LOOKBACK,
    ) -> PromResult:
        """Evaluate PromQL or MetricsQL at `start`, `start + step`, … up to `end`, both included; see `promql`.

        Args:
            step: duration text, timedelta or int µs.
        """
        from kymograph.promql.engine import query_range

        return query_range(
            self._series_source(),
            text,
            to_micros(start),
            to_micros(end),
            parse_duration(step),
            limits,
            lookback_us=parse_duration(lookback),
        )

    def _sql_session(self) -> SqlSession:
        from kymograph.sql.session import SqlSession

        return self._kept("sql", lambda: SqlSession(self._engine))
