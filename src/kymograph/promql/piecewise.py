"""The functions over windows that summaries can answer; everything else needs samples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kymograph.model.summary import area, lost_inside, means
from kymograph.promql.piece_windows import PieceWindows
from kymograph.promql.rates import Answer, reach
from kymograph.promql.source import Floats


def _steps(windows: PieceWindows) -> dict[str, Floats]:
    """What lies between each piece and the one before it in its series."""
    rows = windows.rows
    before = np.roll(rows["last"], 1)
    seconds = np.zeros(len(rows))
    seconds[1:] = (rows["first_time"][1:] - rows["last_time"][:-1]) / 1e6
    return {
        "lost": np.where(rows["first"] < before, before, 0.0),
        "positive": area(np.maximum(before, 0.0), seconds),
        "negative": area(np.minimum(before, 0.0), seconds),
    }


def _gain(windows: PieceWindows, *, counter: bool) -> Floats:
    """Last less first; of a counter with what was lost at resets added."""
    gain = windows.last_edge[0] - windows.first_edge[0]
    if not counter:
        return gain
    inside, between = lost_inside(windows.rows), _steps(windows)["lost"]
    return gain + windows.total(inside) + windows.between(between)


def _extrapolated(windows: PieceWindows, *, counter: bool, per_second: bool) -> Answer:
    first, start = windows.first_edge
    last = windows.last_edge[1]
    gain = _gain(windows, counter=counter)
    found = reach(windows, gain, first, (start, last), windows.weight, counter=counter, per_second=per_second)
    return found, (windows.weight >= 2) & (last > start)


def _integral(windows: PieceWindows, signs: tuple[str, ...]) -> Answer:
    """Each value times the seconds until the next one, the first from the window's start, the last until its end."""
    between = _steps(windows)
    found = np.zeros(windows.lo.shape)
    value, time = windows.last_edge
    rest = np.where(windows.present & (windows.right < 0), (windows.ends - time) / 1e6, 0.0)
    begin = np.where(windows.present, windows.first_edge[1], windows.ends)
    ahead = np.where(windows.before >= 0, (begin - windows.starts) / 1e6, 0.0)
    standing = windows.at(windows.rows["last"], windows.before)
    for sign in signs:
        keep = np.maximum if sign == "positive" else np.minimum
        found = found + windows.total(windows.rows[f"integral_{sign}"]) + windows.between(between[sign])
        found = found + area(keep(value, 0.0), rest) + area(keep(standing, 0.0), ahead)
    return found, windows.present | (windows.before >= 0)


def _pure(windows: PieceWindows) -> Answer:
    """A counter's gain since the sample before the window, or since 0 where there is none."""
    first, stands = windows.first_edge[0], windows.before >= 0
    begun = first - windows.at(windows.rows["last"], windows.before) + windows.at(_steps(windows)["lost"], windows.lo)
    gain = _gain(windows, counter=True) + np.where(stands, begun, np.where(windows.left >= 0, 0.0, first))
    return np.where(windows.present, gain, 0.0), windows.present | stands


def _variance(windows: PieceWindows) -> Floats:
    """Population variance: spread inside the pieces and spread of their means, by Chan, Golub and LeVeque's formula."""
    rows, mean = windows.rows, means(windows.rows)
    left, right = windows.left >= 0, windows.right >= 0
    frame = windows.spanning(np.where(left, windows.left, windows.lo), np.where(right, windows.right + 1, windows.hi))
    parts = _shared(windows)
    found = np.zeros(windows.lo.size)
    for part, places, inside in frame.padded():
        weight = np.where(inside, rows["count"][places], 0.0)
        middle, spread = mean[places], np.where(inside, rows["m2"][places], 0.0)
        for cut, (counts, centres, squares), column in (
            (left, parts[0], np.zeros(len(part), np.int64)),
            (right, parts[1], inside.sum(axis=1) - 1),
        ):
            at = np.flatnonzero(cut.ravel()[part])
            for target, values in ((weight, counts), (middle, centres), (spread, squares)):
                target[at, column[at]] = values.ravel()[part][at]
        apart = np.where(inside, middle - middle[:, :1], 0.0)
        total = weight.sum(axis=1)
        apart -= ((weight * apart).sum(axis=1) / total)[:, None]
        found[part] = (spread + weight * apart * apart).sum(axis=1) / total
    return found.reshape(windows.lo.shape)


