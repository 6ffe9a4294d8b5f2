"""Which exemplars belong to a query: those of every series that its selectors find."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from kymograph.engine.interface import Engine
from kymograph.model.exemplar import Exemplar
from kymograph.model.matcher import of_series
from kymograph.model.schema import SERIES_ID
from kymograph.model.time import TIME, micros_of
from kymograph.promql.ast import Node, Selector
from kymograph.promql.labels import NAME, Labels
from kymograph.promql.parse import parse
from kymograph.promql.source import Source
from kymograph.store.exemplars.book import EXEMPLARS, has_exemplars


def find_exemplars(engine: Engine, source: Source, query: str, start: int | None, end: int | None) -> list[Exemplar]:
    """See `Store.exemplars`."""
    series: dict[int, Labels] = {}
    for selector in selectors_of(parse(query)):
        found = source.select(selector.matchers)
        series.update(zip(found.ids.tolist(), found.labels, strict=False))
    if not series or not has_exemplars(engine):
        return []
    matchers = of_series(np.fromiter(series, np.int64), len(engine.series()))
    rows = engine.scan(EXEMPLARS, matchers, start, end).table()
    return list(_in_order(rows, series))


def selectors_of(node: Any) -> Iterator[Selector]:
    """The selectors of a query, in no particular order, those with a window too."""
    if isinstance(node, Selector):
        yield node
    elif isinstance(node, Node):
        for part in vars(node).values():
            yield from selectors_of(part)
    elif isinstance(node, tuple):
        for part in node:
            yield from selectors_of(part)


def _in_order(rows: Any, series: dict[int, Labels]) -> Iterator[Exemplar]:
    """By series, in the order of their sorted labels, then by time."""
    ids = rows[SERIES_ID].to_numpy()
    present = np.unique(ids)
    # a series that came since the index was asked has no labels here
    ranked = sorted((sorted(series[number]), number) for number in present.tolist() if number in series)
    rank = {number: place for place, (_, number) in enumerate(ranked)}
    places = np.array([rank.get(number, -1) for number in present.tolist()], np.int64)[np.searchsorted(present, ids)]
    times = micros_of(rows[TIME].combine_chunks())
    order = np.lexsort((times, places))
    order = order[places[order] >= 0]
    identities = {number: dict(labels) for labels, number in ranked}
    names = {number: labels.pop(NAME) for number, labels in identities.items()}
    values = rows["value"].to_numpy()[order].tolist()
    told = json.loads(f"[{','.join(rows['labels'].take(order).to_pylist())}]")
    for number, time, value, labels in zip(ids[order].tolist(), times[order].tolist(), values, told, strict=True):
        yield Exemplar(names[number], labels, value, identities[number], time)
