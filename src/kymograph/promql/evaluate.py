"""The evaluator: walks the tree once, every node giving its answer for all steps."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from kymograph.errors import QueryError
from kymograph.promql import aggregate, ast, binary
from kymograph.promql.ast import Node, When
from kymograph.promql.beside import Cuts
from kymograph.promql.extended import EXTENDED, EdgeWindows, between
from kymograph.promql.fixed import is_fixed
from kymograph.promql.frame import Frame, Grid, Notes, empty
from kymograph.promql.functions import COMPARISONS, SETS
from kymograph.promql.labels import is_label_name, quoted
from kymograph.promql.lexer import place
from kymograph.promql.limits import Meter
from kymograph.promql.piece_windows import PieceWindows
from kymograph.promql.pieces import Pieces, newest_of, points_of
from kymograph.promql.piecewise import PIECEWISE
from kymograph.promql.result import general
from kymograph.promql.source import Floats, SeriesSet, Source
from kymograph.promql.tiers import RAW
from kymograph.promql.windows import CARRIED, Windows, positions

Value = Frame | Floats | str
_SUBQUERY_STEP = 60_000_000


class Evaluator:
    """One query over one grid of steps; subqueries get an evaluator of their own.

    Attributes:
        grid: the steps.
        bounds: start and end of the query itself as they were asked for (the end may be no step), for `@ start()` and `@ end()`, µs.
        lookback: how long a sample stands for the present, µs.
        implicit: the window of a function that was given none, µs.
    """

    def __init__(
        self,
        source: Source,
        text: str,
        grid: Grid,
        bounds: tuple[int, int],
        meter: Meter,
        notes: Notes,
        lookback: int,
        implicit: int,
    ) -> None:
        self._source, self._text = source, text
        self.grid, self.meter, self.notes = grid, meter, notes
        self.lookback, self.implicit = lookback, implicit
        self.bounds = bounds
        self._gaps = False  # whether a comparison keeps series that it takes all values of, for `default` to fill them

    def where(self, node: Node) -> str:
        """`line:column` of an expression, inside any parentheses."""
        return place(self._text, ast.bare(node).position)

    def evaluate(self, node: Node) -> Value:
        """The answer of any expression but a range vector.

        Raises:
            QueryError: what Prometheus refuses while it evaluates.
            LimitExceeded: the meter has no room left.
        """
        self.meter.room(0)
        node = ast.bare(node)
        if self.grid.count > 1 and is_fixed(node) and not isinstance(node, (ast.Number, ast.String)):
            return self._once(node)
        if isinstance(node, ast.Number):
            return np.full(self.grid.count, node.value)
        if isinstance(node, ast.String):
            return node.value
        if isinstance(node, ast.Selector):
            return self._between(node) if node.edge == "smoothed" else self.instants(node)[0]
        if isinstance(node, ast.Unary):
            value = self.evaluate(node.expression)
            if node.operator == "+":
                return value
            if isinstance(value, Frame):
                return Frame(value.labels, -value.values, value.present).unnamed()
            assert isinstance(value, np.ndarray)
            return -value
        if isinstance(node, ast.Binary):
            return self._binary(node)
        if isinstance(node, ast.Aggregate):
            return self._aggregate(node)
        if isinstance(node, ast.Call):
            from kymograph.promql.calls import call  # calls evaluates its arguments here again

            return call(self, node)
        raise QueryError("a range vector cannot stand here")

    def _once(self, node: Node) -> Value:
        """What is the same at every step, evaluated at the first one."""
        value, count = self._on(Grid(self.grid.start, 0, 1)).evaluate(node), self.grid.count
        if isinstance(value, Frame):
            return Frame(value.labels, np.repeat(value.values, count, axis=1), np.repeat(value.present, count, axis=1))
        return np.repeat(value, count) if isinstance(value, np.ndarray) else value

    def _on(self, grid: Grid) -> Evaluator:
        return Evaluator(
            self._source, self._text, grid, self.bounds, self.meter, self.notes, self.lookback, self.implicit
        )

    def vector(self, node: Node) -> Frame:
        value = self.evaluate(node)
        assert isinstance(value, Frame)
        return value

    def scalar(self, node: Node) -> Floats:
        value = self.evaluate(node)
        assert isinstance(value, np.ndarray)
        return value

    def string(self, node: Node) -> str:
        value = self.evaluate(node)
        assert isinstance(value, str)
        return value

    def _moved(self, when: When) -> Grid:
        """Where a selector looks, for each step."""
        if when.at is None:
            return replace(self.grid, start=self.grid.start - when.offset)
        at = self.bounds[when.at == "end"] if isinstance(when.at, str) else when.at
        return Grid(at - when.offset, 0, self.grid.count)

    def _read(
        self, node: ast.Selector, start: int, end: int, cuts: Cuts | None, *, newest: bool = False
    ) -> SeriesSet | Pieces:
        """Samples in (start, end]; pieces where some of them are only there as summaries, or need not be read.

        Args:
            newest: only the newest sample of each series counts.
        """
        selection, tiers = self._source.select(node.matchers), self._source.tiers
        ask = self._source.newest if newest else self._source.load
        load = partial(ask, selection, start, end, self.meter)
        found = load() if tiers is None else tiers.read(self._source, selection, start, end, cuts, self.meter, load)
        self.notes.read_from(found.tiers if isinstance(found, Pieces) else (RAW,))
        return found

    def _warn_of_summaries(self, node: Node) -> None:
        self.notes.warn("some samples are only there as summaries, so the result is approximate", self.where(node))

    def instants(self, node: ast.Selector) -> tuple[Frame, Floats]:
        """The newest sample of each series within the look-back, and its time in seconds [S, T]."""
        grid = self._moved(node.when)
        start = grid.start - self.lookback
        series = self._read(node, start, grid.end, None, newest=grid.start == grid.end)
        self.meter.room(len(series.labels) * grid.count)
        if isinstance(series, Pieces):
            frame, seconds, cut = newest_of(series, grid, self.lookback)
            if cut.any():
                self._warn_of_summaries(node)
            used = frame.present.any(axis=1)
            return frame.rows(np.flatnonzero(used)), seconds[used]
        if not len(series.times):
            return empty(grid.count), np.zeros((0, grid.count))
        newest = positions(series, grid) - 1
        present = newest >= series.offsets[:-1, None]
        newest = np.maximum(newest, 0)
        times = series.times[newest]
        present &= times > grid.times - self.lookback
        if series.stale.any():
            present &= ~series.stale[newest]
        frame = Frame(series.labels, series.values[newest], present)
        used = present.any(axis=1)
        return (frame, times / 1e6) if used.all() else (frame.rows(np.flatnonzero(used)), times[used] / 1e6)

    def _between(self, node: ast.Selector) -> Frame:
        """Each series on the straight line between its samples around the step, no further away than the look-back."""
        from kymograph.promql.calls import blocks

        around = self._around(node, self._moved(node.when), 0)
        self.meter.room(len(around.labels) * self.grid.count)
        return blocks(self, around, between)

    def _around(self, node: ast.Selector, grid: Grid, width: int) -> EdgeWindows:
        """Windows, and the samples before them; of `smoothed` those after them too."""
        assert node.edge is not None
        after = self.lookback if node.edge == "smoothed" else 0
        found = self._read(node, grid.start - width - self.lookback, grid.end + after, None)
        if isinstance(found, Pieces):
            if not found.whole.all():
                self._warn_of_summaries(node)
            found = found.live().samples(means=False)
        series = found.without(found.stale)
        return EdgeWindows(series, grid, width, self.grid.times, carry=self.lookback, edge=node.edge)

    def windows(self, node: Node, function: str = "") -> Windows:
        """The range vector of a selector or subquery; where there is neither, of the implicit window.

        Args:
            function: what it is for. Of those in `PIECEWISE` the windows may be `PieceWindows`.

        Raises:
            QueryError: a function that an `anchored` or `smoothed` selector is not for.
        """
        node = ast.bare(node)
        if isinstance(node, ast.Selector):
            width = self.implicit if node.window is None else node.window
            grid = self._moved(node.when)
            if node.edge is None:
                return self._windows_of(node, grid, width, function)
            if function and function not in EXTENDED[node.edge]:
                allowed = ", ".join(sorted(EXTENDED[node.edge]))
                raise QueryError(f"{node.edge} modifier can only be used with: {allowed} - not with {function}")
            return self._around(node, grid, width)
        if not isinstance(node, ast.Subquery):
            node = ast.Subquery(node.position, node, self.implicit, self.grid.step or None)
        grid = self._moved(node.when)
        carry = self.lookback if function in CARRIED else 0
        series = self._subquery(node, grid, node.window + carry)
        self.meter.room(len(series.labels) * grid.count)
        return Windows(series, grid, node.window, self.grid.times, carry=carry)

    def _windows_of(self, node: ast.Selector, grid: Grid, width: int, function: str) -> Windows:
        piecewise = function in PIECEWISE
        cuts = Cuts.of(function, grid, width) if piecewise else None
        carry = self.lookback if function in CARRIED else 0
        found = self._read(node, grid.start - width - carry, grid.end, cuts)
        if not isinstance(found, Pieces):
            return Windows(found.without(found.stale), grid, width, self.grid.times, carry=carry)
        pieces = found.live()
        if piecewise:
            windows = PieceWindows.over(pieces, grid, width, self.grid.times, carry)
            if windows.inexact(function).any():
                self._warn_of_summaries(node)
            return windows
        if not pieces.whole.all():
            self._warn_of_summaries(node)
        return Windows(points_of(pieces, function), grid, width, self.grid.times)

    def _subquery(self, node: ast.Subquery, grid: Grid, width: int) -> SeriesSet:
        step = node.step or _SUBQUERY_STEP
        # at multiples of the step, the first one after the window's open start
        start = ((grid.start - width) // step + 1) * step
        count = max(0, (grid.end - start) // step + 1)
        self.meter.room(count)
        inner = self._on(Grid(start, step, count))
        if not count:
            return SeriesSet([], np.zeros(0, np.int64), np.zeros(0), np.zeros(1, np.int64))
        return inner.vector(node.expression).pruned().series(inner.grid)

    def _binary(self, node: ast.Binary) -> Value:
        gaps, first = self._gaps, ast.bare(node.left)
        self._gaps = node.operator == "default" and isinstance(first, ast.Binary) and first.operator in COMPARISONS
        left = self.evaluate(node.left)
        self._gaps = False
        right = self.evaluate(node.right)
        assert not isinstance(left, str)
        assert not isinstance(right, str)
        if node.operator in SETS and (isinstance(left, Frame) or isinstance(right, Frame)):
            return binary.sets(node, left, right).pruned()
        if isinstance(left, Frame) and isinstance(right, Frame):
            frame = binary.vectors(node, left, right, self.meter)
            return frame if gaps else frame.pruned()
        if isinstance(left, Frame):
            assert isinstance(right, np.ndarray)
            frame = binary.with_scalar(node, left, right, scalar_first=False)
            return frame if gaps else frame.pruned()
        if isinstance(right, Frame):
            frame = binary.with_scalar(node, right, left, scalar_first=True)
            return frame if gaps else frame.pruned()
        return binary.scalars(node.operator, left, right)

    def _aggregate(self, node: ast.Aggregate) -> Frame:
        self._check_labels(node)
        frame = self.vector(node.expression)
        if node.operator == "count_values":
            assert node.parameter is not None
            return aggregate.count_values(frame, node, self.string(node.parameter), self.meter)
        if node.operator == "median":
            node = replace(node, operator="quantile", parameter=ast.Number(node.position, 0.5))
        if node.parameter is None:
            return aggregate.simple(frame, node) if frame.labels else frame
        parameter = self.scalar(node.parameter)
        if node.operator == "limit_ratio":
            return self._limit_ratio(frame, parameter, node.parameter)
        if node.operator == "quantile":
            # Prometheus names the extremes here, and every value elsewhere
            known = parameter[~np.isnan(parameter)]
            extremes = [known.max(initial=1.0), known.min(initial=0.0), parameter.max()]  # max() is NaN where any is
            self.warn_quantile(np.array(extremes), node.parameter)
            return aggregate.quantile(frame, node, parameter) if frame.labels else frame
        if node.operator == "limitk":
            return aggregate.limited(frame, node, parameter).pruned()
        return aggregate.ranks(frame, node, parameter).pruned()

    def _check_labels(self, node: ast.Aggregate) -> None:
        for name in node.labels:
            if not is_label_name(name):
                raise QueryError(f"invalid label name {quoted(name)}")

    def _limit_ratio(self, frame: Frame, ratio: Floats, node: Node) -> Frame:
        if np.isnan(ratio).any():
            raise QueryError("Ratio value is NaN")
        most, least = float(ratio.max()), float(ratio.min())
        for value, capped, beyond in ((most, "1", most > 1), (least, "-1", least < -1)):
            if beyond:
                self.notes.warn(
                    f"ratio value should be between -1 and 1, got {general(value)}, capping to {capped}",
                    self.where(node),
                )
        return aggregate.limited_ratio(frame, np.clip(ratio, -1, 1)).pruned() if frame.labels else frame

    def warn_quantile(self, q: Floats, node: Node) -> None:
        for value in np.unique(q[~((q >= 0) & (q <= 1))]):
            self.notes.warn(f"quantile value should be between 0 and 1, got {general(float(value))}", self.where(node))
