"""`histogram_quantile`, `histogram_quantiles` and `histogram_fraction` as calls: parameters and annotations."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from kymograph.model.time import isoformat
from kymograph.promql import ast, histogram
from kymograph.promql.frame import Frame
from kymograph.promql.histogram import Forced
from kymograph.promql.labelling import told_apart
from kymograph.promql.labels import Labels, name_of, quoted
from kymograph.promql.result import number
from kymograph.promql.source import Floats

if TYPE_CHECKING:
    from kymograph.promql.evaluate import Evaluator


def fraction(evaluator: Evaluator, node: ast.Call) -> Frame:
    low, high = evaluator.scalar(node.arguments[0]), evaluator.scalar(node.arguments[1])
    return histogram.reckoned(
        evaluator.vector(node.arguments[2]),
        lambda bounds, counts, steps: histogram.fraction(bounds, counts, low[steps], high[steps]),
        _Told(evaluator, node.arguments[2]).bad,
        lambda _: None,
        node.keep_names,
    ).pruned()


def quantile(evaluator: Evaluator, node: ast.Call) -> Frame:
    q, frame = evaluator.scalar(node.arguments[0]), evaluator.vector(node.arguments[1])
    evaluator.warn_quantile(q, node.arguments[0])
    return _quantile(evaluator, frame, q, node.arguments[1], node.keep_names)


def quantiles(evaluator: Evaluator, node: ast.Call) -> Frame:
    source, label, *given = node.arguments
    frame = evaluator.vector(source)
    parts: dict[str, Frame] = {}
    for one in given:
        q = evaluator.scalar(one)
        evaluator.warn_quantile(q, one)
        found = _quantile(evaluator, frame, q, source, True)
        for value in np.unique(q).tolist():
            text = number(value)
            asked = (q == value) | (np.isnan(q) & np.isnan(value))
            # as OpenMetrics writes floats
            name = f"{text}.0" if text.lstrip("-").isdigit() else text
            parts[name] = Frame(found.labels, found.values, found.present & asked)
    return told_apart(parts, evaluator.string(label)).pruned()


def _quantile(evaluator: Evaluator, frame: Frame, q: Floats, source: ast.Node, keep_names: bool) -> Frame:
    told = _Told(evaluator, source)
    fixed: list[Forced] = []
    found = histogram.reckoned(
        frame,
        lambda bounds, counts, steps: histogram.quantile(bounds, counts, q[steps]),
        told.bad,
        fixed.append,
        keep_names,
    )
    sound = (q >= 0) & (q <= 1)
    # outside of [0, 1] nothing is looked at
    values = np.where(sound, found.values, np.where(q < 0, -np.inf, np.where(q > 1, np.inf, np.nan)))
    told.forced([replace(one, steps=one.steps[sound[one.steps]]) for one in fixed if sound[one.steps].any()])
    return Frame(found.labels, values, found.present).pruned()


class _Told:
    """Annotations about the histograms of one argument."""

    def __init__(self, evaluator: Evaluator, source: ast.Node) -> None:
        self._evaluator, self._source = evaluator, source

    def bad(self, labels: Labels, text: str) -> None:
        name = name_of(labels)
        self._evaluator.notes.warn(
            f'bucket label "le" is missing or has a malformed value of {quoted(text)}'
            + (f" for metric name {quoted(name)}" if name else ""),
            self._evaluator.where(self._source),
        )

    def forced(self, fixed: list[Forced]) -> None:
        if not fixed:
            return
        times = self._evaluator.grid.times[np.concatenate([one.steps for one in fixed])]
        self._evaluator.notes.inform(
            "input to histogram_quantile needed to be fixed for monotonicity (see "
            "https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile), from buckets "
            f"{number(min(one.lowest for one in fixed))} to {number(max(one.highest for one in fixed))}, with a max "
            f"diff of {max(one.gap for one in fixed):.2g}, over {len(times)} samples from "
            f"{isoformat(int(times.min()))} to {isoformat(int(times.max()))}",
            self._evaluator.where(self._source),
        )
