"""Quantiles and fractions of classic histograms: series that differ in the label `le` and count cumulatively.

The formulas are Prometheus': linear within a bucket, the lowest bucket starting at 0 when its bound is positive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kymograph.promql.frame import Frame, settled
from kymograph.promql.index import Ints
from kymograph.promql.labels import Labels, dropped, unnamed
from kymograph.promql.source import Floats

_TOLERANCE = 1e-12  # relative difference below which a count that falls is taken for rounding
_LE = frozenset(("le",))
Reckon = Callable[[Floats, Floats, Any], Floats]


@dataclass(frozen=True)
class Forced:
    """Counts of one histogram that fell from bucket to bucket: lowest and highest bound, largest fall, at which steps."""

    lowest: float
    highest: float
    gap: float
    steps: Any


def bound_of(text: str) -> float | None:
    """An upper bound as Go's ParseFloat reads it, or None; NaN bounds nothing."""
    if text.strip() != text or "_" in text:
        return None
    try:
        bound = float(text)
    except ValueError:
        return None
    return None if np.isnan(bound) else bound


def reckoned(
    frame: Frame,
    reckon: Reckon,
    bad: Callable[[Labels, str], None],
    forced: Callable[[Forced], None],
    keep_names: bool = False,
) -> Frame:
    """Apply a function of (bounds [B], counts [B, T'], steps [T']) to each histogram of a frame.

    `bad` is told of a series and what it has in place of a usable `le`, `forced` of counts that had to be made monotonic.
    """
    groups: dict[Labels, list[tuple[float, int]]] = {}
    for row, labels in enumerate(frame.labels):
        text = dict(labels).get("le", "")
        bound = bound_of(text)
        if bound is None:
            if frame.present[row].any():
                bad(labels, text)
            continue
        groups.setdefault(dropped(labels, _LE), []).append((bound, row))
    count = frame.values.shape[1]
    values, present = np.full((len(groups), count), np.nan), np.zeros((len(groups), count), np.bool_)
    for place, buckets in enumerate(groups.values()):
        buckets.sort()
        rows = np.array([row for _, row in buckets])
        bounds = np.array([bound for bound, _ in buckets])
        for there, steps in _patterns(frame.present[rows]):
            present[place, steps] = True
            uppers, counts = _merged(bounds[there], frame.values[rows[there]][:, steps])
            if np.isposinf(uppers[-1]):
                fixed = _monotonic(uppers, counts)
                if fixed is not None:
                    forced(replace(fixed, steps=steps[fixed.steps]))
                values[place, steps] = reckon(uppers, counts, steps)
    names = list(groups) if keep_names else [unnamed(labels) for labels in groups]
    return settled(names, values, present)


def _patterns(present: Any) -> Iterator[tuple[Any, Any]]:
    """Which buckets are there, and the steps at which it is exactly these."""
    if present.all():
        yield slice(None), np.arange(present.shape[1])
        return
    kinds, which = np.unique(present, axis=1, return_inverse=True)
    for number in range(kinds.shape[1]):
        if kinds[:, number].any():
            yield np.flatnonzero(kinds[:, number]), np.flatnonzero(which.ravel() == number)


def _merged(bounds: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Buckets of the same bound added up; a copy."""
    firsts = np.flatnonzero(np.append(True, bounds[1:] != bounds[:-1]))
    return bounds[firsts], np.add.reduceat(counts, firsts, axis=0)


def _monotonic(bounds: Floats, counts: Floats) -> Forced | None:
    """Make cumulative counts [B, T] never fall, in place; what fell by more than rounding, if anything did."""
    found: Forced | None = None
    before = counts[0]
    for row in range(1, len(counts)):
        now = counts[row]
        near = np.abs(now - before) < _TOLERANCE * (np.abs(now) + np.abs(before))
        fell = (now < before) & ~near
        if fell.any():
            gap = float((before - now)[fell].max())
            found = Forced(
                found.lowest if found else float(bounds[row]),
                float(bounds[row]),
                max(gap, found.gap) if found else gap,
                np.union1d(np.flatnonzero(fell), found.steps) if found else np.flatnonzero(fell),
            )
        counts[row] = before = np.where(near | fell, before, now)
    return found


def quantile(bounds: Floats, counts: Floats, q: Floats) -> Floats:
    """The q-quantile [T] of cumulative counts [B, T] with ascending upper bounds, the last +Inf."""
    size, steps = len(bounds), np.arange(counts.shape[1])
    total = counts[-1]
    rank = q * total
    if size < 2:
        found = np.full(len(steps), np.nan)
    else:
        place = _first(counts[:-1], rank)
        inner = np.minimum(place, size - 2)
        below = np.where(inner > 0, counts[np.maximum(inner - 1, 0), steps], 0.0)
        start = np.where(inner > 0, bounds[np.maximum(inner - 1, 0)], 0.0)
        end = bounds[inner]
        found = start + (end - start) * ((rank - below) / (counts[inner, steps] - below))
        found = np.where((inner == 0) & (end <= 0), end, found)
        found = np.where(place == size - 1, bounds[-2], found)
        found = np.where(total == 0, np.nan, found)
    found = np.where(np.isnan(q), np.nan, np.where(q < 0, -np.inf, np.where(q > 1, np.inf, found)))
    return np.asarray(found, np.float64)


def _first(counts: Floats, least: Floats) -> Ints:
    """The first row [T] of counts [B, T] that is at least so much, B where none is; by halves, for NaN has no order."""
    steps = np.arange(counts.shape[1])
    low, high = np.zeros(len(steps), np.int64), np.full(len(steps), len(counts))
    for _ in range(len(counts).bit_length()):
        middle = (low + high) // 2
        enough = counts[np.minimum(middle, len(counts) - 1), steps] >= least
        low, high = np.where((low < high) & ~enough, middle + 1, low), np.where(enough, middle, high)
    return low


def fraction(bounds: Floats, counts: Floats, lower: Floats, upper: Floats) -> Floats:
    """The share [T] of observations between two values."""
    total = counts[-1]
    low, high = (np.minimum(_rank(bounds, counts, value), total) for value in (lower, upper))
    found = np.where(lower >= upper, 0.0, (high - low) / total)
    return np.asarray(np.where((total == 0) | np.isnan(lower) | np.isnan(upper), np.nan, found), np.float64)


def _rank(bounds: Floats, counts: Floats, value: Floats) -> Floats:
    """How many observations are at most `value`, linear within a bucket."""
    steps = np.arange(counts.shape[1])
    starts = np.concatenate([[0.0 if bounds[0] > 0 else -np.inf], bounds[:-1]])
    place = np.minimum(np.searchsorted(bounds, value, side="right"), len(bounds) - 1)
    below = np.where(place > 0, counts[np.maximum(place - 1, 0), steps], 0.0)
    start, end = starts[place], bounds[place]
    inside = below + (counts[place, steps] - below) * (value - start) / (end - start)
    inside = np.where(value <= start, below, inside)
    found = np.where(np.isposinf(end) & (value < np.inf), below, inside)
    # a bucket that is open below has no line to follow: whatever lies in it lies below
    found = np.where(np.isneginf(start) & (value > start), counts[place, steps], found)
    return np.asarray(np.where(np.isposinf(value), counts[-1], found), np.float64)
