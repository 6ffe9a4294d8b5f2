"""Summaries of samples: one row per series and bucket, from which every coarser bucket follows without its samples.

The statistics of a bucket are made from its samples in order of time. Two summaries of one series that follow each other
in time become one (`joined`), and so do summaries of different series (`combined`). Where float64 allows it the result
is that of all samples at once: counts, minima, maxima, first and last to the bit; sums to a few units in the last place,
because they are added in long double and rounded once per bucket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Columns = dict[str, Any]

# Name and type of every statistic, in the order of the columns of a stored summary. Times are µs. `m2` is the sum of
# squared deviations from the mean. `increase` is last - first plus what was lost at every reset in between. The
# integrals are value × seconds until the next sample, of values above and below zero, from the first sample to the last.
STATISTICS: dict[str, str] = {
    "count": "int64",
    "sum": "float64",
    "min": "float64",
    "max": "float64",
    "first": "float64",
    "last": "float64",
    "first_time": "int64",
    "last_time": "int64",
    "m2": "float64",
    "positive": "float64",
    "negative": "float64",
    "increase": "float64",
    "integral_positive": "float64",
    "integral_negative": "float64",
}


@dataclass(frozen=True)
class Summaries:
    """N summaries, sorted by series, then by time.

    Attributes:
        series: int64 number of the series (or group) of each.
        bucket: int64 µs that names the bucket of each.
        columns: by the names of `STATISTICS`, N values each. Minima and maxima are NaN only where every value is;
            sums are NaN where any is.
    """

    series: Ints
    bucket: Ints
    columns: Columns

    def __len__(self) -> int:
        return len(self.series)

    def __getitem__(self, name: str) -> Any:
        return self.columns[name]

    def taken(self, places: Any) -> Summaries:
        """The rows at indices, in a slice or where a mask is true."""
        columns = {name: values[places] for name, values in self.columns.items()}
        return Summaries(self.series[places], self.bucket[places], columns)

    def in_order(self) -> Summaries:
        """Sorted by series, bucket and time of the first sample."""
        return self.taken(np.lexsort((self.columns["first_time"], self.bucket, self.series)))

    def of_bucket(self, bucket: Ints) -> Summaries:
        """The same in other, coarser buckets, not yet merged."""
        return Summaries(self.series, bucket, self.columns)


def floor_to(times: Ints, width: int) -> Ints:
    """Start of the bucket [start, start + width) of each time, µs."""
    return times // width * width


def ceil_to(times: Ints, width: int) -> Ints:
    """End of the bucket (end - width, end] of each time, µs."""
    return -(-times // width) * width


def nothing() -> Summaries:
    blank = np.zeros(0, np.int64)
    return Summaries(blank, blank, {name: np.zeros(0, kind) for name, kind in STATISTICS.items()})


def stacked(parts: Sequence[Summaries], names: Sequence[str] = tuple(STATISTICS)) -> Summaries:
    """All rows of several as they come, one after the other, with the columns named: in no order."""
    if not parts:
        return nothing()
    columns = {name: np.concatenate([part[name] for part in parts]) for name in names}
    series, bucket = (np.concatenate(column) for column in zip(*((p.series, p.bucket) for p in parts), strict=True))
    return Summaries(series, bucket, columns)


def together(parts: Sequence[Summaries], names: Sequence[str] = tuple(STATISTICS)) -> Summaries:
    """All rows of several, in order, with the columns named. Nothing is merged."""
    if not parts:
        return nothing()
    series, bucket, first = (
        np.concatenate(column)
        for column in zip(*((part.series, part.bucket, part["first_time"]) for part in parts), strict=True)
    )
    after = series[1:] > series[:-1]
    if bool((after | ((series[1:] == series[:-1]) & (first[1:] > first[:-1]))).all()):
        order: Any = slice(None)
    else:
        order = np.lexsort((first, bucket, series))
    columns = {name: np.concatenate([part[name] for part in parts])[order] for name in names}
    return Summaries(series[order], bucket[order], columns)


def samples(series: Ints, times: Ints, values: Floats) -> Summaries:
    """Each sample as the summary of itself; its bucket is its time."""
    none = np.zeros(len(values))
    columns = {
        "count": np.ones(len(values), np.int64),
        **dict.fromkeys(("sum", "min", "max", "first", "last"), values),
        "first_time": times,
        "last_time": times,
        "m2": np.where(np.isfinite(values), 0.0, np.nan),
        "positive": np.maximum(values, 0.0),
        "negative": np.minimum(values, 0.0),
        **dict.fromkeys(("increase", "integral_positive", "integral_negative"), none),
    }
    return Summaries(series, times, columns)


def summarised(series: Ints, bucket: Ints, times: Ints, values: Floats) -> Summaries:
    """One summary per series and bucket.

    Args:
        series, bucket, times: int64 [N], sorted by series and time; times of one series are all different.
        values: float64 [N], without staleness markers.
    """
    if not len(times):
        return nothing()
    runs = _Runs(series, bucket)
    with np.errstate(all="ignore"):
        first, last = values[runs.starts], values[runs.ends]
        total = runs.sum(values)
        apart = values - runs.spread(first)
        apart -= runs.spread(runs.sum(apart) / runs.counts)
        before = np.roll(values, 1)
        lost = np.where(runs.inner & (values < before), before, 0.0)
        seconds = np.zeros(len(times))
        seconds[:-1] = np.where(runs.inner[1:], np.diff(times) / 1e6, 0.0)
        columns = {
            "count": runs.counts,
            "sum": total,
            "min": np.fmin.reduceat(values, runs.starts),
            "max": np.fmax.reduceat(values, runs.starts),
            "first": first,
            "last": last,
            "first_time": times[runs.starts],
            "last_time": times[runs.ends],
            "m2": runs.sum(apart * apart),
            "positive": runs.sum(np.maximum(values, 0.0)),
            "negative": runs.sum(np.minimum(values, 0.0)),
            "increase": (last - first) + runs.sum(lost),
            "integral_positive": runs.sum(area(np.maximum(values, 0.0), seconds)),
            "integral_negative": runs.sum(area(np.minimum(values, 0.0), seconds)),
        }
    return Summaries(series[runs.starts], bucket[runs.starts], columns)


def joined(parts: Summaries) -> Summaries:
    """One summary per series and bucket from pieces that follow each other in time, sorted so."""
    if not len(parts):
        return parts
    runs = _Runs(parts.series, parts.bucket)
    if len(runs.starts) == len(parts):
        return parts
    with np.errstate(all="ignore"):
        between = _between(parts, runs.inner)
        columns = _pooled(parts, runs)
        columns |= {
            "first": parts["first"][runs.starts],
            "last": parts["last"][runs.ends],
            "first_time": parts["first_time"][runs.starts],
            "last_time": parts["last_time"][runs.ends],
        }
        columns["increase"] = (columns["last"] - columns["first"]) + runs.sum(lost_inside(parts) + between["lost"])
        for name in ("integral_positive", "integral_negative"):
            columns[name] = runs.sum(parts[name] + between[name])
    return Summaries(parts.series[runs.starts], parts.bucket[runs.starts], _ordered(columns))


def combined(parts: Summaries) -> Summaries:
    """One summary per group and bucket of different series, whose samples lie between each other.

    Counts, sums, extremes and spread are those of all samples; first and last those of the series that has them, by
    time; increases and integrals add up.
    """
    if not len(parts):
        return parts
    runs = _Runs(parts.series, parts.bucket)
    with np.errstate(all="ignore"):
        columns = _pooled(parts, runs)
        newest = np.lexsort((parts["last_time"], parts.bucket, parts.series))[runs.ends]
        columns |= {
            "first": parts["first"][runs.starts],
            "last": parts["last"][newest],
            "first_time": parts["first_time"][runs.starts],
            "last_time": parts["last_time"][newest],
        }
        for name in ("increase", "integral_positive", "integral_negative"):
            columns[name] = runs.sum(parts[name])
    return Summaries(parts.series[runs.starts], parts.bucket[runs.starts], _ordered(columns))


def blended(parts: Summaries) -> Summaries:
    """One summary per series and bucket from pieces that may lie between each other: late samples and what they join.

    As `combined`, but of one series: where the pieces overlap, its increase and integrals are those of the largest piece,
    carried on to the new first and last sample, which is exact for a counter and an estimate for integrals.
    """
    if not len(parts):
        return parts
    runs = _Runs(parts.series, parts.bucket)
    follows = np.ones(len(parts), np.bool_)
    follows[1:] = ~runs.inner[1:] | (parts["first_time"][1:] > parts["last_time"][:-1])
    apart = np.logical_and.reduceat(follows, runs.starts)
    found, mixed = joined(parts), combined(parts)
    largest = np.lexsort((parts["count"], parts.bucket, parts.series))[runs.ends]
    base = parts.taken(largest)
    columns = dict(mixed.columns)
    with np.errstate(all="ignore"):
        columns["increase"] = (mixed["last"] - mixed["first"]) + lost_inside(base)
        for sign, keep in (("positive", np.maximum), ("negative", np.minimum)):
            name = f"integral_{sign}"
            before = (base["first_time"] - mixed["first_time"]) / 1e6
            after = (mixed["last_time"] - base["last_time"]) / 1e6
            columns[name] = base[name] + area(keep(mixed["first"], 0.0), before) + area(keep(base["last"], 0.0), after)
    columns = {name: np.where(apart, found[name], columns[name]) for name in STATISTICS}
    return Summaries(mixed.series, mixed.bucket, columns)


def means(columns: Columns | Summaries) -> Floats:
    """Mean of each summary, never outside of its extremes, so that equal values have exactly their mean."""
    mean = columns["sum"] / columns["count"]
    found: Floats = np.where(np.isnan(mean), mean, np.fmin(np.fmax(mean, columns["min"]), columns["max"]))
    return found


def lost_inside(parts: Summaries) -> Floats:
    """What a counter lost at the resets inside each summary; exactly 0 where there was none."""
    lost = parts["increase"] - (parts["last"] - parts["first"])
    return np.where(np.isnan(lost), 0.0, lost)


def area(values: Floats, seconds: Floats) -> Floats:
    """value × seconds, 0 for no time even where the value is infinite."""
    return np.where(seconds == 0, 0.0, values * seconds)


def _between(parts: Summaries, inner: Any) -> Columns:
    """From the last sample of each piece's predecessor in its run to its own first one."""
    before = np.roll(parts["last"], 1)
    seconds = np.where(inner, (parts["first_time"] - np.roll(parts["last_time"], 1)) / 1e6, 0.0)
    return {
        "lost": np.where(inner & (parts["first"] < before), before, 0.0),
        "integral_positive": area(np.maximum(before, 0.0), seconds),
        "integral_negative": area(np.minimum(before, 0.0), seconds),
    }


