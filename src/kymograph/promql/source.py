"""Series for the evaluator: which there are, by the label index, and their samples, from the engine's scans.

Scalar series keep their name and labels; a field of a wide table is the metric `<table>_<field>` with the table's labels,
numbers and booleans as float64; text fields are no metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.engine.interface import Engine, Scan
from kymograph.model.batch import known_series
from kymograph.model.matcher import Matcher, of_series
from kymograph.model.schema import SAMPLES, SERIES_ID, TableSchema
from kymograph.model.time import TIME, micros_of
from kymograph.promql.ast import LabelMatcher
from kymograph.promql.index import Ints, LabelIndex
from kymograph.promql.labels import NAME, Labels, matcher_mask
from kymograph.promql.limits import Meter
from kymograph.promql.runs import Part, edges, joined
from kymograph.promql.streams import Readable

if TYPE_CHECKING:
    from kymograph.promql.tiers import Tiers

Floats = np.ndarray[Any, np.dtype[np.float64]]
STALE = 0x7FF0000000000002  # the bits of Prometheus' staleness marker
_FEW = 64  # values of a label that are worth telling the engine


@dataclass(frozen=True)
class SeriesSet:
    """Samples of S series, one after the other, each ascending in time.

    Attributes:
        labels: S label sets.
        times: int64 µs of all samples.
        values: float64 of all samples, bits as stored.
        offsets: int64, S + 1; series i is [offsets[i], offsets[i + 1]).
    """

    labels: list[Labels]
    times: Ints
    values: Floats
    offsets: Ints

    def without(self, dropped: Any) -> SeriesSet:
        """Less the samples where a boolean mask is true."""
        if not dropped.any():
            return self
        before = np.concatenate([[0], np.cumsum(dropped)])
        return SeriesSet(self.labels, self.times[~dropped], self.values[~dropped], self.offsets - before[self.offsets])

    @property
    def stale(self) -> Any:
        """Boolean mask of the samples that are staleness markers."""
        return self.values.view(np.int64) == STALE


@dataclass(frozen=True)
class _Wide:
    """Series of one table: `rows` label sets as tuples in the schema's order, for each of `fields`."""

    schema: TableSchema
    rows: list[tuple[str, ...]]
    fields: list[str]


@dataclass
class Selection:
    """Series that a selector found. Scalar ones first, by id; then table by table, field by field."""

    labels: list[Labels]
    ids: Ints
    wide: list[_Wide] = field(default_factory=list)


