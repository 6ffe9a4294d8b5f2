"""Streams as metrics: the column c0 of `/meter/1/raw` is `meter_1_raw_c0{stream="/meter/1/raw"}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from kymograph.engine.interface import Engine, Scan
from kymograph.engine.stream_tables import STREAM, labelled, scan_stream, table_schema_of, tables_of
from kymograph.model.matcher import Matcher
from kymograph.model.schema import LABEL_TYPE, TableSchema
from kymograph.model.stream import StreamSchema


class Readable:
    """What PromQL reads of an engine, its streams among the tables."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def series(self) -> Mapping[int, tuple[str, Mapping[str, str]]]:
        """Every registered series by id."""
        return self._engine.series()

    def tables(self) -> Mapping[str, TableSchema]:
        """Tables, and streams under names that tables may have."""
        tables = self._engine.tables()
        streams = self._streams(tables)
        return {**tables, **{name: table_schema_of(name, schema) for name, schema in streams.items()}}

    def labels(self, name: str) -> tuple[str, ...]:
        """The labels of a table as of now; streams get no more than they have."""
        schema = self._engine.tables().get(name)
        return () if schema is None else schema.labels

    def latest(self, name: str, matchers: Sequence[Matcher] = ()) -> pa.Table:
        """The newest row of every series; of a stream that holds rows only its label."""
        tables = self._engine.tables()
        if name in tables:
            return self._engine.latest(name, matchers)
        schema = self._streams(tables)[name]
        paths = [schema.path] if self._engine.streams.statistics(schema.path).rows else []
        return pa.table({STREAM: pa.array(paths, pa.string()).cast(LABEL_TYPE)})

    def scan(
        self,
        name: str,
        matchers: Sequence[Matcher] = (),
        start: int | None = None,
        end: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> Scan:
        """Rows of a table or stream."""
        tables = self._engine.tables()
        if name in tables:
            return self._engine.scan(name, matchers, start, end, columns)
        schema = self._streams(tables)[name]
        wanted = [*table_schema_of(name, schema).columns] if columns is None else list(columns)
        plain = [column for column in wanted if column != STREAM]
        scan = scan_stream(self._engine.streams, schema, 0, start, end, plain)
        if not all(matcher.matches(schema.path) for matcher in matchers):
            scan = Scan(scan.schema, [], 0)
        return labelled(scan, schema.path, wanted)

    def _streams(self, tables: Mapping[str, TableSchema]) -> Mapping[str, StreamSchema]:
        return tables_of(self._engine.streams.streams(), list(tables))
