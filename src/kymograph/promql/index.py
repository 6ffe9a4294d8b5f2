"""The label index: per label a code for each series, so that matchers are answered on distinct values alone."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from kymograph.promql.ast import LabelMatcher
from kymograph.promql.labels import NAME, Bools, Labels, labels_of, matcher_mask

Ints = np.ndarray[Any, np.dtype[np.int64]]
_MASKS = 32  # regexes whose values are remembered per label
_Codes = np.ndarray[Any, np.dtype[np.int32]]


class _Column:
    """One label: its distinct values ("" first) and the code of each series, 0 where it has none."""

    def __init__(self) -> None:
        self.codes_by_value: dict[str, int] = {"": 0}
        self.codes: _Codes = np.zeros(0, np.int32)
        self._values: pa.Array | None = None
        self._masks: dict[LabelMatcher, Bools] = {}  # of the values, by regexes asked before

    def add(self, places: list[int], codes: list[int], size: int) -> None:
        grown = np.zeros(size, np.int32)
        grown[: len(self.codes)] = self.codes
        grown[places] = codes
        self.codes = grown

    def matched(self, matcher: LabelMatcher, places: Ints | slice) -> Any:
        """Which of the series at these places satisfy the matcher."""
        codes = self.codes[places]
        if matcher.operator in ("=", "!="):
            code = self.codes_by_value.get(matcher.value, -1)
            return codes == code if matcher.operator == "=" else codes != code
        if self._values is None or len(self._values) != len(self.codes_by_value):
            self._values, self._masks = pa.array(list(self.codes_by_value), pa.string()), {}
        # a regex costs per value that it looks at, everything else next to nothing
        mask = self._masks.get(matcher)
        if mask is None and len(codes) * 2 < len(self._values):
            used, back = np.unique(codes, return_inverse=True)
            return matcher_mask(matcher, self._values.take(pa.array(used)))[back]
        if mask is None:
            if len(self._masks) >= _MASKS:
                del self._masks[next(iter(self._masks))]
            mask = self._masks[matcher] = matcher_mask(matcher, self._values)
        return mask[codes]


def _cost(matcher: LabelMatcher) -> int:
    """What leaves few series at little cost comes first."""
    return ("=", "!=", "=~", "!~").index(matcher.operator)


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
            places: Ints | slice = slice(None)
            nothing = _Column()
            nothing.codes = np.zeros(len(self._labels), np.int32)
            for matcher in sorted(matchers, key=_cost):
                found = np.flatnonzero(self._columns.get(matcher.name, nothing).matched(matcher, places))
                places = found if isinstance(places, slice) else places[found]
            if isinstance(places, slice):
                places = np.arange(len(self._labels))
            ids = self._ids[places]
            if len(ids) > 1 and (ids[1:] < ids[:-1]).any():
                order = np.argsort(ids)
                ids, places = ids[order], places[order]
            labels = self._labels
            return ids, [labels[place] for place in places.tolist()]
