"""Which times of a table were written or deleted after they had been summarised, durably and before the write itself.

Who summarises a table watches it up to a time. A write below that time first notes the ranges it is about to touch, then
appends; so a crash between the two leaves a note too many, never one too few. What is noted is summarised anew and then
cleared, except where a writer is still under way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from kymograph.engine.interface import Engine
from kymograph.errors import StorageError
from kymograph.model.summary import Ints

DOCUMENT = "touched"
WATCH = "watch"
LOST = "lost"
Range = tuple[int, int]
BEGINNING = -(2**62)
# ranges kept apart per watch; beyond, neighbours become one, which costs work but never an answer
_MOST = 256


@dataclass
class Watch:
    """Somebody who has summarised a table.

    Attributes:
        key: whose, and the key of the durable note.
        tables: what is summarised.
        width: µs of a bucket; noted ranges are whole buckets.
        upto: rows older than this have been, or are being summarised, µs.
    """

    key: str
    tables: tuple[str, ...]
    width: int
    upto: int


@dataclass(eq=False)
class _Note:
    """One range [start, end) of µs.

    Attributes:
        deleted: whether rows went, not only came.
        writers: those that are under way in it.
        taken: whether it is being summarised anew.
    """

    start: int
    end: int
    deleted: bool = False
    writers: set[int] = field(default_factory=set)
    taken: bool = False


class Touched:
    """The watches of one store and what was touched of each. Safe for many threads; one per writing store."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._changed = threading.Condition()
        self._watches: dict[str, Watch] = {
            key: Watch(key, tuple(told["tables"]), told["width"], told["upto"])
            for key, told in engine.documents(WATCH).items()
        }
        # up to when the owners say that they have summarised, µs
        self._settled = {key: watch.upto for key, watch in self._watches.items()}
        self._notes: dict[str, list[_Note]] = {
            key: [_Note(start, end, deleted) for start, end, deleted in ranges]
            for key, ranges in engine.documents(DOCUMENT).items()
        }
        self._durable: dict[str, list[Range]] = {key: union(notes) for key, notes in self._notes.items()}
        self._lost: dict[str, int] = dict(engine.documents(LOST))
        self._deletions: dict[str, int] = {}
        self._tickets = 0
        # the oldest time of every write under way, by ticket
        self._under_way: dict[int, tuple[str, int]] = {}
        self._noting: set[int] = set()
        self._gates: list[tuple[str, int]] = []
        # gates that nobody stands at: behind them something is half done
        self._refusals: list[tuple[str, int]] = []

    def watch(self, watch: Watch) -> None:
        """Note what touches a table below `watch.upto` from now on. Durable when it returns; earlier writes have ended."""
        with self._changed:
            self._watches[watch.key] = watch
            self._keep(watch)
            self._drain(watch)

    def unwatch(self, key: str) -> None:
        """Note nothing more, and forget what was noted. Durable when it returns."""
        with self._changed:
            for kind in (WATCH, DOCUMENT):
                self._engine.put_document(kind, key, None)
            for known in (self._watches, self._settled, self._notes, self._durable):
                known.pop(key, None)

    def watched(self, table: str) -> list[Watch]:
        with self._changed:
            return [watch for watch in self._watches.values() if table in watch.tables]

    def lost(self, table: str) -> int:
        """Rows older than this may have gone to retention, µs; summaries outlive them."""
        with self._changed:
            return self._lost.get(table, BEGINNING)

    def lose(self, table: str, before: int) -> None:
        """Rows older than this have gone to retention. Durable when it returns."""
        with self._changed:
            if before > self._lost.get(table, BEGINNING):
                self._engine.put_document(LOST, table, before)
                self._lost[table] = before

    def deletions(self, table: str) -> int:
        """How many deletions from a table there have been since this was opened."""
        with self._changed:
            return self._deletions.get(table, 0)

    def knows(self, key: str) -> bool:
        with self._changed:
            return key in self._watches

    def upto(self, key: str) -> int:
        """Up to when its owner says that it has summarised, µs."""
        with self._changed:
            return self._settled[key]

    def raise_to(self, key: str, upto: int) -> None:
        """Watch up to a later time; returns when every write below it that nobody noted has ended.

        Not durable before `settle`: after a crash the owner summarises from where it had settled.
        """
        with self._changed:
            watch = self._watches[key]
            watch.upto = max(watch.upto, upto)
            self._drain(watch)

    def settle(self, key: str) -> None:
        """What the watch was raised to is summarised. Durable when it returns."""
        with self._changed:
            self._keep(self._watches[key])

    def begin(self, table: str, times: Callable[[], Ints]) -> int:
        """Before an append of rows of these times, µs. Returns a ticket for `end`, which has to follow."""
        with self._changed:
            concerned = self.watched(table)
            if not concerned and not self._gates:
                self._tickets += 1
                self._under_way[self._tickets] = (table, BEGINNING)
                return self._tickets
            known = times()
            low = int(known.min())
            self._wait_for_gate(table, low)
            # the first watch of all may have begun behind the gate
            concerned = self.watched(table)
            late = {watch.key: _runs(known, watch) for watch in concerned if low < watch.upto}
            return self._begin(table, low, late, deleted=False)

    def end(self, ticket: int) -> None:
        """After what a ticket was for, however it went."""
        with self._changed:
            del self._under_way[ticket]
            if ticket in self._noting:
                self._noting.discard(ticket)
                for notes in self._notes.values():
                    for note in notes:
                        note.writers.discard(ticket)
            self._changed.notify_all()

    def note(self, key: str, table: str, start: int, end: int) -> None:
        """Take [start, end) µs of a table for touched, as one watch sees it. Durable when it returns."""
        with self._changed:
            self.end(self._begin(table, start, {key: [(start, end)]}, deleted=False))

    @contextmanager
    def writing(self, table: str, times: Ints) -> Iterator[None]:
        """Around an append of rows of these times, µs."""
        ticket = self.begin(table, lambda: times)
        try:
            yield
        finally:
            self.end(ticket)

    @contextmanager
    def deleting(self, table: str, start: int, end: int, since: int | None = None) -> Iterator[None]:
        """Around a removal of rows in [start, end) µs; of summaries of earlier ones too, from `since` on."""
        with self._changed:
            since = start if since is None else since
            self._wait_for_gate(table, since)
            self._deletions[table] = self._deletions.get(table, 0) + 1
            gone = {
                watch.key: [(start // watch.width * watch.width, -(-min(end, watch.upto) // watch.width) * watch.width)]
                for watch in self._watches.values()
                if table in watch.tables and start < min(end, watch.upto)
            }
            ticket = self._begin(table, since, gone, deleted=True)
        try:
            yield
        finally:
            self.end(ticket)

    @contextmanager
    def shut(self, table: str, below: int) -> Iterator[None]:
        """No write to the table below a time is under way in here; those that come wait."""
        gate = (table, below)
        with self._changed:
            self._gates.append(gate)
            self._wait_for_writers((table,), below)
        try:
            yield
        finally:
            with self._changed:
                self._gates.remove(gate)
                self._changed.notify_all()

    def refuse(self, table: str, below: int) -> None:
        """Refuse writes to the table below a time until `allow`."""
        with self._changed:
            self._refusals.append((table, below))

    def allow(self, table: str) -> None:
        with self._changed:
            self._refusals = [refusal for refusal in self._refusals if refusal[0] != table]

    def ranges(self, key: str) -> list[Range]:
        """Everything noted, ascending, none overlapping another: where summaries may not be believed."""
        with self._changed:
            return union(self._notes.get(key, ()))

    def take(self, key: str) -> tuple[list[Range], list[Range]]:
        """What can be summarised anew now: noted, and nobody writes there any more. Call `clear` afterwards.

        Returns:
            All of it, and the part in which rows were deleted.
        """
        with self._changed:
            free = [note for note in self._notes.get(key, ()) if not note.writers]
            for note in free:
                note.taken = True
            return union(free), union([note for note in free if note.deleted])

    def clear(self, key: str, *, done: bool) -> None:
        """What was taken is summarised (`done`), or will have to be taken again. Durable when it returns."""
        with self._changed:
            notes = self._notes.get(key, [])
            if not done:
                for note in notes:
                    note.taken = False
                return
            kept = [note for note in notes if not note.taken]
            if len(kept) != len(notes):
                self._engine.put_document(DOCUMENT, key, _told(kept))
                self._notes[key], self._durable[key] = kept, union(kept)

    def _keep(self, watch: Watch) -> None:
        told = {"tables": list(watch.tables), "width": watch.width, "upto": watch.upto}
        self._engine.put_document(WATCH, watch.key, told)
        self._settled[watch.key] = watch.upto

    def _begin(self, table: str, low: int, touched: dict[str, list[Range]], *, deleted: bool) -> int:
        """A ticket for a write that begins; what it will touch is noted durably."""
        self._tickets += 1
        ticket = self._tickets
        self._under_way[ticket] = (table, low)
        if touched:
            self._noting.add(ticket)
            try:
                self._note(touched, ticket, deleted=deleted)
            except BaseException:
                self.end(ticket)
                raise
        return ticket

    def _wait_for_gate(self, table: str, low: int) -> None:
        while any(shut == table and low < below for shut, below in self._gates):
            self._changed.wait()
        if any(refused == table and low < below for refused, below in self._refusals):
            raise StorageError(
                f"table {table}: nothing older than what was summarised is taken while that is half done",
                hint="the disk failed meanwhile; it is tried again every half minute",
            )

    def _drain(self, watch: Watch) -> None:
        self._wait_for_writers(watch.tables, watch.upto)

    def _wait_for_writers(self, tables: Sequence[str], below: int) -> None:
        """Wait for the writes that were under way when this was called."""
        earlier = self._tickets
        while any(
            ticket <= earlier and table in tables and low < below for ticket, (table, low) in self._under_way.items()
        ):
            self._changed.wait()

    def _note(self, touched: dict[str, list[Range]], ticket: int, *, deleted: bool) -> None:
        changed = {}
        for key, ranges in touched.items():
            notes = self._notes.setdefault(key, [])
            for start, end in ranges:
                _add(notes, _Note(start, end, deleted, {ticket}))
            _thin(notes)
            if deleted or not _covers(self._durable.get(key, []), ranges):
                changed[key] = notes
        if changed:
            self._engine.put_documents(DOCUMENT, {key: _told(notes) for key, notes in changed.items()})
            self._durable.update({key: union(notes) for key, notes in changed.items()})


def _runs(times: Ints, watch: Watch) -> list[Range]:
    """The buckets below the watch's time that hold one of the times, as runs of neighbours."""
    buckets = np.unique(times[times < watch.upto] // watch.width)
    cuts = np.flatnonzero(np.diff(buckets) > 1)
    starts, ends = buckets[np.append(0, cuts + 1)], buckets[np.append(cuts, len(buckets) - 1)] + 1
    return list(zip((starts * watch.width).tolist(), (ends * watch.width).tolist(), strict=True))


def _add(notes: list[_Note], more: _Note) -> None:
    """Widen a note of the kind that is not being worked on, or begin one."""
    for note in notes:
        if not note.taken and note.deleted == more.deleted and note.start <= more.end and more.start <= note.end:
            note.start, note.end = min(note.start, more.start), max(note.end, more.end)
            note.writers |= more.writers
            return
    notes.append(more)


def _thin(notes: list[_Note]) -> None:
    """Not many more than `_MOST` notes that nobody works on: neighbours become one."""
    free = sorted((note for note in notes if not note.taken and not note.deleted), key=lambda note: note.start)
    if len(free) <= _MOST:
        return
    gone = set()
    for left, right in zip(free[::2], free[1::2], strict=False):
        left.end = max(left.end, right.end)
        left.writers |= right.writers
        gone.add(id(right))
    notes[:] = [note for note in notes if id(note) not in gone]


def union(notes: Sequence[_Note]) -> list[Range]:
    """What they cover together, ascending."""
    merged: list[Range] = []
    for start, end in sorted((note.start, note.end) for note in notes):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _told(notes: Sequence[_Note]) -> list[list[int | bool]] | None:
    """The notes as a document keeps them; none is no document."""
    parts = [
        [start, end, deleted]
        for deleted in (False, True)
        for start, end in union([note for note in notes if note.deleted == deleted])
    ]
    return parts or None


def _covers(known: Sequence[Range], ranges: Sequence[Range]) -> bool:
    return all(any(low <= start and end <= high for low, high in known) for start, end in ranges)
