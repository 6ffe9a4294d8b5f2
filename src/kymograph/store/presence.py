"""Which series are there within a range of time: told by the newest sample of each where that is enough, otherwise looked
for in what is stored, from the end of the range backwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kymograph.engine.interface import Engine, Scan
from kymograph.errors import NotFound
from kymograph.model.matcher import of_series
from kymograph.model.schema import SAMPLES, SERIES_ID
from kymograph.model.time import MAX_TIME, MIN_TIME, TIME, micros_of
from kymograph.promql.index import Ints
from kymograph.promql.labels import Bools
from kymograph.promql.source import Source

# µs: of most series that are there at all a sample is found in so short a stretch; each further one is wider
_STRETCH = 300 * 10**6
_WIDER = 8
_NEVER = np.iinfo(np.int64).min


class Presence:
    """Series with samples, or with summaries of samples that are gone, in [start, end).

    Args:
        start, end: µs; None where that side is open.
    """

    def __init__(self, engine: Engine, source: Source, start: int | None, end: int | None) -> None:
        self._engine, self._source = engine, source
        self._always = start is None and end is None
        self._start = MIN_TIME if start is None else start
        self._end = MAX_TIME + 1 if end is None else end

    def scalars(self, ids: Ints) -> Bools:
        """A mask of scalar series, whose ids ascend. Summaries tell to the width of their buckets."""
        there = np.full(len(ids), self._always)
        if self._always or not len(ids):
            return there
        start, end = self._start, self._end
        if SAMPLES in self._engine.tables():
            newest = self._newest(ids)
            there |= (newest >= start) & (newest < end)
            self._seek(SAMPLES, ids, there, newest >= end, start, end)
        # after the samples, so that what is summarised meanwhile is seen at least once
        held = None if self._source.tiers is None else self._source.tiers.keeper.held(ids)
        if held is not None:
            for level in held.levels:  # buckets (time - width, time]
                self._seek(level.table, ids, there, level.boundary >= start, start, end + level.width - 1)
            gone = min(end, max(held.lost, int(held.pushed.max()) + 1))
            for tier in held.tiers:  # buckets [time, time + width)
                self._seek(tier.table, ids, there, ~there, start - tier.width + 1, gone)
        return there

    def table(self, name: str, labels: Sequence[tuple[str, ...]]) -> bool:
        """Whether a table with these label sets, or a stream, may have rows in the range, or summaries of such."""
        if self._always:
            return True
        try:
            oldest, newest = self._extent(name, labels)
        except NotFound:  # dropped meanwhile
            return False
        return oldest is not None and newest is not None and oldest < self._end and newest >= self._start

    def _extent(self, name: str, labels: Sequence[tuple[str, ...]]) -> tuple[int | None, int | None]:
        if name not in self._engine.tables():
            stream = self._engine.streams.statistics("".join(labels[0]))  # its path is its only label
            return stream.start, None if stream.end is None else stream.end - 1
        rows = self._engine.statistics(name)
        tiers = [] if self._source.tiers is None else self._source.tiers.keeper.beside(name)[0]
        known = [time for time in (rows.oldest, *(tier.oldest for tier in tiers)) if time is not None]
        return min(known, default=None), rows.newest

    def _newest(self, ids: Ints) -> Ints:
        latest = self._engine.latest(SAMPLES)
        numbers = latest[SERIES_ID].to_numpy()
        newest = np.full(max(int(ids.max()), int(numbers.max(initial=0))) + 1, _NEVER)
        newest[numbers] = micros_of(latest[TIME].combine_chunks())
        found: Ints = newest[ids]
        return found

    def _seek(self, table: str, ids: Ints, there: Bools, maybe: Bools, start: int, end: int) -> None:
        """Mark those of `maybe` that have a row of the table in [start, end)."""
        wanted = np.flatnonzero(maybe & ~there)
        if not len(wanted) or table not in self._engine.tables():
            return
        numbers = self._engine.statistics(table)
        if numbers.oldest is None or numbers.newest is None:
            return
        start, end, width = max(start, numbers.oldest), min(end, numbers.newest + 1), _STRETCH
        while start < end and len(wanted):
            since = max(start, end - width)
            matchers = of_series(ids[wanted], len(self._engine.series()))
            for found in _series_of(self._engine.scan(table, matchers, since, end, [SERIES_ID, TIME])):
                there |= np.isin(ids, found)
            wanted = wanted[~there[wanted]]
            end, width = since, width * _WIDER


def _series_of(scan: Scan) -> Iterator[Any]:
    """Ids of the series of a scan, batch by batch."""
    if scan.by_series is None:
        for batch in scan.batches():
            yield np.unique(batch.column(0).to_numpy())
        return
    for part in scan.by_series:
        for one in part():
            yield one.labels[SERIES_ID].to_numpy()
