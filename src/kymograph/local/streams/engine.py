"""What `engine.streams.Streams` promises, over one folder."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from kymograph.engine.streams import READ_ROWS, Array, StreamStatistics, check_insert
from kymograph.errors import AlreadyExists, KymographError, NotFound, SchemaError, StorageError
from kymograph.local import retention
from kymograph.local.attempts import Attempts
from kymograph.local.folder import Folder
from kymograph.local.streams import changing, folding
from kymograph.local.streams.reading import count_rows, read_rows
from kymograph.local.streams.state import StreamState
from kymograph.local.streams.zooming import read_level
from kymograph.model.interval import Intervals
from kymograph.model.stream import StreamSchema

# how often a reading process looks whether the writing one has committed
_LOOK_SECONDS = 0.05


class LocalStreams:
    """Streams of an open folder; made by the embedded engine.

    Args:
        readable: raises when the engine is closed; brings a reading process up to date.
        writable: raises when it may not be written.
        wake: asks for background work.
    """

    def __init__(
        self,
        folder: Folder,
        readable: Callable[[], Folder],
        writable: Callable[[], Folder],
        wake: Callable[[], None],
    ) -> None:
        options = folder.options
        self._readable, self._writable, self._wake = readable, writable, wake
        self._whole = folder
        self._folder = folder.streams
        if options.read_only:
            self._folder.room.refresh = readable
        self._read_only = options.read_only
        self._hot_limit = options.head_limit
        self._seal_after = options.seal_after
        self._structure = threading.Lock()
        self._changed = threading.Condition()
        self.failure: KymographError | None = None

    # streams

    def streams(self) -> Mapping[str, StreamSchema]:
        """The streams as of now, by path."""
        self._readable()
        return {path: state.schema for path, state in self._folder.states.items()}

    def create(self, schema: StreamSchema) -> None:
        """Durable when it returns."""
        self._writable()
        with self._structure:
            self._free(schema.path)
            number = self._folder.room.commit(lambda: self._folder.room.ledger.put_stream(schema))
            self._folder.states = {**self._folder.states, schema.path: StreamState(number, schema)}

    def alter(self, schema: StreamSchema) -> None:
        """Replace metadata and retention."""
        self._writable()
        with self._structure:
            state = self._state(schema.path)
            if (schema.layout, schema.pyramid) != (state.schema.layout, state.schema.pyramid):
                raise SchemaError(f"{schema.path}: layout and pyramid cannot change")
            self._folder.room.commit(lambda: self._folder.room.ledger.put_stream(schema, state.id))
            state.schema = schema

    def rename(self, path: str, to: str) -> None:
        """Move a stream to another path."""
        self._writable()
        with self._structure:
            state = self._state(path)
            schema = state.schema.renamed(to)
            if to != path:
                self._free(to)
            self._folder.room.commit(lambda: self._folder.room.ledger.put_stream(schema, state.id))
            state.schema = schema
            self._folder.states = {**{p: s for p, s in self._folder.states.items() if s is not state}, to: state}
        self._tell()

    def destroy(self, path: str) -> None:
        """Forget a stream and its rows."""
        self._writable()
        with self._structure:
            state = self._state(path)
            with state.writing:
                self._folder.room.commit(lambda: self._folder.room.ledger.remove_stream(state.id))
                with state.lock:
                    state.dropped = True
                    pieces = state.pieces.all()
                    self._folder.room.count(pieces)
                self._folder.states = {p: s for p, s in self._folder.states.items() if s is not state}
        self._folder.room.remove_files(pieces)
        self._tell()

    # rows

    def insert(self, path: str, rows: Array, start: int, end: int) -> int:
        """Store rows and cover `[start, end)` with them, all or nothing."""
        self._writable()
        state = self._state(path)
        check_insert(state.schema, rows, start, end)
        retention.make_room(self._whole, rows.nbytes)
        if rows.nbytes < changing.DIRECT_BYTES:
            self._wait_for_room()
        count = changing.insert(self._folder.room, state, rows, start, end)
        self._tell()
        if self._wants_folding(state):
            self._wake()
        return count

    def remove(self, path: str, start: int, end: int) -> int:
        """Uncover `[start, end)` and drop its rows for good."""
        self._writable()
        gone = changing.remove(self._folder.room, self._state(path), start, end)
        self._tell()
        return gone

    def coverage(self, path: str, start: int | None = None, end: int | None = None) -> Intervals:
        """What is covered of `[start, end)`."""
        self._readable()
        state = self._state(path)
        with state.lock:
            return state.coverage.intervals(start, end)

    def count(self, path: str, start: int | None = None, end: int | None = None) -> int:
        """Rows of `[start, end)`, exactly."""
        self._readable()
        return count_rows(self._folder.room, self._state(path), start, end)

    def read(
        self,
        path: str,
        start: int | None = None,
        end: int | None = None,
        columns: Sequence[int] | None = None,
        level: int = 0,
        rows: int = READ_ROWS,
    ) -> Iterator[Array]:
        """Arrays in time order, each of rows that lie in one interval."""
        self._readable()
        state = self._state(path)
        places = range(state.schema.layout.count) if columns is None else list(columns)
        if level == 0:
            return read_rows(self._folder.room, state, start, end, places, rows)
        return read_level(self._folder.room, state, start, end, places, level, rows)

    def statistics(self, path: str) -> StreamStatistics:
        """Numbers of one stream."""
        self._readable()
        state = self._state(path)
        with state.lock:
            pieces, coverage = state.pieces, state.coverage
            start, end = coverage.extent or (None, None)
            return StreamStatistics(
                pieces.rows, len(coverage), start, end, coverage.duration, pieces.bytes, pieces.pyramid_bytes,
                pieces.hot_rows, pieces.blocks,
            )  # fmt: skip

    def version(self, path: str) -> int:
        """A number that changes with the stream's rows or coverage."""
        self._readable()
        return self._state(path).version

    def wait(self, path: str, seen: int, timeout: float) -> int:
        """Wait until `version` is not `seen`, at most `timeout` seconds."""
        until = time.monotonic() + timeout
        while True:
            with self._changed:
                version = self.version(path)
                left = until - time.monotonic()
                if version != seen or left <= 0:
                    return version
                self._changed.wait(min(left, _LOOK_SECONDS) if self._read_only else left)

    # upkeep

    def fold(self) -> int:
        """Make blocks of all hot rows. Returns how many rows."""
        return sum(folding.fold(self._folder.room, state) for state in list(self._folder.states.values()))

    def merge(self) -> int:
        """Merge small blocks until none is left to merge. Returns blocks removed net."""
        removed = 0
        for state in list(self._folder.states.values()):
            while more := folding.merge(self._folder.room, state):
                removed += more
        return removed

    def maintain(self) -> None:
        """What background work there is now."""
        attempts, failed, now = Attempts(), set[StreamState](), time.monotonic()
        for state in list(self._folder.states.values()):
            since = state.hot_since
            old = since is not None and (now - since) * 1e6 > self._seal_after
            due = old or self._wants_folding(state)
            well = not due or attempts.run(folding.fold, self._folder.room, state)
            if not (well and attempts.run(folding.merge, self._folder.room, state)):
                failed.add(state)
        while self._hot_bytes() > self._hot_limit // 2:
            left = [state for state in list(self._folder.states.values()) if state not in failed]
            largest = max(left, key=lambda state: state.pieces.hot_bytes, default=None)
            if largest is None or not largest.pieces.hot_bytes:
                break
            if not attempts.run(folding.fold, self._folder.room, largest):
                failed.add(largest)
        # what keeps the log from becoming smaller is what writers are told
        stuck = sum(state.pieces.hot_bytes for state in failed) > self._hot_limit // 2
        self.failure = attempts.problems[0] if stuck else None
        self._tell()
        attempts.end()

    def wants_work(self) -> bool:
        """Whether background work should not wait."""
        return (
            any(map(self._wants_folding, list(self._folder.states.values())))
            or self._hot_bytes() > self._hot_limit // 2
        )

    def close(self) -> None:
        """Let those who wait find out that the engine is closed."""
        self._folder.room.close()
        self._tell()

    def _wants_folding(self, state: StreamState) -> bool:
        return state.pieces.hot_bytes >= min(folding.FOLD_BYTES, self._hot_limit // 2)

    def _hot_bytes(self) -> int:
        return sum(state.pieces.hot_bytes for state in self._folder.states.values())

    def _wait_for_room(self) -> None:
        """Hold writers back while the log is full; fail them while it cannot be folded."""
        while self._hot_bytes() > self._hot_limit:
            self._wake()
            if self.failure is not None:
                raise StorageError(f"cannot fold the log, so nothing more is taken: {self.failure}")
            with self._changed:
                self._changed.wait(0.05)
            self._writable()

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _free(self, path: str) -> None:
        if path in self._folder.states:
            raise AlreadyExists(f"there is a stream {path} already", hint="choose another path, or destroy it")

    def _state(self, path: str) -> StreamState:
        found = self._folder.states.get(path)
        if found is None:
            raise NotFound(f"there is no stream {path}")
        return found
