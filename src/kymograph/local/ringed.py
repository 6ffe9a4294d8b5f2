"""Rows of the table `samples` that are kept in rings: told from the others, and joined to them where they are read."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from kymograph.engine.interface import Scan, SeriesBatch, TableStatistics
from kymograph.engine.rings import RingSamples
from kymograph.errors import SchemaError
from kymograph.local.ring_pages import RingPages
from kymograph.model.matcher import Matcher
from kymograph.model.schema import SERIES_ID, TableSchema
from kymograph.model.time import TIME, TIME_TYPE, micros_of


def divided(batch: pa.RecordBatch, rings: Container[int]) -> tuple[pa.RecordBatch, RingSamples | None]:
    """The rows of a batch that belong to no ring, and the samples that do.

    Raises:
        SchemaError: a null value for a ring.
    """
    if not rings:
        return batch, None
    series = batch.column(1)
    ids = (series.fill_null(-1) if series.null_count else series).to_numpy()
    distinct, of = np.unique(ids, return_inverse=True)
    ringed = np.array([number in rings for number in distinct.tolist()], np.bool_)[of]
    if not ringed.any():
        return batch, None
    mine = pa.array(ringed)
    values = batch.column(2).filter(mine)
    if values.null_count:
        raise SchemaError("a ring holds no null", hint="leave such samples out")
    samples = RingSamples(ids[ringed], micros_of(batch.column(0))[ringed], values.to_numpy())
    return batch.filter(pa.array(~ringed)), samples


def joined(parts: Sequence[RingSamples]) -> RingSamples:
    """Samples one after the other, as they came."""
    if len(parts) == 1:
        return parts[0]
    return RingSamples(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def matching(pages: RingPages, matchers: Sequence[Matcher]) -> list[int]:
    """Rings whose series satisfy every matcher, ascending."""
    chosen: set[int] | Mapping[int, Any] = pages.rings
    for matcher in matchers:
        if matcher.operator in ("in", "=") and matcher.label == SERIES_ID:
            wanted: Any = matcher.value if matcher.operator == "in" else frozenset((matcher.value,))
            chosen = set(chosen) & wanted
        else:
            chosen = {number for number in chosen if matcher.matches(number)}
    return sorted(chosen)


def scan(base: Scan, pages: RingPages, matchers: Sequence[Matcher], start: int | None, end: int | None) -> Scan:
    """A scan of `samples` with one more part, which holds what is in rings."""
    if not pages.rings:
        return base
    found = pages.read(matching(pages, matchers), start, end)
    if not len(found.ids):
        return base
    part: Callable[[], Iterator[pa.RecordBatch]] = lambda: iter([batch_of(found, base.schema)])  # noqa: E731
    told: Callable[[], Iterator[SeriesBatch]] = lambda: iter([_by_series(found, base.schema.names)])  # noqa: E731
    by_series = None if base.by_series is None else [*base.by_series, told]
    return Scan(base.schema, [*base.parts, part], base.rows + len(found.ids), by_series)


def _by_series(samples: RingSamples, columns: Sequence[str]) -> SeriesBatch:
    ids, counts = np.unique(samples.ids, return_counts=True)
    return SeriesBatch(
        {SERIES_ID: pa.array(ids)} if SERIES_ID in columns else {},
        counts,
        samples.times,
        {"value": pa.array(samples.values)} if "value" in columns else {},
    )


def latest(base: pa.Table, pages: RingPages, matchers: Sequence[Matcher], schema: TableSchema) -> pa.Table:
    """The newest rows of `samples`, with those of rings."""
    if not pages.rings:
        return base
    found = pages.latest(matching(pages, matchers))
    return pa.concat_tables([base, pa.Table.from_batches([batch_of(found, schema.arrow)])])


def batch_of(samples: RingSamples, schema: pa.Schema) -> pa.RecordBatch:
    """Samples as rows of `samples`, in some of its columns."""
    columns = {
        TIME: lambda: pa.array(samples.times, pa.int64()).view(TIME_TYPE),
        SERIES_ID: lambda: pa.array(samples.ids, pa.int64()),
        "value": lambda: pa.array(samples.values, pa.float64()),
    }
    if not len(schema):
        return pa.RecordBatch.from_struct_array(pa.array([{}] * len(samples.ids), pa.struct([])))
    return pa.RecordBatch.from_arrays([columns[name]() for name in schema.names], schema=schema)


def statistics(base: TableStatistics, pages: RingPages) -> TableStatistics:
    """Numbers of `samples`, with what is in rings; rings are neither hot nor sealed, and in no partition."""
    own = pages.numbers()
    if not own.rows:
        return base
    times = [time for time in (base.oldest, base.newest, own.oldest, own.newest) if time is not None]
    return replace(
        base,
        rows=base.rows + own.rows,
        series=base.series + own.series,
        oldest=min(times),
        newest=max(times),
        ring_rows=own.rows,
    )
