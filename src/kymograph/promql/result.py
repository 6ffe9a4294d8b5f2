"""What a query answers: instants, series over time, a number or a text, with annotations."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from kymograph.promql.index import Ints
from kymograph.promql.labels import Labels
from kymograph.promql.source import Floats


@dataclass(frozen=True)
class PromResult:
    """The answer of a PromQL query.

    Samples of all series lie one after the other; those of series i are [offsets[i], offsets[i + 1]).

    Attributes:
        type: "vector" (one sample per series, in the query's order), "matrix" (series sorted by labels), "scalar"
            (one series without labels) or "string".
        series: one label set per series, as pairs; `__name__` comes first where the series has one.
        times: int64 µs of all samples.
        values: float64 of all samples.
        offsets: int64, one more than series; no series is without samples.
        text: of a "string".
        warnings, infos: annotations in Prometheus' words, with line:column.
        samples: how many stored samples, or summaries of some, were read.
        tiers: what they were read from: "raw" for samples as they were written, otherwise the tables of summaries.
    """

    type: Literal["vector", "matrix", "scalar", "string"]
    series: list[Labels] = field(default_factory=list)
    times: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    values: Floats = field(default_factory=lambda: np.zeros(0))
    offsets: Ints = field(default_factory=lambda: np.zeros(1, np.int64))
    text: str = ""
    warnings: list[str] = field(default_factory=list)
    infos: list[str] = field(default_factory=list)
    samples: int = 0
    tiers: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.series)

    @cached_property
    def labels(self) -> list[dict[str, str]]:
        """One mapping per series, made when it is first asked for."""
        return [dict(one) for one in self.series]

    def samples_of(self, place: int) -> tuple[Ints, Floats]:
        """Times and values of one series."""
        part = slice(int(self.offsets[place]), int(self.offsets[place + 1]))
        return self.times[part], self.values[part]


def number(value: float) -> str:
    """Shortest text that reads back the same, never with an exponent, as Prometheus writes sample values."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return np.format_float_positional(value, trim="-")


def general(value: float) -> str:
    """As `number`, but below 1e-4 and from 1e6 on with an exponent: what Go's %g writes in messages and templates."""
    size = abs(value)
    if 0 < size < 1e-4 or 1e6 <= size < math.inf:
        return np.format_float_scientific(value, trim="-", exp_digits=2)
    return number(value)
