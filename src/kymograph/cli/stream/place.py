"""Where streams are: a folder or a server, behind one small interface."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from kymograph.cli.server import admitted, is_server
from kymograph.cli.words import opened
from kymograph.client import StreamClient
from kymograph.model.interval import Intervals
from kymograph.model.stream import Layout, split_level

if TYPE_CHECKING:
    from kymograph.store.store import Store

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Entry:
    """One stream of a listing; times are int µs, None where nothing is covered."""

    path: str
    layout: str
    start: int | None
    end: int | None
    rows: int
    covered: int


class Place(Protocol):
    """Streams by path. Errors are those of `Store`."""

    def entries(self, pattern: str = "*") -> list[Entry]:
        """Streams whose path matches a shell pattern, by path."""

    def layout(self, path: str) -> Layout: ...

    def create(self, path: str, layout: str) -> None: ...

    def rename(self, old: str, new: str) -> None: ...

    def destroy(self, path: str) -> None: ...

    def metadata(self, path: str) -> dict[str, Any]: ...

    def set_metadata(self, path: str, metadata: Mapping[str, Any]) -> None: ...

    def intervals(self, path: str, start: int | None, end: int | None) -> Intervals: ...

    def count(self, path: str, start: int | None, end: int | None) -> int: ...

    def chunks(self, path: str, start: int | None, end: int | None) -> Iterator[Array]: ...

    def insert(self, path: str, rows: Array, start: int, end: int) -> None: ...

    def remove(self, path: str, start: int | None, end: int | None) -> int: ...


class FolderPlace:
    """Streams of an open store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def entries(self, pattern: str = "*") -> list[Entry]:
        return [
            Entry(
                one.path,
                one.schema.layout.name,
                one.statistics.start,
                one.statistics.end,
                one.statistics.rows,
                one.statistics.covered,
            )
            for one in self._store.streams(pattern)
        ]

    def layout(self, path: str) -> Layout:
        return self._store.stream(path).layout

    def create(self, path: str, layout: str) -> None:
        self._store.stream(path, layout)

    def rename(self, old: str, new: str) -> None:
        self._store.stream(old).rename(new)

    def destroy(self, path: str) -> None:
        self._store.stream(path).destroy()

    def metadata(self, path: str) -> dict[str, Any]:
        return self._store.stream(path).metadata

    def set_metadata(self, path: str, metadata: Mapping[str, Any]) -> None:
        self._store.stream(path).set_metadata(metadata)

    def intervals(self, path: str, start: int | None, end: int | None) -> Intervals:
        return self._store.stream(path).intervals(start, end)

    def count(self, path: str, start: int | None, end: int | None) -> int:
        return self._store.stream(path).count(start, end)

    def chunks(self, path: str, start: int | None, end: int | None) -> Iterator[Array]:
        return self._store.stream(path).chunks(start, end)

    def insert(self, path: str, rows: Array, start: int, end: int) -> None:
        self._store.stream(path).insert(rows, start, end)

    def remove(self, path: str, start: int | None, end: int | None) -> int:
        return self._store.stream(path).remove(start, end)


class ServerPlace:
    """Streams of a running server."""

    def __init__(self, client: StreamClient) -> None:
        self._client = client

    def entries(self, pattern: str = "*") -> list[Entry]:
        found = [Entry(*one) for one in self._client.stream_list(extended=True)]
        return [one for one in found if fnmatch.fnmatchcase(one.path, pattern)]

    def layout(self, path: str) -> Layout:
        return self._client.stream_layout(split_level(path)[0])

    def create(self, path: str, layout: str) -> None:
        self._client.stream_create(path, layout)

    def rename(self, old: str, new: str) -> None:
        self._client.stream_rename(old, new)

    def destroy(self, path: str) -> None:
        self._client.stream_destroy(path)

    def metadata(self, path: str) -> dict[str, Any]:
        return self._client.stream_get_metadata(path)

    def set_metadata(self, path: str, metadata: Mapping[str, Any]) -> None:
        self._client.stream_set_metadata(path, metadata)

    def intervals(self, path: str, start: int | None, end: int | None) -> Intervals:
        return Intervals.of(self._client.stream_intervals(path, start, end))

    def count(self, path: str, start: int | None, end: int | None) -> int:
        return self._client.stream_count(path, start, end)

    def chunks(self, path: str, start: int | None, end: int | None) -> Iterator[Array]:
        return self._client.stream_extract_numpy(path, start, end)

    def insert(self, path: str, rows: Array, start: int, end: int) -> None:
        self._client.stream_insert_block(path, rows, start, end)

    def remove(self, path: str, start: int | None, end: int | None) -> int:
        return self._client.stream_remove(path, start, end)


@contextmanager
def place(target: str, *, write: bool = False, create: bool = False) -> Iterator[Place]:
    """The streams of a folder, or of a server when `target` is a URL; its token is in the environment, `KYMO_TOKEN`.

    Args:
        write: something will be changed.
        create: make the folder's store when there is none.
    """
    if is_server(target):
        with admitted() as token, StreamClient(target, token) as client:
            yield ServerPlace(client)
        return
    with opened(Path(target), read_only=not write, create=create) as store:
        yield FolderPlace(store)
