"""A short life of streams that takes every kind of durable step, and what must be true whenever it is interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from kymograph.engine.memory import MemoryEngine
from kymograph.local.streams import block, changing, chunk, folding
from kymograph.model.stream import Layout, StreamSchema

LAYOUT = Layout.parse("uint16_2")
A, B, C = "/a/raw", "/b/raw", "/c/raw"
SCRIPT: list[tuple[Any, ...]] = [
    ("create", A),
    ("insert", A, 0, 50, 0),
    ("insert", A, 50, 40, 0),
    ("create", B),
    ("insert", B, 0, 300, 0),
    ("fold",),
    ("insert", A, 200, 700, 3),
    ("insert", A, 120, 30, 0),
    ("insert", A, 95, 0, 5),
    ("remove", A, 300, 420),
    ("insert", A, 330, 20, 0),
    ("fold",),
    ("remove", A, 10, 20),
    ("describe", B, {"unit": "V"}),
    ("rename", B, C),
    ("insert", C, 300, 120, 0),
    ("merge",),
    ("create", B),
    ("insert", B, 0, 200, 0),
    ("destroy", C),
    ("remove", A, 0, 95),
]


@contextmanager
def small_sizes() -> Iterator[None]:
    """A few rows fill chunks and blocks."""
    kept = (chunk._CHUNK_ROWS, block._BLOCK_BYTES, changing.DIRECT_BYTES, folding._MANY)
    chunk._CHUNK_ROWS, block._BLOCK_BYTES, changing.DIRECT_BYTES, folding._MANY = 64, 256 * 12, 100 * 12, 2
    try:
        yield
    finally:
        chunk._CHUNK_ROWS, block._BLOCK_BYTES, changing.DIRECT_BYTES, folding._MANY = kept


def rows_at(start: int, count: int) -> Any:
    """Rows one µs apart whose values tell their time."""
    rows = np.empty(count, LAYOUT.rows)
    rows["timestamp"] = start + np.arange(count)
    rows["data"][:, 0] = rows["timestamp"] % 1000
    rows["data"][:, 1] = 7
    return rows


def apply(engine: Any, operation: tuple[Any, ...]) -> None:
    """Run one operation; the oracle has nothing to fold or merge."""
    kind, *rest = operation
    streams = engine.streams
    if kind == "create":
        streams.create(StreamSchema(rest[0], LAYOUT))
    elif kind == "insert":
        path, start, count, margin = rest
        streams.insert(path, rows_at(start, count), start, start + count + margin)
    elif kind == "describe":
        path, metadata = rest
        schema = streams.streams()[path]
        streams.alter(StreamSchema(path, schema.layout, schema.pyramid, schema.retention, metadata))
    elif kind in ("fold", "merge"):
        if not isinstance(engine, MemoryEngine):
            getattr(streams, kind)()
    else:
        getattr(streams, kind)(*rest)


def state(engine: Any) -> dict[str, Any]:
    """Everything that can be asked."""
    streams = engine.streams
    found = {}
    for path, schema in streams.streams().items():
        rows = [
            row
            for array in streams.read(path)
            for row in zip(array["timestamp"].tolist(), array["data"].tolist(), strict=True)
        ]
        coarse = [tuple(row) for array in streams.read(path, level=3) for row in array["max"].tolist()]
        found[path] = (schema, list(streams.coverage(path)), rows, coarse, streams.count(path))
    return found


def history() -> list[dict[str, Any]]:
    """The state before the first operation and after each."""
    oracle = MemoryEngine()
    states = [state(oracle)]
    for operation in SCRIPT:
        apply(oracle, operation)
        states.append(state(oracle))
    return states


def assert_tidy(folder: Path, engine: Any) -> None:
    """No file that the catalog does not know, and nothing that a check would name."""
    files = [path for path in (folder / "streams").rglob("*") if path.is_file()]
    known = sum(engine.streams.statistics(path).blocks for path in engine.streams.streams())
    assert len(files) == known, files
    assert not engine.check().damages
