"""Scalar series as SQL sees them: the table `metrics`, and the view `metric.<name>` of every metric's samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from kymograph.engine.interface import Engine, Scan
from kymograph.model.matcher import Matcher
from kymograph.model.schema import LABEL_TYPE, SAMPLES, SERIES_ID
from kymograph.model.time import TIME, TIME_TYPE
from kymograph.sql.sources import held

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
            self._metrics[name] = Metric(sorted(self._by_name[name], key=lambda pair: pair[0]))
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

    def __init__(self, series: list[tuple[int, Mapping[str, str]]]) -> None:
        self.ids: _Ints = np.array([number for number, _ in series], np.int64)
        self._sets = [labels for _, labels in series]
        self._codes: dict[str, tuple[pa.Array, _Ints]] = {}
        names = sorted({label for labels in self._sets for label in labels})
        self.columns = {f"label_{name}" if name in (TIME, VALUE) else name: name for name in names}

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
    """`metric.<name>`: time, one column per label, value. A label named time or value is `label_<name>`."""

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
        schema = pa.schema([self.schema.field(name) for name in columns])
        ids = self._metric.selected(matchers)
        if not ids or SAMPLES not in self._engine.tables():
            return held(schema.empty_table())
        wanted = [SERIES_ID, *(name for name in (TIME, VALUE) if name in columns)]
        scan = self._engine.scan(SAMPLES, [Matcher(SERIES_ID, "in", frozenset(ids))], start, end, wanted)
        return Scan(schema, [partial(self._part, part, schema) for part in scan.parts], scan.rows)

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
