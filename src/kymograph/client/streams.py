"""Streams of a running server: calls named as clients of waveform databases know them, arrays in and out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from kymograph.client.http import Connection
from kymograph.client.inserting import ArrayInsertion, TextInsertion
from kymograph.errors import InvalidInput, NotFound, StorageError
from kymograph.model.stream import Layout, split_level
from kymograph.model.time import to_micros
from kymograph.store.streams.arrays import flattened
from kymograph.wire.streams.binary import BinaryDecoder, encode_binary

Array = np.ndarray[Any, Any]
_BINARY, _TEXT = "application/octet-stream", "text/plain"


class StreamClient:
    """Streams of a server. Safe for many threads.

    Times are taken as everywhere (int µs, datetime, ISO 8601, …) and given as int µs; ranges are [start, end), None leaves
    a side open.

    Args:
        url: of the server, such as `http://127.0.0.1:8000`; with `/ns/NAME` at its end that of a namespace.
        token: what the server asks for, if it does.

    Raises (every method):
        NotFound, InvalidInput, Overlap, AlreadyExists, LimitExceeded, AccessError: as the server says.
        StorageError: it cannot be reached, or its store is not open.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self._server = Connection(url, token)

    # The server

    def version(self) -> str:
        """Version of the server."""
        return str(self._server.get_json("/version", {}))

    def dbinfo(self) -> dict[str, Any]:
        """`path` of the store, and bytes: size, other, reserved, free."""
        found: dict[str, Any] = self._server.get_json("/dbinfo", {})
        return found

    # Streams

    def stream_list(
        self, path: str | None = None, layout: str | None = None, extended: bool = False
    ) -> list[list[Any]]:
        """`[[path, layout], …]`; extended: also start, end, rows, covered µs."""
        wanted = {"path": path, "layout": layout, "extended": int(extended)}
        found: list[list[Any]] = self._server.get_json("/stream/list", wanted)
        return found

    def stream_layout(self, path: str) -> Layout:
        """Type and number of a stream's columns."""
        found = self.stream_list(path)
        if not found:
            raise NotFound(f"there is no stream {path}")
        return Layout.parse(found[0][1])

    def stream_create(self, path: str, layout: str) -> None:
        """Make a stream."""
        self._server.post("/stream/create", {"path": path, "layout": layout})

    def stream_rename(self, oldpath: str, newpath: str) -> None:
        """Move a stream to another path."""
        self._server.post("/stream/rename", {"oldpath": oldpath, "newpath": newpath})

    def stream_destroy(self, path: str) -> None:
        """Forget a stream and its rows."""
        self._server.post("/stream/destroy", {"path": path})

    def stream_get_metadata(self, path: str, keys: Iterable[str] | None = None) -> dict[str, Any]:
        """All metadata, or some keys of it, None where there is none."""
        wanted = {"path": path, "key": None if keys is None else list(keys)}
        found: dict[str, Any] = self._server.get_json("/stream/get_metadata", wanted)
        return found

    def stream_set_metadata(self, path: str, data: Mapping[str, Any]) -> None:
        """Replace all metadata."""
        self._server.post("/stream/set_metadata", {"path": path, "data": dict(data)})

    def stream_update_metadata(self, path: str, data: Mapping[str, Any]) -> None:
        """Set some keys; None removes one."""
        self._server.post("/stream/update_metadata", {"path": path, "data": dict(data)})

    def stream_intervals(
        self, path: str, start: Any = None, end: Any = None, diffpath: str | None = None
    ) -> Iterator[tuple[int, int]]:
        """What is covered; with `diffpath` only what that stream does not cover."""
        wanted = {"path": path, **_range(start, end), "diffpath": diffpath}
        rest = b""
        for piece in self._server.stream("/stream/intervals", wanted):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                low, high = json.loads(line)
                yield low, high

    def stream_count(self, path: str, start: Any = None, end: Any = None) -> int:
        """Number of rows, exactly."""
        return int(b"".join(self._server.stream("/stream/extract", {"path": path, **_range(start, end), "count": 1})))

    def stream_remove(self, path: str, start: Any = None, end: Any = None) -> int:
        """Uncover a range and remove its rows. Returns how many."""
        wanted = {name: text for name, text in _range(start, end).items() if text is not None}
        return int(self._server.post("/stream/remove", {"path": path, **wanted}))

    # Text

    def stream_insert(
        self, path: str, data: bytes | str | Iterable[bytes | str], start: Any = None, end: Any = None
    ) -> None:
        """Insert lines `time v1 … vn`, all of them or none."""
        pieces = [data] if isinstance(data, (bytes, str)) else data
        body = (piece.encode() if isinstance(piece, str) else piece for piece in pieces)
        self._server.put("/stream/insert", {"path": path, **_range(start, end)}, body, _TEXT)

    def stream_insert_context(self, path: str, start: Any = None, end: Any = None) -> TextInsertion:
        """Continuous insertion of text: `with client.stream_insert_context(path) as c: c.insert(text)`."""
        return TextInsertion(self.stream_layout(path), self._sender(path), _micros(start), _micros(end))

    def stream_extract(
        self, path: str, start: Any = None, end: Any = None, count: bool = False, markup: bool = False
    ) -> Iterator[bytes]:
        """Lines without their ends; with `markup` comments where intervals begin and end; with `count` the number."""
        wanted = {"path": path, **_range(start, end), "count": int(count), "markup": int(markup)}
        rest = b""
        for piece in self._server.stream("/stream/extract", wanted):
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines

    # Arrays

    def stream_insert_numpy(
        self, path: str, data: Any, start: Any = None, end: Any = None, layout: str | None = None
    ) -> None:
        """Insert an array, structured or 2-D with the time in column 0, or an iterable of such, in joined blocks."""
        with self.stream_insert_numpy_context(path, start, end, layout) as context:
            for array in [data] if isinstance(data, np.ndarray) else data:
                context.insert(array)

    def stream_insert_block(self, path: str, rows: Array, start: int, end: int) -> None:
        """Insert structured rows as they are, covering `[start, end)`, all of them or none."""
        wanted = {"path": path, "start": start, "end": end, "binary": 1}
        self._server.put("/stream/insert", wanted, encode_binary(rows), _BINARY)

    def stream_insert_numpy_context(
        self, path: str, start: Any = None, end: Any = None, layout: str | None = None
    ) -> ArrayInsertion:
        """Continuous insertion of arrays: `with client.stream_insert_numpy_context(path) as c: c.insert(array)`."""
        known = self.stream_layout(path) if layout is None else Layout.parse(layout)
        return ArrayInsertion(known, self._sender(path), _micros(start), _micros(end))

    def stream_extract_numpy(
        self,
        path: str,
        start: Any = None,
        end: Any = None,
        layout: str | None = None,
        maxrows: int = 100_000,
        structured: bool = True,
    ) -> Iterator[Array]:
        """Rows as arrays of at most `maxrows`: structured `timestamp` and `data`, or 2-D float64."""
        if maxrows < 1:
            raise InvalidInput(f"maxrows must be positive, not {maxrows}")
        base, level = split_level(path)
        known = self.stream_layout(base) if layout is None else Layout.parse(layout)
        decoder = BinaryDecoder(known, known.levels if level else known.rows)
        for piece in self._server.stream("/stream/extract", {"path": path, **_range(start, end), "binary": 1}):
            rows = decoder.feed(piece)
            for at in range(0, len(rows), maxrows):
                part = rows[at : at + maxrows]
                yield part if structured else flattened(part)
        for _ in decoder.finish():
            raise StorageError("the server's answer ends within a row")

    def close(self) -> None:
        """Close the connections. May be called twice."""
        self._server.close()

    def __enter__(self) -> StreamClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _sender(self, path: str) -> Callable[[Array, int, int], None]:
        return partial(self.stream_insert_block, path)


def _micros(time: Any) -> int | None:
    return None if time is None else to_micros(time)


def _range(start: Any, end: Any) -> dict[str, int | None]:
    return {"start": _micros(start), "end": _micros(end)}
