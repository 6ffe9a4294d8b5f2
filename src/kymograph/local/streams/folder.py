"""The streams of an open folder: their states, kept in step with the catalog, and what keeps them bounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kymograph.engine.interface import Victim
from kymograph.local.catalog import Catalog
from kymograph.local.files import Files
from kymograph.local.streams import changing
from kymograph.local.streams.loading import load
from kymograph.local.streams.pieces import Piece
from kymograph.local.streams.reading import count_rows
from kymograph.local.streams.room import Room
from kymograph.local.streams.state import StreamState
from kymograph.model.stream import cut_at
from kymograph.model.time import DAY, MIN_TIME
from kymograph.options import StoreOptions


@dataclass(frozen=True, eq=False)
class StreamVictim:
    """A block of a stream that is to go, with everything before it."""

    folder: StreamFolder
    stream: StreamState
    piece: Piece
    reason: str

    @property
    def partition(self) -> int:
        """Start of the day that its last row falls into, µs."""
        return self.piece.last // DAY * DAY


class StreamFolder:
    """Streams of DIR.

    Attributes:
        states: streams by path; replaced as a whole when one comes or goes.
    """

    def __init__(self, path: Path, options: StoreOptions, files: Files, catalog: Catalog) -> None:
        self.options = options
        self.room = Room(path, files, catalog, sync=options.sync == "full", read_only=options.read_only)
        self.states: dict[str, StreamState] = {}

    def load(self) -> None:
        """See what the catalog has now. Raises Corrupt."""
        self.states = load(self.room, {state.id: state for state in self.states.values()})

    def tidy(self) -> int:
        """Remove files that the catalog does not know. Returns how many."""
        known = {piece.path for state in self.states.values() for piece in state.pieces.all() if piece.path}
        return self.room.tidy(known)

    def usage(self) -> int:
        """Bytes of blocks, files that come and go included; the log is part of the catalog."""
        return self.room.usage() + sum(state.pieces.block_bytes for state in list(self.states.values()))

    # bounds

    def too_old(self, now: int) -> list[StreamVictim]:
        """Blocks whose rows are all past their stream's bounds."""
        chosen: list[StreamVictim] = []
        for state in list(self.states.values()):
            before = self._cut(state, now)
            if before is not None:
                with state.lock:
                    pieces = state.pieces.between(None, before)
                gone = [piece for piece in pieces if piece.last < before and piece.hot is None]
                chosen += [StreamVictim(self, state, piece, "age") for piece in gone]
        return chosen

    def partly_too_old(self, now: int, gone: set[Piece]) -> list[Victim]:
        """What `cut_all` takes from each stream beside the blocks in `gone`."""
        victims = []
        for path, state in list(self.states.items()):
            before = self._cut(state, now)
            if before is not None:
                rows = count_rows(self.room, state, None, before)
                rows -= sum(piece.rows for piece in state.pieces.between(None, before) if piece in gone)
                if rows:
                    start = state.pieces.between(None, before)[0].first
                    victims.append(Victim(path, start // DAY * DAY, start, before, rows, 0, "age"))
        return victims

    def cut_all(self, now: int) -> None:
        """Apply every stream's bounds to the microsecond."""
        for state in list(self.states.values()):
            before = self._cut(state, now)
            if before is not None:
                changing.remove(self.room, state, MIN_TIME, before)

    def blocks(self, gone: set[Piece]) -> list[StreamVictim]:
        """Every block that is not in `gone`, as one that the cap may take."""
        return [
            StreamVictim(self, state, piece, "cap")
            for state in list(self.states.values())
            for piece in state.pieces.all()
            if piece.hot is None and piece not in gone
        ]

    def _cut(self, state: StreamState, now: int) -> int | None:
        with state.lock:
            coverage = state.coverage.intervals()
        return cut_at(coverage, state.schema.retention, self.options.age, now)


def report(chosen: Sequence[StreamVictim]) -> list[Victim]:
    """What is to go, by stream and day."""
    groups: dict[tuple[str, int, str], list[Piece]] = {}
    for one in chosen:
        groups.setdefault((one.stream.schema.path, one.partition, one.reason), []).append(one.piece)
    return [
        Victim(
            path,
            partition,
            pieces[0].first,
            pieces[-1].last + 1,
            sum(p.rows for p in pieces),
            sum(p.bytes for p in pieces),
            reason,
        )
        for (path, partition, reason), pieces in groups.items()
    ]


def drop(chosen: Sequence[StreamVictim]) -> None:
    """Take the blocks, and from each stream everything before its last one."""
    until: dict[StreamState, tuple[StreamFolder, int]] = {}
    for one in chosen:
        _, end = until.get(one.stream, (one.folder, one.piece.end))
        until[one.stream] = (one.folder, max(end, one.piece.end))
    for stream, (folder, end) in until.items():
        if not stream.dropped:
            # a damaged log must not keep the cap from holding, and with it everybody from writing
            changing.remove(folder.room, stream, MIN_TIME, end, damaged=True)
