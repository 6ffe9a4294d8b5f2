"""The verbs of scalar series: gauges, counters, samples in bulk, and what is known of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from kymograph.model.time import to_micros
from kymograph.promql.labels import Labels
from kymograph.promql.source import Source
from kymograph.store.base import StoreBase
from kymograph.store.metadata import Metadata
from kymograph.store.metrics import Metrics, Sample
from kymograph.store.registration import SeriesIds
from kymograph.store.series import Selectors, find_series, label_names, label_values


class MetricVerbs(StoreBase):
    """Metrics of a store; see `Store`."""

    def gauge(
        self,
        name: str,
        value: float,
        labels: Mapping[str, str] | None = None,
        time: Any = None,
        *,
        unit: str | None = None,
        help: str | None = None,
    ) -> None:
        """Store one value of a gauge; see `record` for many.

        Args:
            name: metric name, any non-empty text of at most 255 characters.
            value: float, or an int that float64 holds exactly; NaN (every payload) and infinities are kept.
            labels: label names to text; empty values mean the label is absent.
            time: None is now.
            unit, help: metadata of the metric, kept when given.

        Raises:
            InvalidInput: a name, label or value that is none, or a metric that is a counter.
        """
        self._written(lambda: self._metrics().one(Sample(name, value, labels or {}, time, "gauge"), unit, help))

    def counter(
        self,
        name: str,
        value: float,
        labels: Mapping[str, str] | None = None,
        time: Any = None,
        *,
        unit: str | None = None,
        help: str | None = None,
    ) -> None:
        """Store one reading of a counter: a total that only grows, except when it starts again. As `gauge`."""
        self._written(lambda: self._metrics().one(Sample(name, value, labels or {}, time, "counter"), unit, help))

    def record(self, samples: Iterable[Sample]) -> int:
        """Store many scalar samples in one step: all of them or none. Returns how many.

        Samples without a time share the moment of the call.
        """
        return self._written(lambda: self._metrics().record(samples))

    def series_ids(self, series: Iterable[tuple[str, Mapping[str, str]]]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Ids of the scalar series `name{labels}`, in order; all that are new are registered in one step, or none.

        Returns:
            int64 of the length of `series`; keep them for `append_samples`.

        Raises:
            InvalidInput: a name or label that is none.
            LimitExceeded: more series than `max_series` or `max_new_series` allow; names the metric.
        """
        return self._written(lambda: self._series_ids().of(series))

    def append_samples(self, ids: Any, times: Any, values: Any) -> int:
        """Store many scalar samples given as arrays in one step: all of them or none. Returns how many.

        Args:
            ids: int64 of n series, from `series_ids`.
            times: int64 µs since 1970, n of them.
            values: float64, n of them; their bits are kept.

        Raises:
            InvalidInput: other shapes or types, or an id that no series has. TimeError: a time out of range.
        """
        return self._written(lambda: self._metrics().append(ids, times, values))

    def describe(self, name: str, *, kind: str | None = None, unit: str | None = None, help: str | None = None) -> None:
        """Set metadata of a metric; None leaves what is there. Nothing is written when nothing changes."""
        self.describe_many({name: {"kind": kind, "unit": unit, "help": help}})

    def describe_many(self, metrics: Mapping[str, Mapping[str, str | None]]) -> None:
        """Set kind, unit and help of metrics by name in one step; what is None or left out stays as it is."""
        self._written(lambda: self._metadata().describe(metrics))

    def metrics(self) -> list[dict[str, Any]]:
        """Every metric by name: name, kind, unit, help ("" where unknown) and series, its number of series."""
        self._check()
        return self._metadata().listing()

    def series(self, matchers: Selectors = None, *, start: Any = None, end: Any = None) -> list[dict[str, str]]:
        """Label sets of series, `__name__` among the labels; fields of tables are there as `<table>_<field>`.

        Args:
            matchers: a series selector in PromQL such as `up{job=~"a|b"}`, or several, any of which may hold; None
                is every series.
            start, end: leave out scalar series without samples in [start, end); where these are gone and summaries are
                left, it is told to the width of their buckets. Fields are left out where their table or stream has no
                rows as old, or as new, as that.

        Raises:
            QueryError: a text that is no series selector.
        """
        return [dict(labels) for labels in self._found(matchers, start, end)]

    def label_names(self, matchers: Selectors = None, *, start: Any = None, end: Any = None) -> list[str]:
        """Names of the labels of the series that `series` finds, sorted, `__name__` among them."""
        return label_names(self._found(matchers, start, end))

    def label_values(self, name: str, matchers: Selectors = None, *, start: Any = None, end: Any = None) -> list[str]:
        """Values of one label over the series that `series` finds, sorted."""
        return label_values(self._found(matchers, start, end), name)

    def _found(self, matchers: Selectors, start: Any, end: Any) -> list[Labels]:
        since, until = None if start is None else to_micros(start), None if end is None else to_micros(end)
        return find_series(self.engine, self._series_source(), matchers, since, until)

    def _metrics(self) -> Metrics:
        return self._kept("metrics", lambda: Metrics(self._engine, self._series_ids(), self._metadata()))

    def _series_ids(self) -> SeriesIds:
        return self._kept("series_ids", lambda: SeriesIds(self._engine, self.options))

    def _metadata(self) -> Metadata:
        return self._kept("metadata", lambda: Metadata(self._engine))

    def _series_source(self) -> Source:
        self._check()
        return self._kept("source", lambda: Source(self._engine))  # kept, because it holds the label index
