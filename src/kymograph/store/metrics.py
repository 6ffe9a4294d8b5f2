"""Scalar samples in: one at a time, as objects, or as arrays."""

from __future__ import annotations

import contextlib
import time as clock
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from kymograph.engine.interface import Engine
from kymograph.errors import AlreadyExists, InvalidInput, NotFound, TimeError
from kymograph.model.schema import SAMPLES, SAMPLES_SCHEMA
from kymograph.model.time import MAX_TIME, MIN_TIME, TIME_TYPE, to_micros
from kymograph.store.metadata import Metadata
from kymograph.store.naming import Kind, Labels, check_kind, identity, number_of
from kymograph.store.registration import SeriesIds

_ARROW = SAMPLES_SCHEMA.arrow


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one scalar series.

    Attributes:
        name: metric name, text of 1 to 255 characters.
        value: float, or an int that float64 holds exactly.
        labels: label names to text; an empty value means the label is absent.
        time: int µs or whatever `kymograph` takes as a time; None is the moment it is recorded.
        kind: what the metric is, unless it was described already.
    """

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    time: Any = None
    kind: Kind = "gauge"


class Metrics:
    """Writes scalar samples of one engine."""

    def __init__(self, engine: Engine, ids: SeriesIds, metadata: Metadata) -> None:
        self._engine = engine
        self._ids = ids
        self._metadata = metadata

    def one(self, sample: Sample, unit: str | None, help: str | None) -> None:
        """Store one sample and its metadata; see `Store.gauge`. A kind that contradicts the known one is an error."""
        name, value, kind = sample.name, sample.value, sample.kind
        number = value if type(value) is float else number_of(name, value)
        micros = clock.time_ns() // 1000 if sample.time is None else _micros(sample.time)
        key = (name, identity(name, sample.labels))
        about = self._metadata.known().get(name)
        if about is None or about["kind"] != kind or unit is not None or help is not None:
            if about is not None and about["kind"] not in (kind, "untyped"):
                raise InvalidInput(
                    f"metric {name} is a {about['kind']}, not a {kind}",
                    hint=f"write it with {about['kind']}(), or change it with describe(name, kind={kind!r})",
                )
            self._metadata.describe({name: {"kind": kind, "unit": unit, "help": help}})
        self._append([self._ids.find(key)], [micros], [number])

    def record(self, samples: Iterable[Sample]) -> int:
        """See `Store.record`."""
        now = clock.time_ns() // 1000
        keys: list[tuple[str, Labels]] = []
        times: list[int] = []
        values: list[float] = []
        kinds: dict[str, str] = {}
        for sample in samples:
            if not isinstance(sample, Sample):
                raise InvalidInput(f"{sample!r} is not a Sample")
            keys.append((sample.name, identity(sample.name, sample.labels)))
            values.append(sample.value if type(sample.value) is float else number_of(sample.name, sample.value))
            times.append(now if sample.time is None else _micros(sample.time))
            kinds.setdefault(sample.name, sample.kind)
        if not keys:
            return 0
        for kind in kinds.values():
            check_kind(kind)
        ids = self._ids.all(keys)
        known = self._metadata.known()
        self._metadata.describe({name: {"kind": kind} for name, kind in kinds.items() if name not in known})
        return self._append(ids, times, values)

    def append(self, ids: Any, times: Any, values: Any) -> int:
        """See `Store.append_samples`."""
        columns = (
            _column("ids", ids, np.int64),
            _column("times", times, np.int64),
            _column("values", values, np.float64),
        )
        if len({len(column) for column in columns}) != 1:
            raise InvalidInput(
                "ids, times and values must be of one length, not " + ", ".join(str(len(c)) for c in columns)
            )
        if not len(columns[0]):
            return 0
        self._ids.check(columns[0])
        low, high = int(columns[1].min()), int(columns[1].max())
        if low < MIN_TIME or high > MAX_TIME:
            raise TimeError(f"{low if low < MIN_TIME else high} µs is out of range")
        return self._append(*columns)

    def _append(self, ids: Any, times: Any, values: Any) -> int:
        columns = [
            pa.array(times, TIME_TYPE),
            pa.array(ids, pa.int64()),
            pa.array(values, pa.float64(), from_pandas=False),
        ]
        batch = pa.RecordBatch.from_arrays(columns, schema=_ARROW)
        try:
            return self._engine.append(SAMPLES, batch)
        except NotFound:  # the first sample of the store, or the first since the table was dropped
            # there already: made by another thread, and given a retention since
            with contextlib.suppress(AlreadyExists):
                self._engine.create_table(SAMPLES_SCHEMA)
            return self._engine.append(SAMPLES, batch)


def _micros(time: Any) -> int:
    if type(time) is int and MIN_TIME <= time <= MAX_TIME:
        return time
    return to_micros(time)


def _column(what: str, given: Any, kind: Any) -> Any:
    column = np.ascontiguousarray(given)
    if column.ndim != 1 or (column.dtype != kind and not np.can_cast(column.dtype, kind, "safe")):
        raise InvalidInput(
            f"{what} must be a one-dimensional array of {np.dtype(kind)}, not {column.dtype} {column.shape}"
        )
    return column.astype(kind, copy=False)
