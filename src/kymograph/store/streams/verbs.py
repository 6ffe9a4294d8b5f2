"""The verbs of streams on a store."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

from kymograph.engine.streams import StreamStatistics
from kymograph.errors import AlreadyExists, InvalidInput, NotFound
from kymograph.model.stream import Layout, StreamRetention, StreamSchema, check_path, split_level
from kymograph.store.base import StoreBase
from kymograph.store.streams.stream import Stream


@dataclass(frozen=True)
class StreamEntry:
    """One line of `Store.streams`."""

    path: str
    schema: StreamSchema
    statistics: StreamStatistics


class StreamVerbs(StoreBase):
    """Streams of a store; see `Store`."""

    def stream(
        self,
        path: str,
        layout: str | None = None,
        *,
        pyramid: bool | None = None,
        retention: StreamRetention | None = None,
    ) -> Stream:
        """A stream by path, created when it is missing and a layout is given.

        Args:
            path: two or more components, like `/meter/1/raw`; `/meter/1/raw~decim-16` is a level of its pyramid.
            layout: `uint16_6`, `float32_8`, …; RawData, RawNotchedData and PrepData are known too. None: it must exist.
            pyramid: whether a new stream keeps coarser levels (None: it does).
            retention: what bounds a new stream.

        Raises:
            NotFound: there is none, and no layout was given.
            AlreadyExists: there is one of another layout.
            InvalidInput: a path, layout or level that is none.
        """
        base, level = split_level(path)
        check_path(base)
        wanted = None if layout is None else Layout.parse(layout)
        there = self.engine.streams.streams().get(base)
        if there is None:
            if wanted is None or level:
                raise NotFound(f"there is no stream {base}", hint="give a layout, and it is created")
            if retention is not None and not isinstance(retention, StreamRetention):
                raise InvalidInput(f"retention must be kymograph.streams.StreamRetention, not {retention!r}")
            schema = StreamSchema(base, wanted, pyramid is not False, retention or StreamRetention())
            try:
                self._written(lambda: self.engine.streams.create(schema))
            except AlreadyExists:  # created by someone else between our look and our creation
                return self.stream(path, layout, pyramid=pyramid, retention=retention)
        elif wanted is not None and wanted != there.layout:
            raise AlreadyExists(f"the stream {base} has the layout {there.layout.name}, not {wanted.name}")
        elif pyramid is not None and pyramid != there.pyramid:
            raise AlreadyExists(f"the stream {base} was made {'with' if there.pyramid else 'without'} a pyramid")
        return Stream(self, base, level)

    def streams(self, pattern: str = "*") -> list[StreamEntry]:
        """Streams whose path matches a shell pattern (`*` also crosses `/`), by path, with their numbers."""
        found = []
        for path, schema in sorted(self.engine.streams.streams().items()):
            if fnmatch.fnmatchcase(path, pattern):
                try:
                    found.append(StreamEntry(path, schema, self.engine.streams.statistics(path)))
                except NotFound:  # destroyed since the list was taken
                    continue
        return found
