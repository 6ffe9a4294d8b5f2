"""Aggregations over series: sums and spreads, ranks within groups, and limits. Series × steps at once."""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from typing import Any

import numpy as np

from kymograph.errors import QueryError
from kymograph.promql import ast
from kymograph.promql.frame import Frame, settled
from kymograph.promql.index import Ints
from kymograph.promql.labelling import with_label
from kymograph.promql.labels import NAME, Bools, Labels, dropped, kept, unique
from kymograph.promql.limits import Meter
from kymograph.promql.result import general, number
from kymograph.promql.source import Floats
from kymograph.promql.windows import exact_sum
from kymograph.promql.xxhash import hash_of

_BLOCK = 262_144  # cells summed at once; more do not stay in the cache


def group_labels(labels: list[Labels], node: ast.Aggregate) -> list[Labels]:
    """The label set of each series' group."""
    if node.without:
        names = frozenset((*node.labels, NAME))
        return list(map(dropped, labels, repeat(names)))
    if not node.labels:
        return [()] * len(labels)
    names = frozenset(node.labels)
    return list(map(kept, labels, repeat(names)))


class Groups:
    """Rows of a frame in groups.

    Attributes:
        labels: G label sets, in order of appearance.
        of: group of each row, int64 [S].
    """

    def __init__(self, frame: Frame, keys: list[Labels]) -> None:
        found = unique(keys)
        self.labels = list(found)
        self.of: Ints = np.fromiter(map(found.__getitem__, keys), np.int64, len(keys))
        self._frame = frame
        self._order = np.argsort(self.of, kind="stable")
        self._in_order = bool((self.of[1:] >= self.of[:-1]).all())
        self._starts = np.searchsorted(self.of[self._order], np.arange(len(self.labels)))

    def reduce(self, operation: np.ufunc, values: Any, dtype: Any = None) -> Any:
        """[S, T] to [G, T], reckoned in `dtype`."""
        rows = values if self._in_order else values[self._order]
        return operation.reduceat(rows, self._starts, axis=0, dtype=dtype)

    def counts(self) -> Ints:
        found: Ints = self.reduce(np.add, self._frame.present.astype(np.int64))
        return found

    def sums(self) -> tuple[Floats, Any]:
        """Sums [G, T] as float64 and as long double; where much cancels, exactly."""
        frame = self._frame
        shape = (len(self.labels), frame.values.shape[1])
        found, wide = np.zeros(shape), np.zeros(shape, np.longdouble)
        width = max(1, _BLOCK // max(1, len(frame.labels)))
        for first in range(0, shape[1], width):
            part = slice(first, first + width)
            values = np.where(frame.present[:, part], frame.values[:, part], 0.0)
            wide[:, part] = self.reduce(np.add, values, np.longdouble)
            found[:, part] = wide[:, part]
            if values.size and np.nanmin(values, initial=0.0) < 0 < np.nanmax(values, initial=0.0):
                size = self.reduce(np.add, np.abs(values))
                self._repair(values, np.abs(found[:, part]) < size * 2.0**-20, found[:, part], wide[:, part])
        return found, wide

    def _repair(self, values: Floats, cells: Bools, found: Floats, wide: Any) -> None:
        for group, step in np.argwhere(cells & np.isfinite(found)):
            rows = values[self.of == group, step]
            if np.isfinite(rows).all():
                found[group, step] = wide[group, step] = exact_sum(rows)

    def ranked(self, keys: Floats) -> Ints:
        """Rows by group, within each by `keys` ascending with NaN after numbers, absent ones last. int64 [S, T]."""
        keys = np.where(self._frame.present, keys, np.nan)
        order = np.argsort(keys, axis=0, kind="stable")
        # 0 number, 1 NaN, 2 absent, by group
        rank = self.of[:, None] * 3 + np.where(self._frame.present, np.isnan(keys), 2)
        again = np.argsort(np.take_along_axis(rank, order, axis=0), axis=0, kind="stable")
        found: Ints = np.take_along_axis(order, again, axis=0)
        return found

    def places(self, order: Ints) -> Ints:
        """The place of each row within its group, by `ranked`. int64 [S, T]."""
        found = np.empty_like(order)
        np.put_along_axis(found, order, np.arange(len(order))[:, None] - self._starts[self.of[self._order]][:, None], 0)
        return found

    @property
    def starts(self) -> Ints:
        return self._starts


def _spread(groups: Groups, frame: Frame, count: Ints) -> Floats:
    """Population variance [G, T]; distances are taken from one value of the group first, so that equals give 0."""
    first = groups.reduce(np.fmax, np.where(frame.present, frame.values, np.nan))
    first = np.where(np.isfinite(first), first, 0.0)
    apart = np.where(frame.present, frame.values.astype(np.longdouble) - first[groups.of], 0.0)
    mean = groups.reduce(np.add, apart) / count
    apart = np.where(frame.present, apart - mean[groups.of], 0.0)
    found: Floats = (groups.reduce(np.add, apart * apart) / count).astype(np.float64)
    return found


def _extreme(groups: Groups, frame: Frame, operation: np.ufunc) -> Floats:
    # fmax and fmin pass over NaN as over what is absent
    found: Floats = groups.reduce(operation, np.where(frame.present, frame.values, np.nan))
    return found


def _mean(groups: Groups, count: Ints) -> Floats:
    total, wide = groups.sums()
    return np.where(np.isfinite(total), total / count, (wide / count).astype(np.float64))


SIMPLE: dict[str, Callable[[Groups, Frame, Ints], Floats]] = {
    "sum": lambda groups, frame, count: groups.sums()[0],
    "avg": lambda groups, frame, count: _mean(groups, count),
    "count": lambda groups, frame, count: count.astype(np.float64),
    "group": lambda groups, frame, count: np.ones(count.shape),
    "min": lambda groups, frame, count: _extreme(groups, frame, np.fmin),
    "max": lambda groups, frame, count: _extreme(groups, frame, np.fmax),
    "stdvar": _spread,
    "stddev": lambda groups, frame, count: np.sqrt(_spread(groups, frame, count)),
}


def simple(frame: Frame, node: ast.Aggregate) -> Frame:
    groups = Groups(frame, group_labels(frame.labels, node))
    count = groups.counts()
    return Frame(groups.labels, SIMPLE[node.operator](groups, frame, count), count > 0)


def quantile(frame: Frame, node: ast.Aggregate, q: Floats) -> Frame:
    """Linear between neighbours, NaN counting as the smallest value."""
    groups = Groups(frame, group_labels(frame.labels, node))
    count = groups.counts()
    order = groups.ranked(frame.values)
    ranked = np.take_along_axis(frame.values, order, axis=0)
    blank = groups.reduce(np.add, (frame.present & np.isnan(frame.values)).astype(np.int64))
    rank = np.clip(np.nan_to_num(q), 0.0, 1.0) * (count - 1)
    low = np.clip(np.floor(rank), 0, None).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    weight = rank - low

    def at(place: Ints) -> Floats:
        rows = np.minimum(groups.starts[:, None] + np.maximum(place - blank, 0), len(order) - 1)
        return np.where(place < blank, np.nan, np.take_along_axis(ranked, rows, axis=0))

    # at a rank that is one value's own there is nothing to interpolate: 0 times infinity is NaN
    found = np.where(weight == 0, at(low), at(low) * (1 - weight) + at(high) * weight)
    found = np.where(np.isnan(q), np.nan, np.where(q < 0, -np.inf, np.where(q > 1, np.inf, found)))
    return Frame(groups.labels, found, count > 0)


def ranks(frame: Frame, node: ast.Aggregate, k: Floats) -> Frame:
    """`topk` and `bottomk`: the series themselves, at the steps where they are among the first k of their group.

    At a single step they come in order of rank, group by group.
    """
    wanted = _whole(k)
    if not frame.labels:
        return frame
    groups = Groups(frame, group_labels(frame.labels, node))
    sign = -1.0 if node.operator == "topk" else 1.0
    order = groups.ranked(sign * frame.values)
    found = Frame(frame.labels, frame.values, frame.present & (groups.places(order) < wanted))
    return found.rows(order[:, 0]) if order.shape[1] == 1 else found


def limited(frame: Frame, node: ast.Aggregate, k: Floats) -> Frame:
    """`limitk`: the first k series of each group that are there."""
    wanted = _whole(k)
    if not frame.labels:
        return frame
    groups = Groups(frame, group_labels(frame.labels, node))
    order = groups.ranked(np.zeros(frame.values.shape))
    return Frame(frame.labels, frame.values, frame.present & (groups.places(order) < wanted))


def limited_ratio(frame: Frame, ratio: Floats) -> Frame:
    """`limit_ratio`: a share of the series, chosen by a hash of their labels; r and r - 1 complement each other."""
    where = np.array([hash_of(labels) / float(2**64 - 1) for labels in frame.labels])[:, None]
    chosen = np.where(ratio >= 0, where < ratio, where >= 1.0 + ratio)
    return Frame(frame.labels, frame.values, frame.present & chosen)


def _whole(k: Floats) -> Ints:
    if np.isnan(k).any():
        raise QueryError("Parameter value is NaN")
    if k.max() < 1:  # nothing is wanted, however little
        return np.zeros(k.shape, np.int64)
    for extreme, beyond, word in (
        (k.min(), k.min() <= -(2**63), "underflows"),
        (k.max(), k.max() >= 2**63, "overflows"),
    ):
        if beyond:
            raise QueryError(f"Scalar value {general(float(extreme))} {word} int64")
    return np.trunc(k).astype(np.int64)


def count_values(frame: Frame, node: ast.Aggregate, label: str, meter: Meter) -> Frame:
    """One series per group and distinct value, the value as text in a label."""
    with_label((), label, "x")
    if not frame.present.any():
        return Frame([], frame.values[:0], frame.present[:0])
    # by bits: -0 is a text of its own
    distinct, codes = np.unique(frame.values[frame.present].view(np.int64), return_inverse=True)
    texts = [number(value) for value in distinct.view(np.float64).tolist()]
    rows, steps = np.nonzero(frame.present)
    keys = group_labels(frame.labels, node)
    hidden = node.without and label in (NAME, *node.labels)  # the values' label is left out like any other
    cells: dict[Labels, int] = {}
    named: dict[tuple[int, int], int] = {}
    for row, code in np.unique(np.stack([rows, codes.ravel()]), axis=1).T.tolist():
        labels = keys[row] if hidden else with_label(keys[row], label, texts[code])
        named[row, code] = cells.setdefault(labels, len(cells))
    where = np.array([named[pair] for pair in zip(rows.tolist(), codes.ravel().tolist(), strict=True)])
    meter.room(len(cells) * frame.values.shape[1])
    found = np.zeros((len(cells), frame.values.shape[1]))
    np.add.at(found, (where, steps), 1.0)
    return settled(list(cells), found, found > 0)
