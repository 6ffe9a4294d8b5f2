"""The pages of a folder's rings: which there are, their slots decoded and cached, and how samples get into them.

Locks, in this order: the catalog's, held from the beginning of a change until memory knows what was committed; `_lock`,
for moments. Who finds every page he needs in the cache waits for no commit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kymograph.engine.rings import SLOT_BYTES, Ints, Ring, RingSamples
from kymograph.errors import NotFound
from kymograph.local.cache import ColumnCache
from kymograph.local.catalog import Catalog
from kymograph.local.ring_rows import EMPTY, PAGE_SHIFT, PAGE_SLOTS, SERIES_MASK, RingRows, page_id, series_of

_CATALOG_PAGE, _SIDE_BY_SIDE = 8192, 8  # bytes of a page of the catalog, and how many of a ring it holds
_LATE = np.iinfo(np.int64).max
# columns of what is known of a ring's pages without reading them; a missing page has the checksum -1
_ROWS, _LOW, _HIGH, _CRC = range(4)
_Facts = Mapping[int, Ints]


class RingNumbers(NamedTuple):
    """What all rings hold together. Times are int µs, None where there is no sample."""

    rows: int
    series: int
    oldest: int | None
    newest: int | None


@dataclass(frozen=True)
class _Page:
    """The slots of a page, int64 of shape (2, slots): times, and the bits of the values; never changed."""

    slots: Ints
    crc: int

    @property
    def nbytes(self) -> int:
        return int(self.slots.nbytes)


@dataclass(frozen=True)
class Change:
    """Pages that a transaction has written, to be known once it is committed."""

    pages: list[int]
    facts: Ints
    slots: list[Ints]


class RingPages:
    """Rings of one catalog.

    `store` and `replace` need its open transaction; `keep`, `define` and `forget` follow its commit, before the
    catalog's lock is let go.
    """

    def __init__(self, catalog: Catalog, cache: ColumnCache) -> None:
        self._catalog = catalog
        self._cache = cache
        self._lock = threading.RLock()
        self._facts: dict[int, Ints] = {}
        self._version = -1
        self.rows = RingRows(catalog)
        self.rings: Mapping[int, Ring] = {}

    def load(self) -> None:
        """See what the catalog has, in its open `reading()`."""
        rings = self.rows.rings()
        pages = self.rows.pages()
        facts = {number: _blank(ring) for number, ring in rings.items()}
        series, numbers = pages[:, 0] & SERIES_MASK, pages[:, 0] >> PAGE_SHIFT
        order = np.argsort(series, kind="stable")
        for places in np.split(order, np.flatnonzero(np.diff(series[order])) + 1) if len(order) else ():
            own = facts.get(int(series[places[0]]))
            if own is not None and numbers[places].max() < len(own):
                own[numbers[places]] = pages[places, 1:]
        with self._lock:
            self.rings, self._facts = rings, facts
            self._version = self._catalog.data_version()

    # looking

    def read(self, ids: Iterable[int], start: int | None, end: int | None) -> RingSamples:
        """Samples of [start, end) of rings, by id and time."""
        low, high = EMPTY + 1 if start is None else start, _LATE if end is None else end

        def wanted(facts: Ints) -> list[int]:
            inside = (facts[:, _ROWS] > 0) & (facts[:, _HIGH] >= low) & (facts[:, _LOW] < high)
            return [int(place) for place in np.flatnonzero(inside)]

        owners, pages = self._chosen(ids, wanted)
        if not pages:
            return _nothing()
        times, bits = np.concatenate(pages, axis=1)
        series = np.repeat(np.array(owners, np.int64), [page.shape[1] for page in pages])
        there = (times >= low) & (times < high) & (times != EMPTY)
        series, times, bits = series[there], times[there], bits[there]
        order = np.lexsort((times, series))
        return RingSamples(series[order], times[order], bits[order].view(np.float64))

    def latest(self, ids: Iterable[int]) -> RingSamples:
        """The newest sample of every ring that has one, by id."""

        def wanted(facts: Ints) -> list[int]:
            return [int(facts[:, _HIGH].argmax())] if facts[:, _ROWS].any() else []

        owners, pages = self._chosen(ids, wanted)
        if not pages:
            return _nothing()
        stacked = np.stack([_wide(page) for page in pages])
        every, newest = np.arange(len(pages)), stacked[:, 0].argmax(1)
        return RingSamples(
            np.array(owners, np.int64), stacked[every, 0, newest], stacked[every, 1, newest].view(np.float64)
        )

    def _chosen(self, ids: Iterable[int], wanted: Callable[[Ints], list[int]]) -> tuple[list[int], list[Ints]]:
        """The pages of each ring that `wanted` names, with the ring each is of; all of one moment."""
        chosen = list(ids)
        with self._lock:
            found = self._found(chosen, wanted, cached=True)
        if found is None:
            # what is read from the catalog now is what memory knows: nobody here commits meanwhile, and where another
            # process has, it is seen first
            with self._catalog.reading(), self._lock:
                if self._catalog.data_version() != self._version:
                    self.load()
                found = self._found(chosen, wanted, cached=False)
        assert found is not None
        return found

    def _found(
        self, ids: Sequence[int], wanted: Callable[[Ints], list[int]], *, cached: bool
    ) -> tuple[list[int], list[Ints]] | None:
        owners: list[int] = []
        pages: list[Ints] = []
        for number in ids:
            facts = self._facts.get(number)
            if facts is None:
                continue
            for place in wanted(facts):
                slots = self._slots(page_id(number, place), int(facts[place, _CRC]), cached)
                if slots is None:
                    return None
                owners.append(number)
                pages.append(slots)
        return owners, pages

    def _slots(self, page: int, crc: int, cached: bool) -> Ints | None:
        """A page's slots; None where the cache has them not, and it alone was to be asked."""
        found: _Page | None = self._cache.find(("ring", page))
        if found is not None and found.crc == crc:
            return found.slots
        if cached:
            return None
        slots, actual = self.rows.page(page)
        self._cache.put(("ring", page), _Page(slots, actual))
        return slots

    def numbers(self) -> RingNumbers:
        """What all rings hold together."""
        with self._lock:
            some = [own[own[:, _ROWS] > 0] for own in self._facts.values() if own[:, _ROWS].any()]
        return RingNumbers(
            sum(int(own[:, _ROWS].sum()) for own in some),
            len(some),
            min((int(own[:, _LOW].min()) for own in some), default=None),
            max((int(own[:, _HIGH].max()) for own in some), default=None),
        )

    def pages_of(self, number: int) -> list[int]:
        """Ids of the pages that a ring has."""
        with self._lock:
            return [page_id(number, int(place)) for place in np.flatnonzero(self._facts[number][:, _CRC] >= 0)]

    def usage(self) -> int:
        """Bytes of the pages there are."""
        with self._lock:
            return sum(int((own[:, _CRC] >= 0).sum()) for own in self._facts.values()) * PAGE_SLOTS * SLOT_BYTES

    # changing

    def log_bytes(self, samples: RingSamples) -> int:
        """At most how much log it takes to store samples: whole pages of the catalog, shared by rings side by side."""
        numbers, of = np.unique(samples.ids, return_inverse=True)
        own = [self.rings.get(number) for number in numbers.tolist()]
        steps = np.array([ring.step if ring else 1 for ring in own], np.int64)[of]
        counts = np.array([ring.slots if ring else 1 for ring in own], np.int64)[of]
        pages = (samples.times // steps % counts // PAGE_SLOTS << PAGE_SHIFT) | samples.ids
        return len(np.unique(pages // _SIDE_BY_SIDE)) * 2 * _CATALOG_PAGE

    def store(self, samples: RingSamples) -> Change | None:
        """Put samples into their slots in the order given; None where all of them came too late.

        Raises:
            NotFound: a series that is no ring.
        """
        return self._merge(samples, self.rings, self._facts)

    def replace(self, number: int, ring: Ring) -> Change | None:
        """Make a ring another one, with what it holds in its new slots."""
        kept = self.read([number], None, None)
        self.rows.remove([], self.pages_of(number))
        self.rows.put_rings([(number, ring)], 0)
        return self._merge(kept, {number: ring}, {number: _blank(ring)})

    def empty(self, numbers: Iterable[int], start: int | None, end: int | None) -> tuple[int, Change | None]:
        """Empty the slots whose sample lies in [start, end). Returns how many that were."""
        low, high = EMPTY + 1 if start is None else start, _LATE if end is None else end
        pages = [page for number in numbers for page in self.pages_of(number)]
        stacked = self._stack(pages, self._facts)
        gone = (stacked[:, 0] >= low) & (stacked[:, 0] < high)
        stacked[:, 0][gone], stacked[:, 1][gone] = EMPTY, 0
        changed = np.flatnonzero(gone.any(1))
        if not len(changed):
            return 0, None
        return int(gone.sum()), self._write([pages[c] for c in changed], stacked[changed], self.rings, self._facts)

    def _merge(self, samples: RingSamples, rings: Mapping[int, Ring], facts: _Facts) -> Change | None:
        numbers, of = np.unique(samples.ids, return_inverse=True)
        missing = [number for number in numbers.tolist() if number not in rings]
        if missing:
            raise NotFound(f"series {missing[0]} is no ring")
        own = [rings[number] for number in numbers.tolist()]
        steps = np.array([ring.step for ring in own], np.int64)[of]
        laps = samples.times // steps
        slots = laps % np.array([ring.slots for ring in own], np.int64)[of]
        # the last of the newest step of each slot; the sort keeps the order of writing among equals
        order = np.lexsort((laps, slots, of))
        ends = np.ones(len(order), np.bool_)
        ends[:-1] = (np.diff(of[order]) != 0) | (np.diff(slots[order]) != 0)
        last = order[ends]
        laps, steps, slots = laps[last], steps[last], slots[last]
        pages, at = np.unique((slots // PAGE_SLOTS << PAGE_SHIFT) | numbers[of[last]], return_inverse=True)
        stacked = self._stack(pages.tolist(), facts)
        places = slots % PAGE_SLOTS
        keep = stacked[at, 0, places] // steps <= laps
        at, places, last = at[keep], places[keep], last[keep]
        if not len(last):
            return None
        stacked[at, 0, places] = samples.times[last]
        stacked[at, 1, places] = samples.values.view(np.int64)[last]
        changed = np.unique(at)
        return self._write(pages[changed].tolist(), stacked[changed], rings, facts)

    def _stack(self, pages: Sequence[int], facts: _Facts) -> Ints:
        """The slots of pages, shape (pages, 2, PAGE_SLOTS); empty where there are none."""
        stacked = np.zeros((len(pages), 2, PAGE_SLOTS), np.int64)
        stacked[:, 0] = EMPTY
        with self._lock:
            for place, page in enumerate(pages):
                crc = int(facts[series_of(page)][page >> PAGE_SHIFT, _CRC])
                slots = self._slots(page, crc, cached=False) if crc >= 0 else None
                if slots is not None:
                    stacked[place, :, : slots.shape[1]] = slots
        return stacked

    def _write(self, pages: list[int], stacked: Ints, rings: Mapping[int, Ring], facts: _Facts) -> Change:
        times = stacked[:, 0]
        there = times != EMPTY
        told = np.zeros((len(pages), 4), np.int64)
        told[:, _ROWS] = there.sum(1)
        told[:, _LOW], told[:, _HIGH] = np.where(there, times, _LATE).min(1), times.max(1)
        slots = []
        for page, one in zip(pages, stacked, strict=True):
            left = rings[series_of(page)].slots - (page >> PAGE_SHIFT) * PAGE_SLOTS
            slots.append(np.ascontiguousarray(one[:, : min(left, PAGE_SLOTS)]))
        with self._lock:
            new = sum(bool(facts[series_of(page)][page >> PAGE_SHIFT, _CRC] < 0) for page in pages)
        summaries = told[:, :_CRC].tolist()
        rows = [(p, *three, one.astype("<i8").tobytes()) for p, three, one in zip(pages, summaries, slots, strict=True)]
        told[:, _CRC] = self.rows.put_pages(rows, new)
        return Change(pages, told, slots)

    def keep(self, change: Change | None) -> None:
        """Know what was committed."""
        if change is None:
            return
        with self._lock:
            for page, facts, slots in zip(change.pages, change.facts, change.slots, strict=True):
                self._facts[series_of(page)][page >> PAGE_SHIFT] = facts
                self._cache.put(("ring", page), _Page(slots, int(facts[_CRC])))

    def define(self, rings: Mapping[int, Ring]) -> None:
        """Know rings that have been committed without a page: new ones, or ones made anew."""
        with self._lock:
            self._facts = {**self._facts, **{number: _blank(ring) for number, ring in rings.items()}}
            self.rings = {**self.rings, **rings}

    def forget(self, ids: Iterable[int]) -> None:
        """Know that rings are gone."""
        gone = set(ids)
        with self._lock:
            self.rings = {number: ring for number, ring in self.rings.items() if number not in gone}
            self._facts = {number: own for number, own in self._facts.items() if number not in gone}


def _blank(ring: Ring) -> Ints:
    """What is known of the pages of a ring that has none."""
    facts = np.zeros((-(-ring.slots // PAGE_SLOTS), 4), np.int64)
    facts[:, _LOW], facts[:, _HIGH], facts[:, _CRC] = _LATE, EMPTY, -1
    return facts


def _wide(slots: Ints) -> Ints:
    """Slots of a page that may be a ring's short last one, as PAGE_SLOTS of them."""
    wide = np.full((2, PAGE_SLOTS), EMPTY, np.int64)
    wide[:, : slots.shape[1]] = slots
    return wide


def _nothing() -> RingSamples:
    return RingSamples(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
