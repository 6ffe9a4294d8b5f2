"""Pages of the exposition format into the store, as somebody sends them instead of having them scraped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kymograph.errors import InvalidInput
from kymograph.model.exemplar import Exemplar
from kymograph.wire.exposition import page as exposition
from kymograph.wire.exposition.line import Series

if TYPE_CHECKING:
    from kymograph.store.ingest.verbs import IngestVerbs as Store

# series taken apart already; one page more, and all are taken apart anew
_MOST = 200_000


class PageWriter:
    """Writes pages into one store; remembers the series it has met. Safe in many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cache: dict[str, Series] = {}

    def write(
        self, store: Store, page: bytes, now: int, openmetrics: bool, labels: Mapping[str, str], most: int | None
    ) -> int:
        """See `Store.write_exposition`."""
        with self._lock:
            if len(self._cache) > _MOST:
                self._cache = {}
            cache = self._cache
        families = exposition.parse(page, openmetrics=openmetrics, cache=cache, max_samples=most)
        # the parser gives one and the same labels for one and the same text
        distinct: dict[int, int] = {}
        series: list[tuple[str, Mapping[str, str]]] = []
        places: list[int] = []
        times: list[int] = []
        values: list[float] = []
        about: dict[str, dict[str, str]] = {}
        for family in families:
            for name, own, value, time in family.samples:
                if name not in about:
                    about[name] = exposition.metadata(family, name)
                place = distinct.setdefault(id(own), len(series))
                if place == len(series):
                    series.append((name, {**own, **labels}))
                places.append(place)
                times.append(now if time is None else time)
                values.append(value)
        if not places:
            return 0
        ids: Any = store.series_ids(series)[np.array(places)]
        stored = store.append_samples(ids, np.array(times, np.int64), np.array(values, np.float64))
        store.describe_many({name: told for name, told in about.items() if told.get("kind", "untyped") != "untyped"})
        exemplars = exemplars_of(families, now, lambda _, own: {**own, **labels})
        if exemplars:
            store.exemplars_beside(exemplars)
        return stored


def exemplars_of(
    families: Iterable[exposition.Family], now: int, recorded: Callable[[str, dict[str, str]], Mapping[str, str]]
) -> list[Exemplar]:
    """The exemplars of a page; `recorded` gives the labels that a series of the page is stored under.

    One without a time has that of its sample, or else `now`.
    """
    return [
        Exemplar(name, labels, value, recorded(name, own), _first(time, sampled, now), stamped=time is not None)
        for family in families
        for (name, own, _, sampled), labels, value, time in family.exemplars
    ]


def _first(*times: int | None) -> int:
    return next(time for time in times if time is not None)


def extra_labels(pairs: list[str]) -> dict[str, str]:
    """Labels of `name=value` texts. Raises InvalidInput."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidInput(f"{pair[:80]!r} is no label", hint="write it like job=backup")
        found[name] = value
    return found
