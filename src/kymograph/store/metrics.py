"""Scalar series: samples in, metadata by metric name, and the cache of series ids that makes one-row writes cheap."""

from __future__ import annotations

import contextlib
import threading
import time as clock
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from kymograph.engine.interface import Engine
from kymograph.errors import AlreadyExists, InvalidInput, NotFound
from kymograph.model.schema import SAMPLES, SAMPLES_SCHEMA
from kymograph.model.time import MAX_TIME, MIN_TIME, TIME_TYPE, to_micros

Kind = Literal["gauge", "counter", "histogram", "summary", "untyped"]
KINDS = ("gauge", "counter", "histogram", "summary", "untyped")
DOCUMENT = "metric"
MAX_NAME = 255
MAX_VALUE = 65_535
_Labels = tuple[tuple[str, str], ...]
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
    """Writes scalar samples of one engine and keeps the metadata of their names."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ids: dict[tuple[str, _Labels], int] = {}
        self._described: dict[str, dict[str, str]] | None = None
        self._describing = threading.Lock()

    def one(self, sample: Sample, unit: str | None, help: str | None) -> None:
        """Store one sample and its metadata; see `Store.gauge`. A kind that contradicts the known one is an error."""
        name, value, kind = sample.name, sample.value, sample.kind
        number = value if type(value) is float else _number(name, value)
        micros = clock.time_ns() // 1000 if sample.time is None else _micros(sample.time)
        key = (name, _identity(name, sample.labels))
        about = self._metadata().get(name)
        if about is None or about["kind"] != kind or unit is not None or help is not None:
            if about is not None and about["kind"] not in (kind, "untyped"):
                raise InvalidInput(
                    f"metric {name} is a {about['kind']}, not a {kind}",
                    hint=f"write it with {about['kind']}(), or change it with describe(name, kind={kind!r})",
                )
            self.describe(name, kind, unit, help)
        known = self._ids.get(key)
        self._append([micros], [self._register([key])[0] if known is None else known], [number])

    def record(self, samples: Iterable[Sample]) -> int:
        """See `Store.record`."""
        now = clock.time_ns() // 1000
        keys: list[tuple[str, _Labels]] = []
        times: list[int] = []
        values: list[float] = []
        kinds: dict[str, str] = {}
        for sample in samples:
            if not isinstance(sample, Sample):
                raise InvalidInput(f"{sample!r} is not a Sample")
            keys.append((sample.name, _identity(sample.name, sample.labels)))
            values.append(sample.value if type(sample.value) is float else _number(sample.name, sample.value))
            times.append(now if sample.time is None else _micros(sample.time))
            kinds.setdefault(sample.name, sample.kind)
        if not keys:
            return 0
        for kind in kinds.values():
            _check_kind(kind)
        missing = [key for key in dict.fromkeys(keys) if key not in self._ids]
        if missing:
            self._register(missing)
        described = self._metadata()
        for name, kind in kinds.items():
            if name not in described:
                self.describe(name, kind)
        return self._append(times, [self._ids[key] for key in keys], values)

    def describe(self, name: str, kind: str | None = None, unit: str | None = None, help: str | None = None) -> None:
        """See `Store.describe`."""
        _check_name("metric", name)
        if kind is not None:
            _check_kind(kind)
        for what, text in (("unit", unit), ("help", help)):
            if text is not None:
                _check_text(f"{what} of metric {name}", text)
        given = {"kind": kind, "unit": unit, "help": help}
        with self._describing:
            old = self._metadata().get(name) or {"kind": "untyped", "unit": "", "help": ""}
            new = {key: old[key] if value is None else value for key, value in given.items()}
            if new != self._metadata().get(name):
                self._engine.put_document(DOCUMENT, name, new)
                self._metadata()[name] = new

    def listing(self) -> list[dict[str, Any]]:
        """See `Store.metrics`."""
        count = Counter(name for name, _ in self._engine.series().values())
        about = self._engine.documents(DOCUMENT)
        blank = {"kind": "untyped", "unit": "", "help": ""}
        return [
            {"name": name, **blank, **about.get(name, {}), "series": count[name]}
            for name in sorted(count.keys() | about.keys())
        ]

    def _metadata(self) -> dict[str, dict[str, str]]:
        if self._described is None:
            self._described = {name: dict(about) for name, about in self._engine.documents(DOCUMENT).items()}
        return self._described

    def _register(self, keys: list[tuple[str, _Labels]]) -> list[int]:
        ids = self._engine.register_series([(name, dict(labels)) for name, labels in keys])
        self._ids.update(zip(keys, ids, strict=True))
        return ids

    def _append(self, times: list[int], ids: list[int], values: list[float]) -> int:
        columns = [pa.array(times, TIME_TYPE), pa.array(ids, pa.int64()), pa.array(values, pa.float64())]
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


def _identity(name: str, labels: Mapping[str, str] | None) -> _Labels:
    """Labels sorted by name, empty ones left out, as Prometheus identifies series; checks everything."""
    _check_name("metric", name)
    if not labels:
        return ()
    if not isinstance(labels, Mapping):
        raise InvalidInput(f"metric {name}: labels must be a mapping of names to text, not {labels!r}")
    for label, value in labels.items():
        _check_name(f"metric {name}: label", label)
        if type(value) is not str or len(value) > MAX_VALUE or not _is_utf8(value):
            raise InvalidInput(
                f"metric {name}: label {label} cannot be {_short(value)}",
                hint=f"a label value is text of at most {MAX_VALUE:,} characters",
            )
    return tuple(sorted([pair for pair in labels.items() if pair[1]]))


def _check_name(what: str, name: Any) -> None:
    if type(name) is not str or not 0 < len(name) <= MAX_NAME or "\0" in name or not _is_utf8(name):
        raise InvalidInput(
            f"{what} {_short(name)} is not a name", hint=f"a name is text of 1 to {MAX_NAME} characters, without NUL"
        )
    if name == "__name__":
        raise InvalidInput(f"{what} __name__ is reserved", hint="the metric's name is an argument of its own")


def _check_kind(kind: Any) -> None:
    if kind not in KINDS:
        raise InvalidInput(f"{_short(kind)} is not a kind of metric", hint="one of " + ", ".join(KINDS))


def _check_text(what: str, text: Any) -> None:
    if not isinstance(text, str) or len(text) > MAX_VALUE or not _is_utf8(text):
        raise InvalidInput(f"{what} cannot be {_short(text)}", hint=f"text of at most {MAX_VALUE:,} characters")


def _is_utf8(text: str) -> bool:
    """False for lone surrogates, which no file and no wire can carry."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise InvalidInput(f"metric {name}: {_short(value)} is not a number")
    try:
        number = float(value)
        exact = number == value or value != value
    except OverflowError:
        exact = False
    if not exact:
        raise InvalidInput(
            f"metric {name}: float64 cannot hold {_short(value)} exactly",
            hint="round it with float(value), or write it to an integer field of a table",
        )
    return number