class Source:
    """The series of one engine. Keep it between queries: it holds the label index. Safe for many threads.

    Attributes:
        tiers: where summaries stand for samples; None where there are none.
    """

    tiers: Tiers | None = None

    def __init__(self, engine: Engine) -> None:
        self._engine = Readable(engine)
        self._index = LabelIndex()

    def select(self, matchers: Sequence[LabelMatcher]) -> Selection:
        """The series that satisfy every matcher, whether or not they have samples. Reads no samples."""
        self._index.refresh(self._engine.series())
        ids, labels = self._index.select(matchers)
        found = Selection(list(labels), ids)
        for schema in self._engine.tables().values():
            if not schema.by_series:
                self._select_wide(schema, matchers, found)
        return found

    def scalars(self, matchers: Sequence[LabelMatcher]) -> Ints:
        """Ids, ascending, of the scalar series that satisfy every matcher."""
        self._index.refresh(self._engine.series())
        return self._index.select(matchers)[0]

    def _select_wide(self, schema: TableSchema, matchers: Sequence[LabelMatcher], found: Selection) -> None:
        fields = [name for name, kind in schema.fields if not pa.types.is_string(kind)]
        names = pa.array([f"{schema.name}_{name}" for name in fields], pa.string())
        mask = np.ones(len(fields), np.bool_)
        for matcher in matchers:
            if matcher.name == NAME:
                mask &= matcher_mask(matcher, names)
        if not mask.any():
            return
        latest = known_series(self._engine.latest(schema.name), schema)
        columns = {label: _text(latest.column(label)) for label in schema.labels}
        chosen = np.ones(latest.num_rows, np.bool_)
        for matcher in matchers:
            if matcher.name != NAME:
                values = columns.get(matcher.name, pa.array([""], pa.string()))
                chosen &= matcher_mask(matcher, values)
        texts = [columns[label].to_pylist() for label in schema.labels]
        rows = [tuple(text[place] for text in texts) for place in np.flatnonzero(chosen).tolist()]
        wide = _Wide(schema, rows, [name for name, used in zip(fields, mask, strict=True) if used])
        if not rows:
            return
        rest = [
            tuple(sorted((label, value) for label, value in zip(schema.labels, row, strict=True) if value))
            for row in rows
        ]
        found.wide.append(wide)
        for name in wide.fields:
            found.labels += [((NAME, f"{schema.name}_{name}"), *pairs) for pairs in rest]

    def load(self, selection: Selection, start: int, end: int, meter: Meter) -> SeriesSet:
        """Samples with start < time <= end (µs, as PromQL's windows) of the selected series.

        Raises:
            LimitExceeded: more series or samples than the meter has room for.
        """
        return self._loaded(selection, start, end, meter, self._scalars)

    def newest(self, selection: Selection, start: int, end: int, meter: Meter) -> SeriesSet:
        """As `load`, but older samples of a series than its newest with start < time <= end may be missing.

        Kept newest rows answer for scalar series; only those that went on after `end` are looked for in the samples.
        """
        return self._loaded(selection, start, end, meter, self._newest)

    def _loaded(
        self, selection: Selection, start: int, end: int, meter: Meter, scalars: Callable[..., Iterable[Part]]
    ) -> SeriesSet:
        meter.series(len(selection.labels))
        parts: list[Part] = []
        if len(selection.ids) and SAMPLES in self._engine.tables():
            parts += scalars(selection.ids, np.arange(len(selection.ids)), start, end, meter)
        first = len(selection.ids)
        for wide in selection.wide:
            parts += self._wide(wide, first, start, end, meter)
            first += len(wide.rows) * len(wide.fields)
        return SeriesSet(selection.labels, *joined(parts, len(selection.labels)))

    def _matchers(self, ids: Ints) -> list[Matcher]:
        return of_series(ids, len(self._engine.series()))

    def _newest(self, ids: Ints, order: Ints, start: int, end: int, meter: Meter) -> Iterator[Part]:
        latest = self._engine.latest(SAMPLES, self._matchers(ids)).combine_chunks().to_batches()
        if not latest:
            return
        rows = latest[0].select([SERIES_ID, TIME, "value"])
        times, values = micros_of(rows.column(1)), rows.column(2)
        where = _places(ids, order, _ids(rows.column(0)))
        known = (where >= 0) & values.is_valid().to_numpy(zero_copy_only=False)
        sure = known & (times <= end)
        here = np.flatnonzero(sure & (times > start))
        here = here[np.argsort(where[here], kind="stable")]
        meter.spend(len(here))
        yield Part.of(where[here], times[here], _filled(values)[here])
        unsure = np.sort(where[(where >= 0) & ~sure])
        if len(unsure):
            places = np.searchsorted(order, unsure)
            yield from self._scalars(ids[places], order[places], start, end, meter)

    def _scalars(self, ids: Ints, order: Ints, start: int, end: int, meter: Meter) -> Iterator[Part]:
        """Samples of the series `ids` (ascending), which are `order` in what is asked for."""
        scan = self._engine.scan(SAMPLES, self._matchers(ids), start + 1, end + 1, [SERIES_ID, TIME, "value"])
        for series, bounds, times, values in _runs_of(scan):
            meter.spend(len(times))
            where = _places(ids, order, series)
            part = Part(where, bounds, times, _filled(values))
            if values.null_count:
                missing = values.is_null().to_numpy(zero_copy_only=False)
                yield part.less(missing | np.repeat(where < 0, np.diff(bounds)))
            else:
                yield part.only(where >= 0)

    def _wide(self, wide: _Wide, first: int, start: int, end: int, meter: Meter) -> Iterator[Part]:
        labels, size = wide.schema.labels, len(wide.rows)
        codes: list[dict[str, int]] = []
        matchers = []
        for place, label in enumerate(labels):
            values = list(dict.fromkeys(row[place] for row in wide.rows))
            codes.append({value: code for code, value in enumerate(values)})
            if len(values) <= _FEW:
                matchers.append(Matcher(label, "in", frozenset(values)))
        keys = np.array([_key(codes, row) for row in wide.rows], np.int64)
        order = np.argsort(keys)
        # rows with a label that has come since the series were selected are of others
        fresh = [label for label in self._engine.labels(wide.schema.name) if label not in labels]
        matchers += [Matcher(label, "=", "") for label in fresh]
        scan = self._engine.scan(wide.schema.name, matchers, start + 1, end + 1, [*labels, TIME, *wide.fields])
        for batch in scan.batches():
            meter.spend(batch.num_rows * len(wide.fields))
            found = np.zeros(batch.num_rows, np.int64)
            unknown = np.zeros(batch.num_rows, np.bool_)
            for place in range(len(labels)):
                known = _codes(batch.column(place), codes[place])
                unknown |= known < 0
                found = found * len(codes[place]) + known
            at = np.minimum(np.searchsorted(keys[order], found), size - 1)
            series = np.where(unknown | (keys[order][at] != found), -1, order[at])
            times = micros_of(batch.column(len(labels)))
            for place in range(len(wide.fields)):
                column = batch.column(len(labels) + 1 + place)
                numbers, there = _numbers(column)
                where = np.where(there & (series >= 0), series + first + place * size, -1)
                yield _known(where, times, numbers)


