"""MetricsQL functions over all steps of a result: `range_*` (one number for all steps) and `running_*` (up to each)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kymograph.promql.frame import Frame
from kymograph.promql.index import Ints
from kymograph.promql.labels import Bools
from kymograph.promql.overtime import quantile, variance
from kymograph.promql.source import Floats


def _held(present: Bools, *, ahead: bool = False) -> Ints:
    """For each cell the nearest present step at or before it (`ahead`: at or after), -1 where there is none."""
    size = present.shape[1]
    if ahead:
        found = _held(present[:, ::-1])[:, ::-1]
        return np.where(found < 0, -1, size - 1 - found)
    nearest: Ints = np.maximum.accumulate(np.where(present, np.arange(size), -1), axis=1)
    return nearest


def _taken(frame: Frame, places: Ints) -> Floats:
    found: Floats = np.take_along_axis(frame.values, np.maximum(places, 0), axis=1)
    return found


def _nans(frame: Frame) -> Floats:
    return np.where(frame.present, frame.values, np.nan)


def _count(frame: Frame) -> Any:
    return frame.present.sum(axis=1)


def _quantile(frame: Frame, q: Any) -> Floats:
    # absent cells repeat some value and are masked out
    return quantile(np.where(frame.present, frame.values, 0.0), frame.present, q)


def _variance(frame: Frame) -> Floats:
    first = _taken(frame, _held(frame.present, ahead=True)[:, :1])
    return variance(np.where(frame.present, frame.values, first), frame.present)


def _mad(frame: Frame) -> Floats:
    middle = _quantile(frame, 0.5)[:, None]
    return _quantile(Frame(frame.labels, np.abs(frame.values - middle), frame.present), 0.5)


def _zscore(frame: Frame) -> Floats:
    mean, spread = _RANGE["range_avg"](frame)[:, None], np.sqrt(_variance(frame))[:, None]
    apart = frame.values - mean
    return np.where(apart == 0, 0.0, apart / spread)


def _normalized(frame: Frame) -> Frame:
    """The values as shares of the way from the least to the greatest; nothing where all are the same."""
    low = np.fmin.reduce(_nans(frame), axis=1)[:, None]
    width = np.fmax.reduce(_nans(frame), axis=1)[:, None] - low
    values = np.where(np.isinf(width), frame.values, (frame.values - low) / width)
    return Frame(frame.labels, values, frame.present & (width != 0))


def _spikes(frame: Frame, share: float) -> Bools:
    """Half of the share at either end: what is beyond the quantiles."""
    low, high = (_quantile(frame, q)[:, None] for q in (share / 2, 1 - share / 2))
    return (frame.values < low) | (frame.values > high)


def _outliers(frame: Frame, most: float) -> Bools:
    far: Bools = np.abs(frame.values - _quantile(frame, 0.5)[:, None]) > most * _mad(frame)[:, None]
    return far


# which steps go, by the number given
_TRIM: dict[str, Callable[[Frame, float], Bools]] = {
    "range_trim_outliers": _outliers,
    "range_trim_spikes": _spikes,
    "range_trim_zscore": lambda frame, most: np.abs(_zscore(frame)) > most,
}


def _regression(frame: Frame) -> Floats:
    """The least squares line through the present values, at every step."""
    steps = np.where(frame.present, np.arange(frame.values.shape[1]), 0.0)
    values, count = np.where(frame.present, frame.values, 0.0), _count(frame)
    x, y = steps.sum(axis=1) / count, values.sum(axis=1) / count
    apart = np.where(frame.present, steps - x[:, None], 0.0)
    varied = (apart * apart).sum(axis=1)
    slope = np.where(varied == 0, 0.0, (apart * values).sum(axis=1) / varied)
    found: Floats = y[:, None] + slope[:, None] * (np.arange(frame.values.shape[1]) - x[:, None])
    return found


_RANGE: dict[str, Callable[[Frame], Any]] = {
    "range_avg": lambda f: np.where(f.present, f.values, 0.0).sum(axis=1) / _count(f),
    "range_sum": lambda f: np.where(f.present, f.values, 0.0).sum(axis=1),
    "range_min": lambda f: np.fmin.reduce(_nans(f), axis=1),
    "range_max": lambda f: np.fmax.reduce(_nans(f), axis=1),
    "range_first": lambda f: _taken(f, _held(f.present, ahead=True)[:, :1])[:, 0],
    "range_last": lambda f: _taken(f, _held(f.present)[:, -1:])[:, 0],
    "range_median": lambda f: _quantile(f, 0.5),
    "range_stddev": lambda f: np.sqrt(_variance(f)),
    "range_stdvar": _variance,
    "range_mad": _mad,
}


def _running_count(frame: Frame) -> Any:
    return np.cumsum(frame.present, axis=1)


def _without_resets(frame: Frame) -> Floats:
    """The counter with what it lost at each reset added from there on."""
    held = _taken(frame, _held(frame.present))
    lost = np.zeros(held.shape)
    lost[:, 1:] = np.where((held[:, 1:] < held[:, :-1]) & (_held(frame.present)[:, :-1] >= 0), held[:, :-1], 0.0)
    found: Floats = frame.values + np.cumsum(lost, axis=1)
    return found


_RUNNING: dict[str, Callable[[Frame], Any]] = {
    "running_sum": lambda f: np.cumsum(np.where(f.present, f.values, 0.0), axis=1),
    "running_avg": lambda f: np.cumsum(np.where(f.present, f.values, 0.0), axis=1) / _running_count(f),
    "running_min": lambda f: np.fmin.accumulate(_nans(f), axis=1),
    "running_max": lambda f: np.fmax.accumulate(_nans(f), axis=1),
}


def _interpolated(frame: Frame) -> Frame:
    before, after = _held(frame.present), _held(frame.present, ahead=True)
    low, high = _taken(frame, before), _taken(frame, after)
    share = (np.arange(frame.values.shape[1]) - before) / np.maximum(after - before, 1)
    values = np.where(frame.present, frame.values, low + (high - low) * share)
    return Frame(frame.labels, values, (before >= 0) & (after >= 0))


def over_range(name: str, frame: Frame, number: Floats | None = None) -> Frame:
    """Evaluate one of these functions; `number` is what some take first, the same at all steps. Names of metrics stay."""
    frame = frame.pruned()
    if not frame.labels:
        return frame
    first = float(number[0]) if number is not None else 0.0
    if name in _TRIM:
        return Frame(frame.labels, frame.values, frame.present & ~_TRIM[name](frame, first)).pruned()
    if name == "range_normalize":
        return _normalized(frame).pruned()
    if name == "range_quantile" or name in _RANGE:
        values = _quantile(frame, first) if name == "range_quantile" else _RANGE[name](frame)
        return Frame(frame.labels, np.repeat(values[:, None], frame.values.shape[1], axis=1), frame.present | True)
    if name == "range_zscore":
        return Frame(frame.labels, _zscore(frame), frame.present)
    if name == "range_linear_regression":
        return Frame(frame.labels, _regression(frame), frame.present | True)
    if name == "interpolate":
        return _interpolated(frame)
    if name in ("keep_last_value", "keep_next_value"):
        held = _held(frame.present, ahead=name == "keep_next_value")
        return Frame(frame.labels, _taken(frame, held), held >= 0)
    if name == "remove_resets":
        return Frame(frame.labels, _without_resets(frame), frame.present)
    return Frame(frame.labels, _RUNNING[name](frame), _held(frame.present) >= 0)
