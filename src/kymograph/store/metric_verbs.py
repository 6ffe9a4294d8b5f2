"""The verbs of scalar series: gauges, counters, samples in bulk, and what is known of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kymograph.store.base import StoreBase
from kymograph.store.metrics import Metrics, Sample


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

    def describe(self, name: str, *, kind: str | None = None, unit: str | None = None, help: str | None = None) -> None:
        """Set metadata of a metric; None leaves what is there. Nothing is written when nothing changes."""
        self._written(lambda: self._metrics().describe(name, kind, unit, help))

    def metrics(self) -> list[dict[str, Any]]:
        """Every metric by name: name, kind, unit, help ("" where unknown) and series, its number of series."""
        self._check()
        return self._metrics().listing()

    def _metrics(self) -> Metrics:
        return self._kept("metrics", lambda: Metrics(self._engine))
