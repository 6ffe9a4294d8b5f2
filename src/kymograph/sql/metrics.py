"""Scalar series as SQL sees them: the table `metrics`, and the view `metric.<name>` of every metric's samples."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa

from kymograph.engine.interface import Engine, Scan, SeriesBatch
from kymograph.model.matcher import Matcher
from kymograph.model.schema import LABEL_TYPE, SAMPLES, SERIES_ID, TableSchema
from kymograph.model.time import TIME, TIME_TYPE
from kymograph.sql.partial.tier import Range, Tier
from kymograph.sql.sources import held, summaries

METRIC = "metric"
# what rollups by labels call the metric
_NAME = "name"
VALUE = "value"
DESCRIPTION = ("kind", "unit", "help")
_Ints = np.ndarray[Any, np.dtype[np.int64]]


class SeriesIndex:
    """The registered series of one moment, grouped by metric name.

    Attributes:
        size: number of series; the registry only grows, so an equal size means equal content.
    """

    def __init__(self, series: Mapping[int, tuple[str, Mapping[str, str]]]) -> None:
        self.size = len(series)
        self._by_name: dict[str, list[tuple[int, Mapping[str, str]]]] = {}
        for number, (name, labels) in series.items():
            self._by_name.setdefault(name, []).append((number, labels))
        self._metrics: dict[str, Metric] = {}

    @property
    def names(self) -> list[str]:
        return list(self._by_name)

    def metric(self, name: str) -> Metric | None:
        if name not in self._metrics and name in self._by_name:
            self._metrics[name] = Metric(name, sorted(self._by_name[name], key=lambda pair: pair[0]))
        return self._metrics.get(name)

    def table(self, described: Mapping[str, Any]) -> pa.Table:
        """`metrics(series_id, name, kind, unit, help, <label>…)`; a label named like one of these is `label_<name>`."""
        rows = [(number, name, labels) for name, several in self._by_name.items() for number, labels in several]
        rows.sort(key=lambda row: row[0])
        columns: dict[str, pa.Array] = {
            SERIES_ID: pa.array([number for number, _, _ in rows], pa.int64()),
            "name": pa.array([name for _, name, _ in rows], pa.string()),
        }
        for key in DESCRIPTION:
            of = {name: (described.get(name) or {}).get(key) for name in self._by_name}
            columns[key] = pa.array([of[name] for _, name, _ in rows], pa.string())
        for label in sorted({label for _, _, labels in rows for label in labels}):
            shown = f"label_{label}" if label in columns else label
            columns[shown] = pa.array([labels.get(label) for _, _, labels in rows], pa.string())
        return pa.table(columns)


class Metric:
    """The series of one metric: ids ascending, and per label a dictionary code for each of them (-1: has none)."""

    def __init__(self, name: str, series: list[tuple[int, Mapping[str, str]]]) -> None:
        self.name = name
        self.ids: _Ints = np.array([number for number, _ in series], np.int64)
        self._sets = [labels for _, labels in series]
        self._codes: dict[str, tuple[pa.Array, _Ints]] = {}
        names = sorted({label for labels in self._sets for label in labels})
        self.columns = {f"label_{name}" if name in (TIME, VALUE) else name: name for name in names}

    @cached_property
    def table(self) -> TableSchema:
        """What `metric.<name>` looks like. Raises SchemaError for labels that no table could have."""
        return TableSchema(METRIC, tuple(self.columns), ((VALUE, pa.float64()),))

    def selected(self, matchers: Sequence[Matcher]) -> list[int]:
        """Ids of the series that satisfy every matcher."""
        own = [(self.columns[m.label], m) for m in matchers]
        return [
            int(number)
            for number, labels in zip(self.ids, self._sets, strict=True)
            if all(m.matches(labels.get(label)) for label, m in own)
        ]

    def labelled(self, series: pa.Array, column: str) -> pa.DictionaryArray:
        """The label of each row, given the series ids of the rows."""
        label = self.columns[column]
        if label not in self._codes:
            values = [labels.get(label) for labels in self._sets]
            encoded = pa.array(values, pa.string()).dictionary_encode()
            codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
            self._codes[label] = (encoded.dictionary, codes)
        dictionary, codes = self._codes[label]
        found = codes[np.searchsorted(self.ids, series.to_numpy(zero_copy_only=False))]
        return pa.DictionaryArray.from_arrays(pa.array(found, pa.int32(), mask=found < 0), dictionary)


class MetricSource:
    """`metric.<name>`: time, one column per label, value. A label named time or value is `label_<name>`.

    Attributes:
        table: where its rows are.
    """

    table = SAMPLES

    def __init__(self, engine: Engine, metric: Metric) -> None:
        self._engine = engine
        self._metric = metric
        self.labels = frozenset((TIME, *metric.columns))
        self.schema = pa.schema(
            [
                pa.field(TIME, TIME_TYPE, nullable=False),
                *(pa.field(name, LABEL_TYPE) for name in metric.columns),
                pa.field(VALUE, pa.float64()),
            ]
        )

    def scan(self, matchers: Sequence[Matcher], start: int | None, end: int | None, columns: Sequence[str]) -> Scan:
        return self.of_series(self.series(matchers), start, end, columns)

    def of_series(self, ids: _Ints, start: int | None, end: int | None, columns: Sequence[str]) -> Scan:
        """As `scan`, of the series with these ids."""
        schema = pa.schema([self.schema.field(name) for name in columns])
        if not len(ids) or SAMPLES not in self._engine.tables():
            return held(schema.empty_table())
        wanted = [SERIES_ID, *(name for name in (TIME, VALUE) if name in columns)]
        scan = self._engine.scan(SAMPLES, _among(ids), start, end, wanted)
        told = scan.by_series and [partial(self._told, part, columns) for part in scan.by_series]
        return Scan(schema, [partial(self._part, part, schema) for part in scan.parts], scan.rows, told)

    def series(self, matchers: Sequence[Matcher]) -> _Ints:
        """Ids of the series that satisfy every matcher, ascending."""
        return np.array(self._metric.selected(matchers), np.int64)

    def labelled(self, ids: pa.Array, label: str) -> Any:
        """A label of the series with these ids."""
        return self._metric.labelled(ids, label)

    def in_tier(self, tier: Tier, labels: Collection[str]) -> bool:
        """Whether a tier tells these labels of the metric apart."""
        own = {self._metric.columns[label] for label in labels}
        return SERIES_ID in tier.labels or (_NAME in tier.labels and own <= tier.labels - {_NAME})

    def of_tier(
        self, tier: Tier, matchers: Sequence[Matcher], span: Range, labels: Sequence[str], columns: Sequence[str]
    ) -> tuple[dict[str, Any], pa.Table]:
        """Rows of a tier in a range: labels as the metric has them, and columns of the tier."""
        if SERIES_ID in tier.labels:
            scan = self._engine.scan(tier.table, _among(self.series(matchers)), *span, [SERIES_ID, *columns])
            rows = summaries(scan, tier.table)
            series = rows[SERIES_ID].combine_chunks()
            return {label: self._metric.labelled(series, label) for label in labels}, rows
        own = {label: self._metric.columns[label] for label in labels}
        chosen = [Matcher(_NAME, "=", self._metric.name)]
        chosen += [replace(matcher, label=self._metric.columns[matcher.label]) for matcher in matchers]
        names = list(dict.fromkeys((*own.values(), *columns)))
        rows = summaries(self._engine.scan(tier.table, chosen, *span, names), tier.table)
        return {label: rows[name] for label, name in own.items()}, rows

    def _part(self, part: Callable[[], Iterator[pa.RecordBatch]], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for batch in part():
            series = batch.column(SERIES_ID)
            yield pa.RecordBatch.from_arrays(
                [
                    self._metric.labelled(series, name) if name in self._metric.columns else batch.column(name)
                    for name in schema.names
                ],
                schema=schema,
            )

    def _told(self, part: Callable[[], Iterator[SeriesBatch]], columns: Sequence[str]) -> Iterator[SeriesBatch]:
        for batch in part():
            series = batch.labels[SERIES_ID]
            labels = {name: self._metric.labelled(series, name) for name in columns if name in self._metric.columns}
            yield replace(batch, labels=labels)


def _among(ids: _Ints) -> list[Matcher]:
    return [Matcher(SERIES_ID, "in", frozenset(ids.tolist()))]
