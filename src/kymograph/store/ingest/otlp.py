"""OTLP requests into the store; deltas are summed up to totals, whose state is bounded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

from kymograph.errors import InvalidInput, LimitExceeded
from kymograph.model.time import MAX_TIME
from kymograph.wire.otlp.request import Point, Request, Series

if TYPE_CHECKING:
    from kymograph.store.ingest.verbs import IngestVerbs as Store

# series whose total is remembered; one more, and the one that was silent longest starts again from zero
MOST_TOTALS = 200_000
# series whose id is remembered
_MOST_IDS = 1_000_000

# series, time in µs, value, and the number of the data point it is of
_Placed = tuple[Series, int, float, int]


class OtlpWriter:
    """Writes decoded requests into one store. Safe in many threads: requests with deltas go one after the other."""

    def __init__(self, most_totals: int = MOST_TOTALS) -> None:
        self._most = most_totals
        self._totals: OrderedDict[Series, tuple[int, float]] = OrderedDict()
        self._lock = threading.Lock()
        self._ids: dict[Series, int] = {}

    def write(self, store: Store, request: Request, now: int) -> int:
        """Store all points of a request in one step; those that cannot be are counted as rejected in it.

        Returns:
            Samples stored.
        """
        if any(point.delta for point in request.points):
            with self._lock:
                fresh: dict[Series, tuple[int, float]] = {}
                samples = self._samples(request, now, fresh)
                stored = self._append(store, request, samples)
                # only what is stored has happened: a request that fails is sent again
                self._totals.update(fresh)
                for series in fresh:
                    self._totals.move_to_end(series)
                while len(self._totals) > self._most:
                    self._totals.popitem(last=False)
        else:
            stored = self._append(store, request, self._samples(request, now, {}))
        store.describe_many(request.about)
        exemplars = [one for point in request.points for one in point.exemplars]
        if exemplars:
            request.exemplars = sum(store.exemplars_beside(exemplars))
        return stored

    def _samples(self, request: Request, now: int, fresh: dict[Series, tuple[int, float]]) -> list[_Placed]:
        """All samples; totals that grew are in `fresh`."""
        samples: list[_Placed] = []
        for number, point in enumerate(request.points):
            time = point.time or now
            if not 0 < time <= MAX_TIME:
                request.reject(1, f"a time of {time} µs is out of range")
            elif not point.delta:
                samples += [(series, time, value, number) for series, value in point.samples]
            elif self._is_late(point, time, fresh):
                request.reject(1, f"a delta of {point.samples[0][0][0]} is not newer than the one before it")
            else:
                for series, value in point.samples:
                    total = (fresh.get(series) or self._totals.get(series) or (0, 0.0))[1] + value
                    fresh[series] = (time, total)
                    samples.append((series, time, total, number))
        return samples

    def _is_late(self, point: Point, time: int, fresh: dict[Series, tuple[int, float]]) -> bool:
        """Whether a delta was counted already, or comes too late to be told from one that was."""
        return any(
            (fresh.get(series) or self._totals.get(series) or (0, 0.0))[0] >= time for series, _ in point.samples
        )

    def _append(self, store: Store, request: Request, samples: list[_Placed]) -> int:
        if len(self._ids) > _MOST_IDS:
            self._ids = {}
        ids, problem = self._resolve(store, {series for series, *_ in samples})
        if problem:
            refused = [sample for sample in samples if sample[0] not in ids]
            request.reject(len({number for *_, number in refused}), problem)
            samples = [sample for sample in samples if sample[0] in ids]
        if not samples:
            return 0
        numbers = np.array([ids[series] for series, *_ in samples], np.int64)
        times = np.array([time for _, time, *_ in samples], np.int64)
        values = np.array([value for _, _, value, _ in samples], np.float64)
        try:
            return store.append_samples(numbers, times, values)
        except InvalidInput:  # a series was deleted since its id was learnt: the next request registers it anew
            self._ids = {}
            raise

    def _resolve(self, store: Store, series: set[Series]) -> tuple[dict[Series, int], str]:
        """Ids by series; those that cannot be registered are left out, and why is told."""
        known = self._ids
        missing = [each for each in series if each not in known]
        problem = ""
        if missing:
            try:
                self._register(store, missing)
            except LimitExceeded as error:
                problem = str(error)
            except InvalidInput:
                for each in missing:  # one bad name must not cost the others
                    try:
                        self._register(store, [each])
                    except (InvalidInput, LimitExceeded) as error:
                        problem = str(error)
        return {each: known[each] for each in series if each in known}, problem

    def _register(self, store: Store, series: list[Series]) -> None:
        ids = store.series_ids([(name, dict(labels)) for name, labels in series])
        self._ids.update(zip(series, ids.tolist(), strict=True))