def _shared(windows: PieceWindows) -> list[tuple[Floats, Floats, Floats]]:
    """Count, mean and m2 of what windows have of the pieces that they cut at their start and at their end."""
    rows, mean = windows.rows, means(windows.rows)
    count = rows["count"].astype(np.float64)
    rest = np.maximum(count - 1, 1)
    others = mean + (mean - rows["first"]) / rest
    spread = np.maximum(rows["m2"] - (rows["first"] - mean) ** 2 * count / rest, 0.0)
    found = []
    for places, share, own in ((windows.left, windows.shares[0], 0.0), (windows.right, windows.shares[1], 1.0)):
        more = windows.at(rest, places) * share
        first, middle = windows.at(rows["first"], places), windows.at(others, places)
        weight = own + more
        centre = np.where(more > 0, first + (middle - first) * more / np.maximum(weight, 1e-300), first)
        squares = windows.at(spread, places) * share + own * more / np.maximum(weight, 1e-300) * (middle - first) ** 2
        found.append((weight, centre, np.where(more > 0, squares, 0.0)))
    return found


def _sum(windows: PieceWindows) -> Floats:
    return windows.total(windows.rows["sum"], windows.rows["first"])


def _squares(windows: PieceWindows) -> Floats:
    rows = windows.rows
    return windows.total(rows["m2"] + rows["sum"] * rows["sum"] / rows["count"], rows["first"] * rows["first"])


def _signed(windows: PieceWindows, name: str, keep: np.ufunc) -> Answer:
    return windows.total(windows.rows[name], keep(windows.rows["first"], 0.0)), windows.present


PIECEWISE: dict[str, Callable[[PieceWindows], Answer]] = {
    "sum_over_time": lambda w: (_sum(w), w.present),
    "sum_positive_over_time": lambda w: _signed(w, "positive", np.maximum),
    "sum_negative_over_time": lambda w: _signed(w, "negative", np.minimum),
    "avg_over_time": lambda w: (_sum(w) / w.weight, w.present & (w.weight > 0)),
    "count_over_time": lambda w: (w.weight, w.present & (w.weight > 0)),
    "min_over_time": lambda w: (w.extreme(np.fmin, "min"), w.present),
    "max_over_time": lambda w: (w.extreme(np.fmax, "max"), w.present),
    "range_over_time": lambda w: (w.extreme(np.fmax, "max") - w.extreme(np.fmin, "min"), w.present),
    "first_over_time": lambda w: (w.first_edge[0], w.present),
    "last_over_time": lambda w: (w.last_edge[0], w.present),
    "tfirst_over_time": lambda w: (w.first_edge[1] / 1e6, w.present),
    "tlast_over_time": lambda w: (w.last_edge[1] / 1e6, w.present),
    "ts_of_first_over_time": lambda w: (w.first_edge[1] / 1e6, w.present),
    "ts_of_last_over_time": lambda w: (w.last_edge[1] / 1e6, w.present),
    "present_over_time": lambda w: (np.ones(w.lo.shape), w.present),
    "absent_over_time": lambda w: (np.ones(w.lo.shape), ~w.present),
    "stdvar_over_time": lambda w: (_variance(w), w.present),
    "stddev_over_time": lambda w: (np.sqrt(_variance(w)), w.present),
    "sum2_over_time": lambda w: (_squares(w), w.present),
    "rate_over_sum": lambda w: (_sum(w) / (w.width / 1e6), w.present),
    "lifetime": lambda w: ((w.last_edge[1] - w.first_edge[1]) / 1e6, w.present),
    "lag": lambda w: ((w.ends - w.last_edge[1]) / 1e6, w.present),
    "scrape_interval": lambda w: ((w.last_edge[1] - w.first_edge[1]) / 1e6 / (w.weight - 1), w.weight >= 2),
    "integrate": lambda w: _integral(w, ("positive", "negative")),
    "integrate_positive": lambda w: _integral(w, ("positive",)),
    "integrate_negative": lambda w: _integral(w, ("negative",)),
    "rate": lambda w: _extrapolated(w, counter=True, per_second=True),
    "increase": lambda w: _extrapolated(w, counter=True, per_second=False),
    "delta": lambda w: _extrapolated(w, counter=False, per_second=False),
    "increase_pure": _pure,
}
