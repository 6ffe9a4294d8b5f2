"""What SQL calls `stream."/meter/1/raw"`: a stream's rows, or with `~decim-16` behind the path a level of its pyramid."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from kymograph.engine.interface import Engine, Scan
from kymograph.engine.stream_tables import arrow_schema, scan_stream
from kymograph.errors import InvalidInput
from kymograph.model.matcher import Matcher
from kymograph.model.stream import split_level
from kymograph.model.time import TIME


class StreamSource:
    """A stream of an engine, read chunk by chunk as the query goes."""

    labels = frozenset((TIME,))

    def __init__(self, engine: Engine, path: str, level: int) -> None:
        self._engine = engine
        self._stream = engine.streams.streams()[path]
        self._level = level
        self.schema: pa.Schema = arrow_schema(self._stream, level)

    def scan(self, matchers: Sequence[Matcher], start: int | None, end: int | None, columns: Sequence[str]) -> Scan:
        return scan_stream(self._engine.streams, self._stream, self._level, start, end, columns)


def stream_source(engine: Engine, name: str) -> StreamSource | None:
    """The stream or level of this name; None where there is none."""
    try:
        path, level = split_level(name)
    except InvalidInput:
        return None
    return StreamSource(engine, path, level) if path in engine.streams.streams() else None
