"""One stream of the open folder: its pieces and coverage as they are now, and the locks that keep them."""

from __future__ import annotations

import threading

from kymograph.errors import Corrupt
from kymograph.local.streams.lanes import Orders
from kymograph.local.streams.pieces import Piece, Pieces
from kymograph.model.coverage import Coverage
from kymograph.model.interval import Intervals
from kymograph.model.stream import StreamSchema


class StreamState:
    """Locks, always taken in this order: `writing` (who inserts, removes, or publishes what was folded), the catalog's,
    `lock` (who looks at or swaps pieces and coverage; held for moments only).

    Attributes:
        damage: words for what of the hot log could not be read, with its id there.
        version: changes with rows and coverage.
    """

    def __init__(self, stream_id: int, schema: StreamSchema, coverage: Intervals | None = None) -> None:
        self.id = stream_id
        self.schema = schema
        self.writing = threading.RLock()
        self.lock = threading.RLock()
        self.pieces = Pieces()
        self.coverage = Coverage(coverage)
        self.orders = Orders()
        self.dropped = False
        # `pieces.changes` when there was nothing to merge
        self.merged = -1
        self.damage: list[tuple[str, int]] = []
        self.version = 0
        # monotonic seconds at which the oldest hot rows came
        self.hot_since: float | None = None

    def check(self) -> None:
        """Raises Corrupt when part of the hot log could not be read."""
        if self.damage:
            raise Corrupt(f"stream {self.schema.path}: {self.damage[0][0]}", hint="run kymo check --repair")

    def next_place(self, start: int) -> tuple[int, bool, int]:
        """Place of the first row of an insertion at `start`, whether it continues the rows before, and from when.

        The last is `start`, or the end of the piece that it continues: what lies between is covered and empty.
        """
        before = self.pieces.before(start)
        if before is None:
            return 0, False, start
        near = self.coverage.near(start, start)
        touching = [interval for interval in near if interval[1] == start]
        if not touching or before.last < touching[0][0]:
            return 0, False, start
        return before.place_end, True, min(before.end, start)

    def swap(
        self, old: list[Piece], new: list[Piece], gone: Intervals | None = None, came: Intervals | None = None
    ) -> None:
        """Make a committed change visible at once."""
        with self.lock:
            self.pieces.replace(old, new)
            if gone is not None and came is not None:
                self.coverage.replace(gone, came)
                self.version += 1
