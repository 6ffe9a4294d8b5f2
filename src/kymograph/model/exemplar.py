"""An exemplar: one observation behind the samples of a series, with labels that lead to it, such as a trace's id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# of the names and values of its labels together, as OpenMetrics and Prometheus have it
MAX_CHARACTERS = 128


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One exemplar of one scalar series.

    Attributes:
        name: metric name of the series, as its samples have it (`http_seconds_bucket`).
        labels: labels of the exemplar itself (`{"trace_id": "…"}`), at most `MAX_CHARACTERS` in all.
        value: what was observed.
        series: the labels of the series.
        time: int µs or whatever `kymograph` takes as a time; None is the moment it is recorded.
        stamped: whether it came with its time. One that did not, and says the same as the newest of its series, is
            that one seen again; with a time of None it is taken as such.
    """

    name: str
    labels: Mapping[str, str]
    value: float
    series: Mapping[str, str] = field(default_factory=dict)
    time: Any = None
    stamped: bool = True