def _runs_of(scan: Scan) -> Iterator[tuple[Ints, Ints, Ints, pa.Array]]:
    """Ids of series, where the rows of each begin and end, and times and values of all rows; batch by batch."""
    if scan.by_series is not None:
        for part in scan.by_series:
            for one in part():
                bounds = np.concatenate(([0], np.cumsum(one.counts)))
                yield _ids(one.labels[SERIES_ID]), bounds, one.times, one.fields["value"]
        return
    for batch in scan.batches():
        series = _ids(batch.column(0))
        bounds = edges(series)
        yield series[bounds[:-1]], bounds, micros_of(batch.column(1)), batch.column(2)


def _places(ids: Ints, order: Ints, series: Ints) -> Ints:
    """Which of `order` each series is, -1 where it is none of `ids`."""
    places = np.minimum(np.searchsorted(ids, series), len(ids) - 1)
    return np.where(ids[places] == series, order[places], -1)


def _ids(column: pa.Array) -> Ints:
    found: Ints = (column.fill_null(-1) if column.null_count else column).to_numpy()
    return found


def _filled(values: pa.Array) -> Floats:
    found: Floats = (values.fill_null(0.0) if values.null_count else values).to_numpy()
    return found


def _key(codes: list[dict[str, int]], row: tuple[str, ...]) -> int:
    key = 0
    for known, value in zip(codes, row, strict=True):
        key = key * len(known) + known[value]
    return key


def _codes(column: pa.Array, known: dict[str, int]) -> Ints:
    """The code of each row's label, -1 where it was not selected."""
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    table = np.array([known.get(text or "", -1) for text in encoded.dictionary.to_pylist()] + [known.get("", -1)])
    indices = encoded.indices.cast(pa.int64()).fill_null(len(table) - 1).to_numpy(zero_copy_only=False)
    found: Ints = table[indices].astype(np.int64)
    return found


def _text(column: pa.ChunkedArray) -> pa.Array:
    plain = pc.fill_null(column.cast(pa.string()), "")
    return plain.combine_chunks() if isinstance(plain, pa.ChunkedArray) else plain


def _numbers(column: pa.Array) -> tuple[Floats, Any]:
    there = column.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    filled = column.fill_null(0) if column.null_count else column
    return filled.to_numpy(zero_copy_only=False).astype(np.float64), there


def _known(where: Ints, times: Ints, values: Floats) -> Part:
    if len(where) and where.min() >= 0:
        return Part.of(where, times, values)
    there = where >= 0
    return Part.of(where[there], times[there], values[there])
