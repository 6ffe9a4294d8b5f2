"""Samples replaced by summaries in place, so that no crash loses one and no query counts one twice.

A boundary says up to when samples have been replaced. Queries take the summaries up to it and the samples after it, so
what is moved is the boundary, in one document, after the summaries are durable and before the samples go:

1. writers below the new boundary wait; late samples below the old one are merged into their summaries;
2. the new summaries are appended;
3. the boundary moves, and the same document says that samples are still to be removed;
4. samples (and finer summaries) up to it are removed; the document says so.

What is found half done at an opening is finished before the first write. A summary knows when its samples were, so that
one that comes late is merged once, however often it is sent and whatever was cut short.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from kymograph.engine.interface import Engine, Maintained
from kymograph.errors import InvalidInput, StorageError
from kymograph.model.matcher import Matcher
from kymograph.model.schema import SAMPLES, SERIES_ID
from kymograph.model.spacing import unseen
from kymograph.model.summary import Floats, Ints, ceil_to
from kymograph.model.time import MINUTE, SECOND
from kymograph.promql.index import LabelIndex
from kymograph.promql.tiers import BEGINNING
from kymograph.store.jobs import now_micros
from kymograph.store.rollups.definition import duration
from kymograph.store.rollups.levels import DOCUMENT, KEY, State, append_level, level_rows, matching
from kymograph.store.rollups.lines import Filter, Line, boundaries, table_of
from kymograph.store.rollups.rollups import Rollups
from kymograph.store.rollups.sources import sample_rows, slices
from kymograph.store.rollups.timed import Timed, coarser, widened
from kymograph.store.rollups.touched import Range, Touched, Watch
from kymograph.store.rollups.watched import unwatched

log = logging.getLogger("kymograph.store")
# a boundary moves when it lags by this part of the age: each move rewrites the blocks that it runs through
_LAG = 8


class Downsampling:
    """The one who replaces samples in a writing store."""

    def __init__(self, engine: Engine, touched: Touched, rollups: Rollups) -> None:
        self._engine, self._inner = engine, unwatched(engine)
        self._touched, self._rollups = touched, rollups
        self._working = threading.RLock()
        # held while late samples are in their summaries and in the table of samples, both
        self.merging = threading.Lock()
        self._index = LabelIndex()
        self.state = State.of(engine.get_document(*DOCUMENT))
        # late samples since this was opened: put into their summaries, and left out because these had them
        self.merged = self.sent_again = 0
        rings = rollups.bounds
        rollups.bounds = lambda ids: np.maximum.reduce([rings(ids), *self.boundaries(ids).values()])

    # policies

    def set_policy(self, chosen: Filter, pairs: Sequence[tuple[int, int]]) -> None:
        """What is done to these series from now on; nothing more with no pairs. Boundaries stay where they are."""
        with self._working:
            for _, interval in pairs:
                self._check(Line(chosen, interval, None))
            kept = [replace(line, older=None) if line.chosen == chosen else line for line in self.state.lines]
            for older, interval in pairs:
                kept = _put(kept, Line(chosen, interval, older))
            # a line that has not replaced anything and will not is nothing
            self._keep(lines=tuple(line for line in kept if line.older is not None or line.boundary != BEGINNING))

    def run(self) -> str:
        """Apply every policy, and merge what came late."""
        samples = summaries = 0
        with self._working:
            self.recover()
            before = self.merged, self.sent_again
            self._merge_late()
            for line in sorted(self.state.lines, key=lambda one: one.interval):
                if line.older is None:
                    continue
                upto = (now_micros() - line.older) // line.interval * line.interval
                if line.boundary == BEGINNING or upto - line.boundary >= max(line.interval, line.older // _LAG):
                    done = self.advance(line, upto)
                    samples, summaries = samples + done[0], summaries + done[1]
        late, again = self.merged - before[0], self.sent_again - before[1]
        return f"{samples} samples replaced by {summaries} summaries, {late} late ones merged, {again} sent again"

    def once(self, older: int, interval: int, chosen: Filter) -> dict[str, int]:
        """See `Store.downsample`."""
        with self._working:
            self.recover()
            self._merge_late()
            upto = (now_micros() - older) // interval * interval
            line = Line(chosen, interval, None)
            self._check(line)
            line = next((one for one in self.state.lines if one.key == line.key), line)
            samples, summaries = self.advance(line, upto)
            return {"samples": samples, "summaries": summaries, "interval": interval, "upto": upto}

    def _check(self, line: Line) -> None:
        for other in self.state.lines:
            low, high = sorted((other.interval, line.interval))
            if high % low:
                raise InvalidInput(
                    f"{duration(line.interval)} and {duration(other.interval)}, which is in use, do not divide each other",
                    hint="intervals are multiples of each other",
                )

    # the work

    def advance(self, line: Line, upto: int) -> tuple[int, int]:
        """Replace what a line matches up to a time. Returns samples removed and summaries written."""
        self._check(line)
        ids = self._ids(line)
        upto = self._summarised_elsewhere(line, upto)
        everywhere = np.fromiter(self._engine.series(), np.int64) if ids is None else ids
        if not len(everywhere):
            return 0, 0
        bounds = self.boundaries(everywhere)
        cover = np.full(len(everywhere), BEGINNING, np.int64)
        for interval, bound in bounds.items():
            if interval >= line.interval:
                cover = np.maximum(cover, bound)
        sources = [SAMPLES, *(table_of(one) for one in bounds if one < line.interval)]
        begin = max(self._oldest(sources, line.interval, upto), int(cover.min()))
        edges = [begin, *sorted({int(one) for one in cover if begin < one < upto}), upto]
        samples = summaries = 0
        for first, last in pairwise(edges):
            for low, high in slices(self._engine, sources, first, last, line.interval):
                self._rollups.check()
                done = self._step(line, ids, everywhere[cover <= low], low, high, sources if low == begin else ())
                samples, summaries = samples + done[0], summaries + done[1]
        return samples, summaries

    def _step(
        self, line: Line, ids: Ints | None, active: Ints, low: int, high: int, older: Sequence[str]
    ) -> tuple[int, int]:
        """Move a line's boundary from `low` to `high`; `active` are the series that are not summarised so far yet.

        Args:
            older: tables in which there may be rows older than `low` by now that are in no summary yet.
        """
        if not len(active) or low >= high:
            return 0, 0
        gate = max([high, *(one.boundary for one in self.state.lines)]) + 1
        with self._alone(gate):
            self._merge_late()
            self._forget(line.interval, active, low, high)
            # what came between the look for the oldest row and the gate
            low = min(low, self._oldest(older, line.interval, low + 1))
            made = self._gathered(line, active if ids is not None else None, active, low, high)
            append_level(self._inner, line.interval, made)
            if isinstance(self._inner, Maintained):  # the log goes with the catalog, should that be lost; blocks stay
                self._inner.seal(table_of(line.interval))
            self._watch(high + 1)
            pending = {"chosen": line.chosen, "interval": line.interval, "upto": high}
            current = next((one for one in self.state.lines if one.key == line.key), line)
            self._keep(
                lines=tuple(_put(list(self.state.lines), current.moved(max(current.boundary, high)))), pending=pending
            )
            gone = self._remove(line, ids, low + 1, high + 1)
            self._keep(pending=None)
        return gone, len(made.rows)

    def _gathered(self, line: Line, ids: Ints | None, active: Ints, low: int, high: int) -> Timed:
        """Summaries of the buckets in (low, high] from samples and from finer summaries."""
        series, times, values = sample_rows(self._engine, low + 1, high + 1, ids)
        bounds = self.boundaries(active)
        highest = np.maximum.reduce([np.full(len(active), BEGINNING, np.int64), *bounds.values()])
        places = np.searchsorted(active, series)
        known = active[np.minimum(places, len(active) - 1)] == series
        fresh = known & (times > highest[np.minimum(places, len(active) - 1)])
        series, times, values = series[fresh], times[fresh], values[fresh]
        parts = [Timed.of(series, times, values, line.interval)]
        below = np.full(len(active), BEGINNING, np.int64)
        for interval, bound in bounds.items():
            if interval < line.interval:
                finer = self.rows(interval, active, low + 1, high + 1)
                at = np.searchsorted(active, finer.rows.series)
                inside = (finer.rows.bucket > below[at]) & (finer.rows.bucket <= bound[at])
                parts.append(coarser([finer.taken(np.flatnonzero(inside))], line.interval))
            below = np.maximum(below, bound)
        return coarser(parts, line.interval)

    def _merge_late(self) -> None:
        """Put samples that came below the boundaries into their summaries, but those that were sent again."""
        if not self._touched.knows(KEY):
            return
        noted, _ = self._touched.take(KEY)
        if not noted:
            return
        ranges, done = self._whole(noted), False
        try:
            with self._alone(ranges[-1][1]), self.merging:
                self._keep(pending={"late": ranges})
                self._merge(ranges)
                self._keep(pending=None)
            done = True
        finally:
            self._touched.clear(KEY, done=done)

    def _whole(self, noted: Sequence[Range]) -> list[Range]:
        """The ranges widened to the coarsest buckets in use, none of which then lies in two: it is merged at once."""
        width = max((line.interval for line in self.state.lines), default=SECOND)
        found: list[Range] = []
        for start, end in noted:
            low, high = (start - 1) // width * width + 1, -(-(end - 1) // width) * width + 1
            if found and low <= found[-1][1]:
                found[-1] = (found[-1][0], max(found[-1][1], high))
            else:
                found.append((low, high))
        return found

    def _merge(self, ranges: Sequence[Sequence[int]]) -> None:
        ids = np.fromiter(self._engine.series(), np.int64)
        bounds = self.boundaries(ids)
        highest = np.maximum.reduce([np.full(len(ids), BEGINNING, np.int64), *bounds.values()])
        for start, end in ranges:
            series, times, values = sample_rows(self._engine, start, end)
            at = np.searchsorted(ids, series)
            below = np.full(len(ids), BEGINNING, np.int64)
            for interval, bound in bounds.items():
                mine = np.flatnonzero((times > below[at]) & (times <= bound[at]))
                self._widen(interval, series[mine], times[mine], values[mine])
                below = np.maximum(below, bound)
            late = times <= highest[at]
            for bound in np.unique(highest[at[late]]).tolist():
                gone = np.unique(series[late & (highest[at] == bound)])
                matcher = Matcher(SERIES_ID, "in", frozenset(gone.tolist()))
                self._inner.delete(SAMPLES, (matcher,), start, min(end, bound + 1))

    def _widen(self, interval: int, series: Ints, times: Ints, values: Floats) -> None:
        """Put samples into the summaries of their buckets, where these do not have them."""
        if not len(times):
            return
        low, high = (int(edge) for edge in ceil_to(np.array([times.min(), times.max()]), interval))
        there = self.rows(interval, np.unique(series), low, high + 1)
        new = unseen(there.rows, there.times, interval, series, times)
        if new.any():
            append_level(self._inner, interval, widened(there, series[new], times[new], values[new], interval))
        self.merged += int(new.sum())
        self.sent_again += int((~new).sum())

    @contextmanager
    def _alone(self, below: int) -> Iterator[None]:
        """No write below a time in here; nor later where this ends with something half done, before that is finished.

        A sample that came between would be taken for one that is in its summary already, and removed.
        """
        with self._touched.shut(SAMPLES, below):
            try:
                yield
            except BaseException:
                if self.state.pending is not None:
                    self._touched.refuse(SAMPLES, below)
                raise

    def open(self) -> None:
        """Finish what a crash has left half done; where the disk refuses that, the job will, and nothing late is taken before."""
        pending = self.state.pending or {}
        self._watch_again()
        try:
            self.recover()
        except StorageError as problem:
            log.error("downsampling is half done, and cannot be finished yet: %s", problem)
            self._touched.refuse(SAMPLES, pending["late"][-1][1] if "late" in pending else pending["upto"] + 1)

    def _watch_again(self) -> None:
        """After the catalog was made anew nobody knows what came late: all that is left below the boundaries."""
        upto = max((line.boundary for line in self.state.lines), default=BEGINNING)
        if upto == BEGINNING or self._touched.knows(KEY):
            return
        self._watch(upto + 1)
        oldest = self._oldest((SAMPLES,), SECOND, upto)
        if oldest < upto:
            self._touched.note(KEY, SAMPLES, oldest, upto + 1)

    def recover(self) -> None:
        """Finish what is half done."""
        pending = self.state.pending
        if pending is None:
            return
        with self._working:
            if "late" in pending:
                with self.merging:
                    self._merge(pending["late"])
            else:
                chosen = tuple((name, tuple(values)) for name, values in pending["chosen"])
                line = Line(chosen, pending["interval"], None)
                self._remove(line, self._ids(line), None, pending["upto"] + 1)
            self._keep(pending=None)
            self._touched.allow(SAMPLES)

    # rows

    def rows(self, interval: int, ids: Ints, start: int, end: int) -> Timed:
        """Stored summaries with a time in [start, end), by series and time."""
        return level_rows(self._engine, table_of(interval), ids, start, end, timed=True)

    def _forget(self, interval: int, ids: Ints, low: int, high: int) -> None:
        """Remove summaries in (low, high] that a crash has left of these series, before their boundary moved."""
        there = self.rows(interval, ids, low + 1, high + 1).rows
        if len(there):
            self._inner.delete(table_of(interval), matching(np.unique(there.series)), low + 1, high + 1)

    def _remove(self, line: Line, ids: Ints | None, start: int | None, end: int) -> int:
        """Remove the samples and finer summaries of a line before `end`. Returns samples removed."""
        matchers = () if ids is None else matching(ids)
        finer = {table_of(one.interval) for one in self.state.lines if one.interval < line.interval}
        for table in finer & set(self._engine.tables()):
            self._inner.delete(table, matchers, start, end)
        return self._inner.delete(SAMPLES, matchers, start, end) if SAMPLES in self._engine.tables() else 0

    # what is summarised

    def boundaries(self, ids: Ints) -> dict[int, Ints]:
        """By interval, coarsest first, up to when each of these series is summarised by it."""
        return boundaries(((line, self._ids(line)) for line in self.state.lines), ids)

    def _ids(self, line: Line) -> Ints | None:
        """Ids of the series that a line matches, ascending; None is all of them."""
        if not line.chosen:
            return None
        self._index.refresh(self._engine.series())
        return self._index.select(line.matchers)[0]

    def _oldest(self, tables: Sequence[str], interval: int, otherwise: int) -> int:
        """A bucket's end before which there is nothing."""
        there = [self._engine.statistics(table).oldest for table in tables if table in self._engine.tables()]
        oldest = min((one for one in there if one is not None), default=otherwise)
        return (oldest - 1) // interval * interval

    def _summarised_elsewhere(self, line: Line, upto: int) -> int:
        """`upto`, or up to when every rollup of samples has seen them."""
        now = now_micros()
        for name, rollup in self._rollups.known().items():
            if SAMPLES in rollup.tables:
                self._rollups.advance(name, now)
                upto = min(upto, (self._touched.upto(name) - 1) // line.interval * line.interval)
        return upto

    def _watch(self, upto: int) -> None:
        if not self._touched.knows(KEY):
            self._touched.watch(Watch(KEY, (SAMPLES,), MINUTE, upto))
        else:
            self._touched.raise_to(KEY, upto)
            self._touched.settle(KEY)

    def _keep(self, **changes: Any) -> None:
        state = replace(self.state, **changes, count=self.state.count + 1)
        self._engine.put_document(*DOCUMENT, state.to_document())
        self.state = state

    @contextmanager
    def settled(self) -> Iterator[None]:
        """No late samples are being merged in here; a merge that begins later is told by the count of changes."""
        with self.merging:
            yield


def _put(lines: list[Line], line: Line) -> list[Line]:
    """With this line, in place of the one of the same filter and interval, whose boundary it keeps if that is later."""
    there = next((one for one in lines if one.key == line.key), None)
    if there is None:
        return [*lines, line]
    line = line.moved(max(line.boundary, there.boundary))
    return [line if one is there else one for one in lines]
