"""Rings of a folder: what `engine.rings.Rings` promises."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from kymograph.engine.rings import SLOT_BYTES, Floats, Ints, Ring, RingSamples
from kymograph.errors import AlreadyExists, InvalidInput, LimitExceeded, NotFound
from kymograph.local import retention, ringed
from kymograph.local.commit import Committer
from kymograph.local.folder import Folder
from kymograph.model.matcher import Matcher
from kymograph.model.schema import SAMPLES, SERIES_ID


class LocalRings:
    """Satisfies `engine.rings.Rings`.

    What changes which rings there are holds the committer's lock, so that no batch is divided by what was before.

    Args:
        readable, writable: the engine's folder, or raise.
    """

    def __init__(self, readable: Callable[[], Folder], writable: Callable[[], Folder], committer: Committer) -> None:
        self._readable = readable
        self._writable = writable
        self._committer = committer

    def define(self, rings: Mapping[int, Ring]) -> None:
        """See `Rings.define`."""
        folder = self._writable()
        with self._committer.lock:
            new = self._new(folder, rings)
            if not new:
                return
            _check_cap(folder, {**folder.rings.rings, **new})
            folder.rings.rows.create()
            with folder.catalog.lock:
                with folder.catalog.transaction():
                    folder.rings.rows.put_rings(new.items(), len(new))
                folder.rings.define(new)

    def _new(self, folder: Folder, rings: Mapping[int, Ring]) -> dict[int, Ring]:
        """Those that are not there yet."""
        present, series = folder.rings.rings, folder.registry.series()
        for number, ring in rings.items():
            if number not in series:
                raise NotFound(f"there is no series {number}")
            there = present.get(number, ring)
            if there != ring:
                raise AlreadyExists(f"series {number} is another ring already: {there}")
        new = {number: ring for number, ring in rings.items() if number not in present}
        if new:
            table = folder.table(SAMPLES)
            with table.lock:
                rows = table.newest().table([Matcher(SERIES_ID, "in", frozenset(new))])
            if rows.num_rows:
                number = rows.column(SERIES_ID)[0].as_py()
                raise AlreadyExists(f"series {number} has samples already", hint="delete them first")
        return new

    def all(self) -> Mapping[int, Ring]:
        """See `Rings.all`."""
        return self._readable().rings.rings

    def write(self, ids: Ints, times: Ints, values: Floats) -> int:
        """See `Rings.write`."""
        self._writable()
        if not len(ids) == len(times) == len(values):
            raise InvalidInput(f"{len(ids)} ids, {len(times)} times and {len(values)} values are no samples")
        if len(ids):
            self._committer.put(RingSamples(ids, times, values))
        return len(ids)

    def read(self, ids: Sequence[int] | None = None, start: int | None = None, end: int | None = None) -> RingSamples:
        """See `Rings.read`."""
        pages = self._readable().rings
        return pages.read(sorted(pages.rings) if ids is None else sorted(set(ids) & pages.rings.keys()), start, end)

    def resize(self, series_id: int, step: int, slots: int) -> None:
        """See `Rings.resize`."""
        folder = self._writable()
        retention.make_room(folder, 4 * slots * SLOT_BYTES)
        with self._committer.lock, folder.catalog.lock:
            present = folder.rings.rings.get(series_id)
            if present is None:
                raise NotFound(f"series {series_id} is no ring")
            ring = replace(present, step=step, slots=slots)
            _check_cap(folder, {**folder.rings.rings, series_id: ring})
            with folder.catalog.transaction():
                change = folder.rings.replace(series_id, ring)
            folder.rings.define({series_id: ring})
            folder.rings.keep(change)

    def drop(self, ids: Sequence[int]) -> None:
        """See `Rings.drop`."""
        folder = self._writable()
        with self._committer.lock, folder.catalog.lock:
            gone = [number for number in set(ids) if number in folder.rings.rings]
            if gone:
                pages = [page for number in gone for page in folder.rings.pages_of(number)]
                with folder.catalog.transaction():
                    folder.rings.rows.remove(gone, pages)
                folder.rings.forget(gone)

    def delete(self, matchers: Sequence[Matcher], start: int | None, end: int | None) -> int:
        """Empty the slots of matching series whose sample lies in [start, end). Returns how many."""
        folder = self._writable()
        with self._committer.lock, folder.catalog.lock:
            chosen = ringed.matching(folder.rings, matchers)
            if not chosen:
                return 0
            with folder.catalog.transaction():
                count, change = folder.rings.empty(chosen, start, end)
            folder.rings.keep(change)
            return count

    def usage(self) -> int:
        """See `Rings.usage`."""
        return self._readable().rings.usage()


def _check_cap(folder: Folder, rings: Mapping[int, Ring]) -> None:
    """Rings are never dropped to make room, and one write may touch all of them and so need as much log again."""
    cap, total = folder.options.cap, sum(ring.bytes for ring in rings.values())
    if cap is not None and total > cap // 4:
        raise LimitExceeded(
            f"rings of {total:,} bytes together are more than a quarter of the cap of {cap:,}",
            hint="fewer slots, or a larger cap",
        )
