"""What expressions evaluate to: a grid of steps, and values of series × steps with a mask of those that are there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kymograph.errors import QueryError
from kymograph.promql.index import Ints
from kymograph.promql.labels import Bools, Labels, unique, unnamed
from kymograph.promql.source import Floats, SeriesSet


@dataclass(frozen=True)
class Grid:
    """`count` evaluation times, `step` µs apart, the first at `start` µs."""

    start: int
    step: int
    count: int

    @property
    def end(self) -> int:
        return self.start + (self.count - 1) * self.step

    @property
    def times(self) -> Ints:
        return self.start + self.step * np.arange(self.count, dtype=np.int64)


@dataclass(frozen=True)
class Frame:
    """An instant vector at every step. NaN is a value like any other: `present` says what is there.

    Attributes:
        labels: S label sets, all different.
        values: float64 [S, T]; meaningless where not present.
        present: bool [S, T].
    """

    labels: list[Labels]
    values: Floats
    present: Bools

    def pruned(self) -> Frame:
        """Less the series that are at no step."""
        used = self.present.any(axis=1)
        return self if used.all() else self.rows(np.flatnonzero(used))

    def rows(self, places: Any) -> Frame:
        return Frame([self.labels[place] for place in places.tolist()], self.values[places], self.present[places])

    def unnamed(self) -> Frame:
        """Less the metric names. Raises QueryError where two series become the same at the same step."""
        return settled([unnamed(one) for one in self.labels], self.values, self.present)

    def series(self, grid: Grid) -> SeriesSet:
        """As samples, for a window over it."""
        counts = self.present.sum(axis=1)
        _, steps = np.nonzero(self.present)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return SeriesSet(self.labels, grid.times[steps], self.values[self.present], offsets)


def empty(count: int) -> Frame:
    return Frame([], np.zeros((0, count)), np.zeros((0, count), np.bool_))


def single(values: Floats, present: Bools | None = None) -> Frame:
    """One series without labels."""
    return Frame([()], values[None, :], np.ones((1, len(values)), np.bool_) if present is None else present[None, :])


def settled(labels: list[Labels], values: Floats, present: Bools) -> Frame:
    """A frame of labels that may repeat: such series become one where their steps do not overlap.

    Raises:
        QueryError: two of them have a value at the same step.
    """
    places = unique(labels)
    if len(places) == len(labels):
        return Frame(labels, values, present)
    rows = np.fromiter(map(places.__getitem__, labels), np.int64, len(labels))
    shape = (len(places), values.shape[1])
    merged, there = np.zeros(shape), np.zeros(shape, np.int64)
    series, steps = np.nonzero(present)
    np.add.at(there, (rows[series], steps), 1)
    if (there > 1).any():
        raise QueryError("vector cannot contain metrics with the same labelset")
    merged[rows[series], steps] = values[series, steps]
    return Frame(list(places), merged, there > 0)


@dataclass
class Notes:
    """Annotations of one query, each once, in order of appearance; and what its samples were read from."""

    _warnings: dict[str, None] = field(default_factory=dict)
    _infos: dict[str, None] = field(default_factory=dict)
    _tiers: dict[str, None] = field(default_factory=dict)

    def read_from(self, tiers: Iterable[str]) -> None:
        self._tiers.update(dict.fromkeys(tiers))

    def warn(self, message: str, where: str) -> None:
        self._warnings.setdefault(f"PromQL warning: {message} ({where})")

    def inform(self, message: str, where: str) -> None:
        self._infos.setdefault(f"PromQL info: {message} ({where})")

    @property
    def warnings(self) -> list[str]:
        return list(self._warnings)

    @property
    def infos(self) -> list[str]:
        return list(self._infos)

    @property
    def tiers(self) -> list[str]:
        return list(self._tiers)
