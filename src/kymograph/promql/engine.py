"""Entry points: a query at one time, or at every step of a range."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from kymograph.engine.interface import Engine
from kymograph.errors import LimitExceeded, QueryError
from kymograph.promql import ast
from kymograph.promql.check import NAMES, kind_of
from kymograph.promql.durations import Span
from kymograph.promql.evaluate import Evaluator, Value
from kymograph.promql.frame import Frame, Grid, Notes, single
from kymograph.promql.labels import sort_key
from kymograph.promql.limits import Meter, PromLimits
from kymograph.promql.parse import parse
from kymograph.promql.result import PromResult
from kymograph.promql.runs import picked
from kymograph.promql.source import SeriesSet, Source

LOOKBACK = 300_000_000
# characters of a query whose tree is kept for the next time; dashboards ask the same ones again and again
_KEPT = 2000


class WrongKind(QueryError):
    """A range of what has no value at each step."""


def query_instant(
    source: Source | Engine,
    text: str,
    time_us: int,
    limits: PromLimits | None = None,
    *,
    lookback_us: int = LOOKBACK,
) -> PromResult:
    """Evaluate a query at one time.

    Args:
        source: of an engine; keep one, it holds the label index. An engine alone is indexed anew every time.
        text: PromQL or MetricsQL.
        time_us: µs since the epoch.
        lookback_us: how long a sample stands for the present.

    Returns:
        A vector, matrix (of a range selector: the samples as stored), scalar or string.

    Raises:
        ParseError: the text is no query; carries the position.
        QueryError: what cannot be evaluated, such as ambiguous matches.
        LimitExceeded: too many series or samples, too long, or nested too deeply.
    """
    return _Query(source, text, limits or PromLimits(), lookback_us, Span(0.0, 0.0)).instant(time_us)


def query_range(
    source: Source | Engine,
    text: str,
    start_us: int,
    end_us: int,
    step_us: int,
    limits: PromLimits | None = None,
    *,
    lookback_us: int = LOOKBACK,
) -> PromResult:
    """Evaluate a query at start, start + step, … up to the end, both included. See `query_instant`.

    Returns:
        A matrix; a scalar becomes one series without labels.
    """
    if step_us <= 0:
        raise QueryError("zero or negative query resolution step widths are not accepted. Try a positive integer")
    if end_us < start_us:
        raise QueryError("end timestamp must not be before start time")
    grid = Grid(start_us, step_us, (end_us - start_us) // step_us + 1)
    span = Span(step_us / 1e6, (end_us - start_us) / 1e6)
    return _Query(source, text, limits or PromLimits(), lookback_us, span).range(grid, end_us)


@lru_cache(512)
def _kept(text: str, span: Span) -> ast.Node:
    return parse(text, span)


class _Query:
    def __init__(self, source: Source | Engine, text: str, limits: PromLimits, lookback: int, span: Span) -> None:
        self._source = source if isinstance(source, Source) else Source(source)
        self._text, self._lookback = text, lookback
        self._meter, self._notes = Meter(limits), Notes()
        try:
            self._node = _kept(text, span) if len(text) <= _KEPT else parse(text, span)
        except RecursionError:
            raise LimitExceeded("the query is nested too deeply", hint="shorten it") from None
        self._kind = kind_of(self._node)

    def instant(self, time: int) -> PromResult:
        value = self._evaluate(Grid(time, 0, 1), time, LOOKBACK)
        common = {
            "warnings": self._notes.warnings,
            "infos": self._notes.infos,
            "samples": self._meter.samples,
            "tiers": self._notes.tiers,
        }
        if isinstance(value, str):
            return PromResult("string", text=value, times=np.array([time]), **common)  # type: ignore[arg-type]
        if isinstance(value, SeriesSet):
            return self._matrix(value)
        here = np.array([time], np.int64)
        if not isinstance(value, Frame):
            return PromResult("scalar", [()], here, value, np.array([0, 1]), **common)  # type: ignore[arg-type]
        frame = value.pruned()
        count = len(frame.labels)
        return PromResult(
            "vector",
            frame.labels,
            np.repeat(here, count),
            frame.values[:, 0],
            np.arange(count + 1),
            **common,  # type: ignore[arg-type]
        )

    def range(self, grid: Grid, end: int) -> PromResult:
        if self._kind not in ("scalar", "vector"):
            raise WrongKind(
                f'invalid expression type "{NAMES[self._kind]}" for range query, must be Scalar or instant Vector'
            )
        self._meter.room(grid.count)
        value = self._evaluate(grid, end, grid.step)
        assert not isinstance(value, (str, SeriesSet))
        frame = value if isinstance(value, Frame) else single(value)
        return self._matrix(frame.pruned().series(grid))

    def _evaluate(self, grid: Grid, end: int, implicit: int) -> Value | SeriesSet:
        evaluator = Evaluator(
            self._source, self._text, grid, (grid.start, end), self._meter, self._notes, self._lookback, implicit
        )
        try:
            with np.errstate(all="ignore"), self._meter.watching():
                if self._kind == "matrix":
                    return evaluator.windows(ast.bare(self._node)).shown
                return evaluator.evaluate(self._node)
        except RecursionError:
            raise LimitExceeded("the query is nested too deeply", hint="shorten it") from None

    def _matrix(self, series: SeriesSet) -> PromResult:
        counts = np.diff(series.offsets)
        rows = sorted(np.flatnonzero(counts).tolist(), key=lambda row: sort_key(series.labels[row]))
        labels = [series.labels[row] for row in rows]
        times, values, offsets = picked(series.times, series.values, series.offsets, np.array(rows, np.int64))
        return PromResult(
            "matrix",
            labels,
            times,
            values,
            offsets,
            warnings=self._notes.warnings,
            infos=self._notes.infos,
            samples=self._meter.samples,
            tiers=self._notes.tiers,
        )
