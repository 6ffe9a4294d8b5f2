"""The verbs of exemplars."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from kymograph.errors import InvalidInput, KymographError
from kymograph.model.exemplar import Exemplar
from kymograph.model.time import to_micros
from kymograph.store.exemplars.book import EXEMPLARS, Exemplars
from kymograph.store.jobs import now_micros
from kymograph.store.metric_verbs import MetricVerbs
from kymograph.store.naming import identity, number_of


class ExemplarVerbs(MetricVerbs):
    """Exemplars of a store; see `Store`."""

    def exemplars(self, query: str, start: Any = None, end: Any = None) -> list[Exemplar]:
        """The exemplars with time in [start, end) of every series that a selector of the query finds.

        Args:
            query: PromQL, of which only the selectors count: `rate(http_seconds_bucket{job="api"}[5m])` has one.

        Returns:
            By series, in the order of their sorted labels, then by time; each is there once. Times are int µs.

        Raises:
            QueryError: a query that is none.
        """
        from kymograph.store.exemplars.finding import find_exemplars

        since, until = None if start is None else to_micros(start), None if end is None else to_micros(end)
        return find_exemplars(self.engine, self._series_source(), query, since, until)

    def record_exemplars(self, exemplars: Iterable[Exemplar]) -> list[bool]:
        """Store exemplars in one durable step; the newest `StoreOptions.exemplars` are kept.

        Passed over are those of a series that is not there, that are not newer than the newest of their series, or
        whose labels have more than 128 characters in all.

        Returns:
            Of each whether it was stored.

        Raises:
            InvalidInput: a name, label or value that is none.
        """
        given = [_checked(one) for one in exemplars]
        return self._written(lambda: self._exemplars().add(given, now_micros()))

    def exemplars_beside(self, exemplars: Sequence[Exemplar]) -> list[bool]:
        """Store exemplars that came with samples, which are stored already: no failure here costs those.

        Times are int µs. Tells which were stored; what the storage says is in `healthy`.
        """
        try:
            return self._written(lambda: self._exemplars().add(exemplars, now_micros()))
        except KymographError:
            return [False] * len(exemplars)

    def _exemplars(self) -> Exemplars:
        return self._kept(EXEMPLARS, lambda: Exemplars(self._engine, self._series_ids(), self.options.exemplars))


def _checked(one: Exemplar) -> Exemplar:
    if not isinstance(one, Exemplar):
        raise InvalidInput(f"{one!r} is not an Exemplar")
    series = dict(identity(one.name, one.series))
    value = number_of(one.name, one.value)
    return replace(one, series=series, value=value, time=None if one.time is None else to_micros(one.time))
