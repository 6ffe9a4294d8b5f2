"""Which series there are: label sets, label names and label values, answered from the index without reading samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from kymograph.engine.interface import Engine
from kymograph.errors import InvalidInput, NotFound
from kymograph.model.schema import SAMPLES, SERIES_ID
from kymograph.model.time import TIME, micros_of
from kymograph.promql.ast import LabelMatcher
from kymograph.promql.labels import Labels
from kymograph.promql.parse import parse_selector
from kymograph.promql.source import Source

Selectors = str | Iterable[str] | None


def find_series(
    engine: Engine, source: Source, selectors: Selectors, start: int | None = None, end: int | None = None
) -> list[Labels]:
    """Label sets, each once, of the series that any of the selectors finds; see `Store.series`.

    Raises:
        QueryError: a text that is no series selector.
    """
    found: dict[Labels, None] = {}
    alive = _Alive(engine, start, end)
    for matchers in _parsed(selectors):
        selection = source.select(matchers)
        scalars = alive.scalars(selection.ids)
        labels = selection.labels
        found |= dict.fromkeys(labels[place] for place in np.flatnonzero(scalars).tolist())
        first = len(selection.ids)
        for wide in selection.wide:
            count = len(wide.rows) * len(wide.fields)
            if alive.table(wide.schema.name):
                found |= dict.fromkeys(labels[first : first + count])
            first += count
    return list(found)


def label_names(series: Iterable[Labels]) -> list[str]:
    """Names of the labels, `__name__` among them, sorted."""
    return sorted({name for labels in series for name, _ in labels})


def label_values(series: Iterable[Labels], name: str) -> list[str]:
    """Values of one label, sorted; series without it have none."""
    return sorted({value for labels in series for label, value in labels if label == name})


def _parsed(selectors: Selectors) -> list[Sequence[LabelMatcher]]:
    if selectors is None:
        return [[]]
    texts = [selectors] if isinstance(selectors, str) else list(selectors)
    if not all(isinstance(text, str) for text in texts):
        raise InvalidInput('a selector is text such as up{job="x"}')
    return [parse_selector(text).matchers for text in texts]


class _Alive:
    """Which series may have samples in [start, end), by the newest sample of each, which the engine keeps."""

    def __init__(self, engine: Engine, start: int | None, end: int | None) -> None:
        self._engine, self._start, self._end = engine, start, end

    def table(self, name: str) -> bool:
        """False where no row of the table can be in the range."""
        if self._start is None and self._end is None:
            return True
        try:
            numbers = self._engine.statistics(name)
        except NotFound:
            return False
        if numbers.newest is None or numbers.oldest is None:
            return False
        early = self._start is not None and numbers.newest < self._start
        return not early and not (self._end is not None and numbers.oldest >= self._end)

    def scalars(self, ids: Any) -> Any:
        """A mask of the series whose newest sample is at or after the start."""
        if self._start is None and self._end is None:
            return np.ones(len(ids), np.bool_)
        if not len(ids) or not self.table(SAMPLES):
            return np.zeros(len(ids), np.bool_)
        latest = self._engine.latest(SAMPLES)
        numbers = latest[SERIES_ID].to_numpy()
        newest = np.full(max(int(ids.max()), int(numbers.max(initial=0))) + 1, np.iinfo(np.int64).min)
        newest[numbers] = micros_of(latest[TIME].combine_chunks())
        lowest = np.iinfo(np.int64).min + 1 if self._start is None else self._start
        return newest[ids] >= lowest
