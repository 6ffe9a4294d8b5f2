"""Function calls: arguments in, and each function's rules about names, labels and annotations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from kymograph.errors import QueryError
from kymograph.promql import ast, buckets, labelling, rates
from kymograph.promql.check import kind_of
from kymograph.promql.cores import each
from kymograph.promql.extended import EXTENDED, EdgeWindows
from kymograph.promql.frame import Frame, single
from kymograph.promql.functions import WINDOWED
from kymograph.promql.instant import CALENDAR, ELEMENTWISE, calendar, rounded
from kymograph.promql.labels import Bools, Labels, name_of, quoted, sort_key
from kymograph.promql.overtime import OVER_TIME, quantiles, rollup_names, rollup_part
from kymograph.promql.piece_windows import PieceWindows
from kymograph.promql.piecewise import PIECEWISE
from kymograph.promql.ranges import over_range
from kymograph.promql.result import general, number
from kymograph.promql.source import Floats
from kymograph.promql.windows import Windows

if TYPE_CHECKING:
    from kymograph.promql.evaluate import Evaluator, Value

_RATES = {
    name: getattr(rates, name)
    for name in ("rate", "increase", "delta", "irate", "idelta", "deriv", "predict_linear", "changes", "resets")
} | {"increase_pure": rates.increase_pure}
_NAMED = frozenset(("last_over_time", "first_over_time"))
_COUNTERS = ("_total", "_sum", "_count", "_bucket")
_NATIVE = frozenset(f"histogram_{what}" for what in ("avg", "count", "sum", "stddev", "stdvar"))


def call(evaluator: Evaluator, node: ast.Call) -> Value:
    """The answer of a function call."""
    name = node.function
    if name in WINDOWED:
        return _windowed(evaluator, node)
    if name in _SCALARS:
        return _scalar(evaluator, node)
    if name in ELEMENTWISE:
        frame = evaluator.vector(node.arguments[0])
        return _named(node, Frame(frame.labels, ELEMENTWISE[name](frame.values), frame.present))
    if name in CALENDAR:
        frame = evaluator.vector(node.arguments[0]) if node.arguments else single(_now(evaluator))
        return _named(node, Frame(frame.labels, calendar(name, frame.values), frame.present))
    if name in _OTHERS:
        return _OTHERS[name](evaluator, node)
    if name in _NATIVE:
        frame = evaluator.vector(node.arguments[0])
        return Frame(frame.labels, frame.values, frame.present & False).pruned()
    number_first = evaluator.scalar(node.arguments[0]) if len(node.arguments) > 1 else None
    return over_range(name, evaluator.vector(node.arguments[-1]), number_first)


def _named(node: ast.Call, frame: Frame) -> Frame:
    return frame if node.keep_names else frame.unnamed()


def _now(evaluator: Evaluator) -> Floats:
    return evaluator.grid.times / 1e6


_SCALARS = frozenset(("pi", "time", "start", "end", "step", "range", "now", "scalar", "max_of", "min_of"))


def _scalar(evaluator: Evaluator, node: ast.Call) -> Floats:
    grid = evaluator.grid
    if node.function == "scalar":
        frame = evaluator.vector(node.arguments[0])
        one = frame.present.sum(axis=0) == 1
        found: Floats = np.where(one, np.where(frame.present, frame.values, 0.0).sum(axis=0), np.nan)
        return found
    if node.function in ("time", "now"):
        return _now(evaluator)
    if node.function in ("max_of", "min_of"):
        pick = np.maximum if node.function == "max_of" else np.minimum
        either: Floats = pick(evaluator.scalar(node.arguments[0]), evaluator.scalar(node.arguments[1]))
        return either
    start, end = evaluator.bounds
    constants = {"pi": np.pi, "start": start / 1e6, "end": end / 1e6, "range": (end - start) / 1e6}
    constants["step"] = grid.step / 1e6
    return np.full(grid.count, constants[node.function])


def _windowed(evaluator: Evaluator, node: ast.Call) -> Frame:
    name = node.function
    place = next(i for i, one in enumerate(node.arguments) if kind_of(one) in ("matrix", "vector"))
    windows = evaluator.windows(node.arguments[place], name)
    evaluator.meter.room(len(windows.labels) * windows.grid.count)
    if name == "absent_over_time":
        there = windows.present if isinstance(windows, PieceWindows) else windows.count > 0
        some: Bools = np.asarray(there.any(axis=0))
        labels = labelling.absent_labels(node.arguments[place])
        return Frame([labels], np.ones((1, len(some))), ~some[None, :]).pruned()
    if not windows.labels:
        return Frame([], np.zeros((0, evaluator.grid.count)), np.zeros((0, evaluator.grid.count), np.bool_))
    if name == "quantiles_over_time":
        return _quantiles(evaluator, node, windows)
    if name.startswith("rollup"):
        return _rollup(evaluator, node, windows)
    scalars = [evaluator.scalar(one) for i, one in enumerate(node.arguments) if i != place]
    if name in ("double_exponential_smoothing", "holt_winters"):
        frame = _smoothed(evaluator, node, windows, scalars)
    elif name == "quantile_over_time":
        frame = blocks(evaluator, windows, lambda block: quantiles(block, scalars[0]))
        evaluator.warn_quantile(scalars[0][frame.present.any(axis=0)], node.arguments[0])
    else:
        function: Callable[..., rates.Answer] = _RATES.get(name) or OVER_TIME[name]
        if isinstance(windows, PieceWindows):
            function = PIECEWISE[name]
        elif isinstance(windows, EdgeWindows):
            function = EXTENDED[windows.edge][name]
        frame = blocks(evaluator, windows, lambda block: function(block, *scalars))
    if name == "integral" and scalars:
        _doubt_strategy(evaluator, node, scalars[0][frame.present.any(axis=0)])
    if name in ("rate", "increase"):
        _doubt_counters(evaluator, node, frame)
    return frame if name in _NAMED or node.keep_names else frame.unnamed()


def blocks(evaluator: Evaluator, windows: Windows, function: Callable[..., rates.Answer]) -> Frame:
    """A function of such windows, block by block; series without any result are left out."""
    labels: list[Labels] = []
    values, present = [], []

    def one(block: Windows) -> Frame:
        evaluator.meter.room(0)
        return Frame(block.labels, *function(block)).pruned()

    for found in each(one, windows.blocks()):
        labels += found.labels
        values.append(found.values)
        present.append(found.present)
    if len(values) == 1:
        return Frame(labels, values[0], present[0])
    return Frame(labels, np.concatenate(values), np.concatenate(present))


def _doubt_counters(evaluator: Evaluator, node: ast.Call, frame: Frame) -> None:
    for name in dict.fromkeys(name_of(labels) for labels in frame.labels):
        if name and not name.endswith(_COUNTERS):
            evaluator.notes.inform(
                "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: " + quoted(name),
                # Prometheus says the start of the query where a subquery stands
                "1:1" if isinstance(ast.bare(node.arguments[0]), ast.Subquery) else evaluator.where(node.arguments[0]),
            )


def _doubt_strategy(evaluator: Evaluator, node: ast.Call, strategy: Floats) -> None:
    for value in np.unique(strategy[~np.isin(strategy, (0, 1, 2))]).tolist():
        evaluator.notes.warn(
            f"strategy should be 0, 1, or 2 (default), using 2, got {general(value)}",
            evaluator.where(node.arguments[1]),
        )


def _smoothed(evaluator: Evaluator, node: ast.Call, windows: Windows, scalars: list[Floats]) -> Frame:
    used = (windows.count > 0).any(axis=0)
    for values, word, sign in ((scalars[0], "smoothing", "sf"), (scalars[1], "trend", "tf")):
        for value in values[used & ((values <= 0) | (values >= 1))][:1].tolist():
            shown = number(value) if np.isinf(value) else f"{value:f}"
            raise QueryError(f"invalid {word} factor. Expected: 0 < {sign} < 1, got: {shown}")
    return blocks(evaluator, windows, lambda block: rates.smoothed(block, *scalars))


def _quantiles(evaluator: Evaluator, node: ast.Call, windows: Windows) -> Frame:
    label, *given = node.arguments[:-1]
    parts: dict[str, Frame] = {}
    for one in given:
        q = evaluator.scalar(one)
        # a series has one label at all steps, so it is of the first step's
        q = np.full_like(q, q[0])
        parts[number(float(q[0]))] = blocks(evaluator, windows, partial(quantiles, q=q))
    return labelling.told_apart(parts, evaluator.string(label))


def _rollup(evaluator: Evaluator, node: ast.Call, windows: Windows) -> Frame:
    names = list(rollup_names(node.function))
    if len(node.arguments) > 1:
        what = evaluator.string(node.arguments[1])
        if what not in names:
            raise QueryError(f"{node.function} gives {', '.join(names)}, not {quoted(what)}")
        frame = blocks(evaluator, windows, partial(rollup_part, function=node.function, what=what))
        return frame if node.keep_names else frame.unnamed()
    parts = {
        what: blocks(evaluator, windows, partial(rollup_part, function=node.function, what=what)) for what in names
    }
    return labelling.told_apart(parts, "rollup")


def _timestamp(evaluator: Evaluator, node: ast.Call) -> Frame:
    inner = ast.bare(node.arguments[0])
    if isinstance(inner, ast.Selector):
        frame, times = evaluator.instants(inner)
    else:
        frame = evaluator.vector(inner)
        times = np.broadcast_to(_now(evaluator), frame.values.shape)
    return _named(node, Frame(frame.labels, np.floor(times * 1e3) / 1e3, frame.present))


def _absent(evaluator: Evaluator, node: ast.Call) -> Frame:
    some: Bools = np.asarray(evaluator.vector(node.arguments[0]).present.any(axis=0))
    return Frame([labelling.absent_labels(node.arguments[0])], np.ones((1, len(some))), ~some[None, :]).pruned()


def _largest(left: Floats, right: Floats) -> Floats:
    """As Go has it: infinity wins over NaN."""
    return np.where(np.isposinf(left) | np.isposinf(right), np.inf, np.maximum(left, right))


def _clamp(evaluator: Evaluator, node: ast.Call) -> Frame:
    frame = evaluator.vector(node.arguments[0])
    bounds = [evaluator.scalar(one) for one in node.arguments[1:]]
    low = bounds[0] if node.function != "clamp_max" else np.array([-np.inf])
    high = bounds[-1] if node.function != "clamp_min" else np.array([np.inf])
    values = _largest(low, -_largest(-high, -frame.values))
    return _named(node, Frame(frame.labels, values, frame.present & ~(high < low))).pruned()


def _round(evaluator: Evaluator, node: ast.Call) -> Frame:
    frame = evaluator.vector(node.arguments[0])
    to = evaluator.scalar(node.arguments[1]) if len(node.arguments) > 1 else 1.0
    return _named(node, Frame(frame.labels, rounded(frame.values, to), frame.present))


def _sort(evaluator: Evaluator, node: ast.Call) -> Frame:
    frame = evaluator.vector(node.arguments[0])
    if evaluator.grid.step:
        evaluator.notes.warn(
            "sort is ineffective for range queries since results are always ordered by labels", evaluator.where(node)
        )
        return frame
    descending = node.function.endswith("_desc")
    rows = range(len(frame.labels))
    if node.function.startswith("sort_by_label"):
        names = [evaluator.string(one) for one in node.arguments[1:]]
        pairs = [dict(one) for one in frame.labels]

        def key(row: int) -> object:
            return [labelling.natural(pairs[row].get(name, "")) for name in names], sort_key(frame.labels[row])

        return frame.rows(np.array(sorted(rows, key=key, reverse=descending), np.int64))  # type: ignore[arg-type]
    # NaN goes to the end either way
    order = np.argsort(-frame.values[:, 0] if descending else frame.values[:, 0], kind="stable")
    return frame.rows(order)


def _label_replace(evaluator: Evaluator, node: ast.Call) -> Frame:
    frame = evaluator.vector(node.arguments[0])
    return labelling.replaced(frame, *(evaluator.string(one) for one in node.arguments[1:]))


def _label_join(evaluator: Evaluator, node: ast.Call) -> Frame:
    frame = evaluator.vector(node.arguments[0])
    target, separator, *origins = (evaluator.string(one) for one in node.arguments[1:])
    return labelling.joined(frame, target, separator, origins)


_OTHERS: dict[str, Callable[[Evaluator, ast.Call], Frame]] = {
    "absent": _absent,
    "clamp": _clamp,
    "clamp_max": _clamp,
    "clamp_min": _clamp,
    "histogram_fraction": buckets.fraction,
    "histogram_quantile": buckets.quantile,
    "histogram_quantiles": buckets.quantiles,
    "label_join": _label_join,
    "label_replace": _label_replace,
    "round": _round,
    "sort": _sort,
    "sort_by_label": _sort,
    "sort_by_label_desc": _sort,
    "sort_desc": _sort,
    "timestamp": _timestamp,
    "vector": lambda evaluator, node: single(evaluator.scalar(node.arguments[0])),
}
