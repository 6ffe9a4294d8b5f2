"""Which series there are: label sets, label names and label values, answered from the index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from kymograph.engine.interface import Engine
from kymograph.errors import InvalidInput
from kymograph.promql.ast import LabelMatcher
from kymograph.promql.labels import Labels
from kymograph.promql.parse import parse_selector
from kymograph.promql.source import Source
from kymograph.store.presence import Presence

Selectors = str | Iterable[str] | None


def find_series(
    engine: Engine, source: Source, selectors: Selectors, start: int | None = None, end: int | None = None
) -> list[Labels]:
    """Label sets, each once, of the series that any of the selectors finds; see `Store.series`.

    Raises:
        QueryError: a text that is no series selector.
    """
    found: dict[Labels, None] = {}
    present = Presence(engine, source, start, end)
    for matchers in _parsed(selectors):
        selection = source.select(matchers)
        scalars = present.scalars(selection.ids)
        labels = selection.labels
        found |= dict.fromkeys(labels[place] for place in np.flatnonzero(scalars).tolist())
        first = len(selection.ids)
        for wide in selection.wide:
            count = len(wide.rows) * len(wide.fields)
            if present.table(wide.schema.name, wide.rows):
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
