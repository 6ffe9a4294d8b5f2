"""The label index: per label a code for each series, so that matchers are answered on distinct values alone."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from kymograph.promql.ast import LabelMatcher
from kymograph.promql.labels import NAME, Labels, labels_of, matcher_mask

Ints = np.ndarray[Any, np.dtype[np.int64]]
_Codes = np.ndarray[Any, np.dtype[np.int32]]


class _Column:
    """One label: its distinct values ("" first) and the code of each series, 0 where it has none."""

    def __init__(self) -> None:
        self.codes_by_value: dict[str, int] = {"": 0}
        self.codes: _Codes = np.zeros(0, np.int32)
        self._values: pa.Array | None = None

    def add(self, places: list[int], codes: list[int], size: int) -> None:
        grown = np.zeros(size, np.int32)
        grown[: len(self.codes)] = self.codes
        grown[places] = codes
        self.codes = grown

    def matched(self, matcher: LabelMatcher) -> Any:
        if matcher.operator in ("=", "!="):
            code = self.codes_by_value.get(matcher.value, -1)
            return self.codes == code if matcher.operator == "=" else self.codes != code
        if self._values is None or len(self._values) != len(self.codes_by_value):
            self._values = pa.array(list(self.codes_by_value), pa.string())
        return matcher_mask(matcher, self._values)[self.codes]


class LabelIndex:
    """All registered scalar series. The registry only grows, at its end, so that only what is new is indexed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._columns: dict[str, _Column] = {}
        self._labels: list[Labels] = []
        self._ids: Ints = np.zeros(0, np.int64)

    def refresh(self, series: Mapping[int, tuple[str, Mapping[str, str]]]) -> None:
        """Index the series that are not there yet. `series` is what `Engine.series` returns."""
        with self._lock:
            first = len(self._labels)
            if len(series) <= first:
                return
            found: dict[str, tuple[list[int], list[int]]] = {}
            numbers = []
            for place, number in enumerate(islice(series, first, None), first):
                name, labels = series[number]
                numbers.append(number)
                one = labels_of({**labels, NAME: name})
                self._labels.append(one)
                for label, value in one:
                    column = self._columns.setdefault(label, _Column())
                    places, codes = found.setdefault(label, ([], []))
                    places.append(place)
                    codes.append(column.codes_by_value.setdefault(value, len(column.codes_by_value)))
            self._ids = np.concatenate([self._ids, np.array(numbers, np.int64)])
            for label, column in self._columns.items():
                column.add(*found.get(label, ([], [])), len(self._labels))

    def select(self, matchers: Sequence[LabelMatcher]) -> tuple[Ints, list[Labels]]:
        """Ids, ascending, and label sets of the series that satisfy every matcher."""
        with self._lock:
            mask = np.ones(len(self._labels), np.bool_)
            nothing = _Column()
            for matcher in matchers:
                column = self._columns.get(matcher.name)
                if column is None:
                    nothing.codes = np.zeros(1, np.int32)
                    if not nothing.matched(matcher)[0]:
                        return np.zeros(0, np.int64), []
                else:
                    mask &= column.matched(matcher)
            places = np.flatnonzero(mask)
            ids = self._ids[places]
            if len(ids) > 1 and (ids[1:] < ids[:-1]).any():
                order = np.argsort(ids)
                ids, places = ids[order], places[order]
            labels = self._labels
            return ids, [labels[place] for place in places.tolist()]