def _pooled(parts: Summaries, runs: _Runs) -> Columns:
    """What does not depend on the order of the samples. Spread by Chan, Golub and LeVeque's formula."""
    count = np.add.reduceat(parts["count"], runs.starts)
    apart = means(parts)
    apart = apart - runs.spread(apart[runs.starts])
    apart = apart - runs.spread(runs.sum(parts["count"] * apart) / count)
    return {
        "count": count,
        "sum": runs.sum(parts["sum"]),
        "min": np.fmin.reduceat(parts["min"], runs.starts),
        "max": np.fmax.reduceat(parts["max"], runs.starts),
        "m2": runs.sum(parts["m2"]) + runs.sum(parts["count"] * apart * apart),
        "positive": runs.sum(parts["positive"]),
        "negative": runs.sum(parts["negative"]),
    }


def _ordered(columns: Columns) -> Columns:
    return {name: columns[name] for name in STATISTICS}


class _Runs:
    """Rows of one (series, bucket) that lie one after the other.

    Attributes:
        starts, ends: index of the first and of the last row of each run.
        counts: rows of each run.
        inner: per row, whether the row before belongs to the same run.
    """

    def __init__(self, series: Ints, bucket: Ints) -> None:
        self.inner = np.zeros(len(series), np.bool_)
        self.inner[1:] = (series[1:] == series[:-1]) & (bucket[1:] == bucket[:-1])
        self.starts = np.flatnonzero(~self.inner)
        self.ends = np.append(self.starts[1:], len(series)) - 1
        self.counts = self.ends - self.starts + 1

    def sum(self, values: Any) -> Floats:
        found: Floats = np.add.reduceat(values.astype(np.longdouble), self.starts).astype(np.float64)
        return found

    def spread(self, values: Any) -> Any:
        return np.repeat(values, self.counts)
