"""What `kymo check` verifies of rings: every page's checksum and summary, and that each sample is in its slot."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kymograph.engine.interface import Damage
from kymograph.engine.rings import Ints, Ring
from kymograph.errors import Corrupt
from kymograph.local.catalog import Catalog
from kymograph.local.ring_pages import RingPages
from kymograph.local.ring_rows import EMPTY, PAGE_SHIFT, PAGE_SLOTS, series_of
from kymograph.model.schema import SAMPLES

_PLACE = "catalog.db"


def check_rings(catalog: Catalog, rings: RingPages, repair: bool) -> Iterator[Damage]:
    """Verify every page; with `repair`, pages that do not hold are removed and their samples lost."""
    with catalog.reading():
        pages = rings.rows.pages()
    bad: list[int] = []
    for row in pages.tolist():
        page, rows = row[:2]
        # one at a time: writers may go on between two
        with catalog.reading():
            problem = _problem(rings, page)
        if problem:
            bad.append(page)
            yield Damage(
                SAMPLES, _PLACE, f"ring of series {series_of(page)}: {problem}", rows if repair else None, repair
            )
    if bad and repair:
        with catalog.lock:
            with catalog.transaction():
                rings.rows.remove([], bad)
            with catalog.reading():
                rings.load()


def _problem(rings: RingPages, page: int) -> str:
    """What is wrong with a page, or ""."""
    ring, number = rings.rings.get(series_of(page)), page >> PAGE_SHIFT
    summary = rings.rows.summary(page)
    if summary is None:
        return ""  # dropped since it was listed
    if ring is None:
        return f"page {number} belongs to no ring"
    try:
        slots = rings.rows.page(page)[0]
    except Corrupt as problem:
        return problem.message
    left = min(ring.slots - number * PAGE_SLOTS, PAGE_SLOTS)
    if slots.shape[1] != left:
        return f"page {number} has {slots.shape[1]} slots, not {max(left, 0)}"
    times = slots[0][slots[0] != EMPTY]
    if len(times) and summary != (len(times), int(times.min()), int(times.max())):
        return f"page {number} holds {len(times)} samples, its row says {summary[0]}"
    return "" if _in_place(ring, number, slots[0]) else f"page {number} has a sample in a slot that is not its own"


def _in_place(ring: Ring, number: int, times: Ints) -> bool:
    own = np.arange(len(times)) + number * PAGE_SLOTS
    return bool(((times // ring.step % ring.slots == own) | (times == EMPTY)).all())
