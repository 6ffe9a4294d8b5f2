"""From the names a statement mentions to the tables its context knows. Only those: registering everything costs."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
from datafusion.catalog import Table

from kymograph.engine.interface import Engine
from kymograph.errors import SchemaError
from kymograph.model.schema import SAMPLES, SAMPLES_SCHEMA, TableSchema
from kymograph.sql.contexts import Planner
from kymograph.sql.dataset import Access, Source, SourceDataset
from kymograph.sql.metrics import METRIC, MetricSource, SeriesIndex
from kymograph.sql.partial.measures import PREFIX
from kymograph.sql.prune import Key
from kymograph.sql.sources import EmptySource, HeldSource, LatestSource, TableSource
from kymograph.sql.streams import stream_source
from kymograph.sql.tokens import Token

LATEST = "latest"
METRICS = "metrics"
STREAM = "stream"


class Catalog:
    """Names of one engine; keeps the index of its series between queries."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._index = SeriesIndex({})
        self._metrics: tuple[SeriesIndex, Mapping[str, object], pa.Table] | None = None

    def register(
        self, planner: Planner, tokens: Sequence[Token], access: Access, extra: Mapping[str, SourceDataset]
    ) -> dict[Key, SourceDataset]:
        """Make every mentioned table known to `planner`; `extra` goes by its names into the default schema."""
        datasets: dict[Key, SourceDataset] = {("", name): dataset for name, dataset in extra.items()}
        for key, source in self._mentioned(tokens):
            if key not in datasets:
                datasets[key] = SourceDataset(source, access)
        for (schema, name), dataset in datasets.items():
            planner.schema(schema).register_table(name, Table(dataset))
        return datasets

    def metric(self, name: str) -> TableSchema | None:
        """What the view of a metric looks like; None where there is none."""
        metric = self._series().metric(name)
        try:
            return None if metric is None else metric.table
        except SchemaError:
            return None

    def source(self, key: Key) -> TableSource | MetricSource:
        """A table of the engine, or the view of a metric."""
        metric = self._series().metric(key[1]) if key[0] == METRIC else None
        return (
            MetricSource(self._engine, metric) if metric else TableSource(self._engine, self._engine.tables()[key[1]])
        )

    def _mentioned(self, tokens: Sequence[Token]) -> Iterator[tuple[Key, Source]]:
        tables = self._engine.tables()
        for i, token in enumerate(tokens):
            if token.kind not in ("word", "name"):
                continue
            name = token.value
            if i > 1 and tokens[i - 2].value.startswith(PREFIX):
                continue  # what the statement calls a stand-in
            before = tokens[i - 2].value if i > 1 and tokens[i - 1].is_punct(".") else ""
            if before == LATEST and name in tables:
                yield (LATEST, name), LatestSource(self._engine, tables[name])
            elif before == METRIC:
                metric = self._series().metric(name)
                if metric is not None:
                    yield (METRIC, name), MetricSource(self._engine, metric)
            elif before == STREAM:
                stream = stream_source(self._engine, name)
                if stream is not None:
                    yield (STREAM, name), stream
            if name in tables:
                yield ("", name), TableSource(self._engine, tables[name])
            elif name == SAMPLES:
                yield ("", name), EmptySource(SAMPLES_SCHEMA)
            elif name == METRICS:
                yield ("", name), HeldSource(self._metrics_table())

    def _series(self) -> SeriesIndex:
        series = self._engine.series()
        if len(series) != self._index.size:
            self._index = SeriesIndex(series)
        return self._index

    def _metrics_table(self) -> pa.Table:
        index, described = self._series(), dict(self._engine.documents("metric"))
        if self._metrics is None or self._metrics[0] is not index or self._metrics[1] != described:
            self._metrics = (index, described, index.table(described))
        return self._metrics[2]

    def like(self, name: str) -> str:
        """A hint for an unknown table: the names near it, or some of those there are."""
        schema, _, table = name.rpartition(".")
        schema = schema.rpartition(".")[2]
        if schema == METRIC:
            known = self._series().names
        elif schema == LATEST:
            known = list(self._engine.tables())
        elif schema == STREAM:
            known = list(self._engine.streams.streams())
        else:
            schema, known = "", list({*self._engine.tables(), SAMPLES, METRICS})
        lowered = {k.lower(): k for k in known}
        near = [lowered[k] for k in difflib.get_close_matches(table.lower(), lowered, 3, 0.6)]
        shown = [(f"{schema}." if schema else "") + _quoted(k) for k in (near or sorted(known)[:8])]
        if not shown:
            return "there are none yet"
        return ("did you mean " if near else "there are ") + ", ".join(shown)


def _quoted(name: str) -> str:
    """The name as a statement has to write it."""
    plain = name.isascii() and name.isidentifier() and name.islower()
    return name if plain else '"' + name.replace('"', '""') + '"'
