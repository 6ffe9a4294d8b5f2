"""The verbs of rings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kymograph.engine.rings import Floats, Ints, Ring
from kymograph.errors import InvalidInput
from kymograph.options import QueryLimits, parse_duration
from kymograph.store.exemplars.book import EXEMPLARS
from kymograph.store.query_verbs import QueryVerbs
from kymograph.store.rings.metric import RingMetric, RingMetrics
from kymograph.store.rings.rings import DEFAULT_SLOTS, RingBook, Target

if TYPE_CHECKING:
    from datetime import timedelta

    from kymograph.sql.result import Result
    from kymograph.store.rings.window import Selector, Window


class RingVerbs(QueryVerbs):
    """Metrics in rings; see `Store`."""

    def ring(
        self,
        name: str,
        step: str | timedelta | int = "1s",
        slots: int = DEFAULT_SLOTS,
        *,
        labels: Mapping[str, str] | None = None,
        kind: str = "gauge",
        unit: str | None = None,
        help: str | None = None,
    ) -> RingMetric:
        """Keep a metric in a ring of `slots` slots of `step` each, so that it never takes more room.

        A sample goes into slot `(time // step) % slots`; the last write into a slot wins, but a sample of an older
        step never takes the place of a newer one. Write with `gauge`, `counter` or any other way that samples have in;
        they are in PromQL and SQL as all others. A metric that is such a ring already is left as it is.

        Args:
            name, labels: as for `gauge`.
            step: duration text, timedelta or int µs.
            slots: 1 to 33,554,432; each takes 16 bytes.
            kind: gauge, counter, histogram, summary or untyped.

        Raises:
            InvalidInput: a name, label, step, kind or number of slots that is none.
            AlreadyExists: the metric is another ring, or has samples in none.
            LimitExceeded: too many series, or the rings would take more than a quarter of the store's cap.
        """
        ring = Ring(parse_duration(step), slots, kind)
        return self._written(lambda: self._rings().define(name, labels or {}, ring, unit, help))

    def rings(self) -> list[RingMetric]:
        """Every metric that is kept in a ring, by id."""
        self._check()
        return [metric for metric in self._ring_metrics().all() if metric.ring is not None]

    def resize_ring(
        self,
        name: str,
        step: str | timedelta | int | None = None,
        slots: int | None = None,
        *,
        labels: Mapping[str, str] | None = None,
    ) -> RingMetric:
        """Give a ring another step or number of slots at once; None leaves what is there.

        Samples move into their new slots in order of time, so that the newest of each slot is kept.

        Raises:
            NotFound: no such metric. AlreadyExists: it is no ring. InvalidInput: as `ring`; LimitExceeded likewise.
        """
        width = None if step is None else parse_duration(step)
        number = self._found_ring(name, labels)
        return self._written(lambda: self._rings().resize(number, width, slots))

    def drop_ring(self, name: str, *, labels: Mapping[str, str] | None = None) -> None:
        """Forget a ring and its samples. Raises NotFound."""
        number = self._found_ring(name, labels)
        self._written(lambda: self._rings().remove(number))

    def ring_metrics(self) -> RingMetrics:
        """Metrics as the ring face of HTTP names them: by id, or by name and tags."""
        self._check()
        return self._ring_metrics()

    def write_rings(self, kind: str, targets: Sequence[Target], of: Ints, times: Ints, values: Floats) -> list[int]:
        """Store samples of gauges or counters in one step; metrics that are not there become rings.

        Args:
            kind: gauge or counter.
            targets: what samples are for.
            of: int64 of n, which of the targets each sample is for.
            times: int64 µs, n of them. values: float64, n of them.

        Returns:
            Ids of the targets.

        Raises:
            NotFound: an id that no metric has. InvalidInput: a name, label, step or number of slots that is none.
            AlreadyExists: a metric of another kind, step or slots. TimeError: a time out of range. Nothing is stored
            then.
        """
        return self._written(lambda: self._rings().write(kind, targets, of, times, values))

    def resize_metric(self, metric_id: int, step: int | None, slots: int | None) -> RingMetric:
        """As `resize_ring`, by id; step in µs."""
        return self._written(lambda: self._rings().resize(metric_id, step, slots))

    def delete_metric(self, metric_id: int) -> None:
        """Forget a metric, its ring, its samples and its exemplars. Raises NotFound."""
        self._written(lambda: self._rings().remove(metric_id))
        self._dropped(EXEMPLARS)

    def ring_sql(
        self,
        sql: str,
        *,
        start: float | None = None,
        end: float | None = None,
        metric_ids: Sequence[int] = (),
        selectors: Sequence[Selector] = (),
        limits: QueryLimits | None = None,
    ) -> Result:
        """Run one read-only statement over `samples(metric_id, ts, value)`, `metrics` and `metric_tags`.

        Args:
            sql: `{{alias}}` in it stands for the id of the metric that a selector resolves to.
            start, end: seconds since 1970; `samples` has `start <= ts <= end`, ts being whole seconds, floored.
            metric_ids, selectors: whose samples there are; without either, everybody's.

        Raises:
            NotFound: no such metric. InvalidInput: a selector that resolves to several. QueryError and LimitExceeded as
            `sql`.
        """
        self._check()
        return self._window().ask(sql, start, end, metric_ids, selectors, limits or QueryLimits())

    def ring_samples(
        self,
        metric_id: int,
        *,
        start: float | None = None,
        end: float | None = None,
        bucket: str | timedelta | int | None = None,
        most: int = 10_000,
    ) -> dict[str, Any]:
        """Samples of one metric as arrays, oldest first; see `Window.samples`."""
        width = None if bucket is None else parse_duration(bucket)
        if width == 0:
            raise InvalidInput("a bucket has a positive width")
        self._check()
        return self._window().samples(metric_id, start, end, width, most)

    def _found_ring(self, name: str, labels: Mapping[str, str] | None) -> int:
        self._check()
        return self._ring_metrics().resolve(name, labels or {}).id

    def _ring_metrics(self) -> RingMetrics:
        return self._kept("ring metrics", lambda: RingMetrics(self._engine, self._series_source(), self._metadata()))

    def _rings(self) -> RingBook:
        return self._kept(
            "rings",
            lambda: RingBook(self._engine, self._series_ids(), self._metadata(), self._metrics(), self._ring_metrics()),
        )

    def _window(self) -> Window:
        from kymograph.store.rings.window import Window

        return self._kept("ring window", lambda: Window(self._engine, self._ring_metrics(), self._sql_session()))
