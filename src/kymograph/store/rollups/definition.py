"""What a rollup is: its source, its buckets, what it groups by, and the schema of the table it fills."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from kymograph.errors import InvalidInput, NotFound, SchemaError
from kymograph.model.schema import FIELD_TYPES, SAMPLES, SERIES_ID, TableSchema
from kymograph.model.summary import STATISTICS
from kymograph.model.time import DAY, HOUR, MINUTE, SECOND
from kymograph.options import Retention, parse_duration

DOCUMENT = "rollup"
METRIC = "name"
ROWS = "rows"
_MOST_FIELDS = 200


@dataclass(frozen=True)
class Rollup:
    """A stored definition. Durations in µs.

    Attributes:
        name: of the rollup and of the table that holds its rows.
        source: `samples`, a table, or another rollup; of an SQL rollup "", its query says.
        every: width of its buckets [start, start + every), aligned to the epoch; a row's time is the start.
        labels: what its rows are told apart by; `("series_id",)` when every scalar series keeps its own.
        fields: of the source's columns; none for scalar samples, whose one value needs no name.
        grouped: whether several series of the source share a row. Increases and integrals then begin at the last
            sample of the bucket before, so that they add up over buckets too.
        start_offset: buckets that end further than this before now are left as they are; None: none are.
        end_offset: buckets that end later than this before now are not made yet.
        query: SQL of an SQL rollup, otherwise "".
        tables: what is read, directly.
    """

    name: str
    source: str
    every: int
    labels: tuple[str, ...]
    fields: tuple[str, ...]
    grouped: bool
    start_offset: int | None
    end_offset: int
    query: str
    tables: tuple[str, ...]

    @property
    def by_series(self) -> bool:
        return self.labels == (SERIES_ID,)

    @property
    def of_samples(self) -> bool:
        """Whether its columns are plain statistics, without the names of fields."""
        return not self.fields and not self.query

    def to_document(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_document(cls, told: Mapping[str, Any]) -> Rollup:
        return cls(**{**told, **{name: tuple(told[name]) for name in ("labels", "fields", "tables")}})


def defined(
    name: str,
    source: str,
    every: Any,
    by: Iterable[str] | None,
    fields: Iterable[str] | None,
    offsets: tuple[Any, Any],
    tables: Mapping[str, TableSchema],
    rollups: Mapping[str, Rollup],
) -> Rollup:
    """A rollup of samples, of a table or of a rollup, from what users write.

    Raises:
        InvalidInput, SchemaError: what cannot be. NotFound: the source.
    """
    width = bucket_width(every)
    below = rollups.get(source)
    schema = tables.get(source)
    if schema is None and source != SAMPLES:
        raise NotFound(f"there is no table {source} to summarise", hint="write to it first, or create it")
    for what, words in (("by", by), ("fields", fields)):
        if isinstance(words, str):
            raise InvalidInput(f"{what} must be a list of names, not {words!r}")
    if below is not None:
        if below.query:
            raise InvalidInput(f"{source} is an SQL rollup; only its own query can summarise it")
        if width % below.every or width == below.every:
            raise InvalidInput(
                f"{duration(width)} is no multiple of {duration(below.every)}, the interval of {source}",
                hint="tiers build on each other: 1m, 15m, 1h",
            )
        there, known = below.labels, below.fields
    elif source == SAMPLES:
        there, known = (SERIES_ID,), ()
    else:
        assert schema is not None
        there = schema.labels
        known = tuple(field for field, kind in schema.fields if not pa.types.is_string(kind))
    labels, grouped = _labels(source, there, None if by is None else tuple(by), below)
    chosen = known if fields is None else tuple(fields)
    for field in chosen:
        if field not in known:
            raise SchemaError(f"{source} has no number {field!r} to summarise", hint="it has " + ", ".join(known))
    if source != SAMPLES and not chosen and (below is None or below.fields):
        raise SchemaError(f"{source} has no numbers to summarise")
    if len(chosen) > _MOST_FIELDS:
        raise InvalidInput(f"{len(chosen)} fields are too many", hint=f"name at most {_MOST_FIELDS} with fields")
    start, end = offsets_of(offsets, width)
    return Rollup(name, source, width, labels, chosen, grouped, start, end, "", (source,))


def _labels(
    source: str, there: tuple[str, ...], by: tuple[str, ...] | None, below: Rollup | None
) -> tuple[tuple[str, ...], bool]:
    """The rollup's labels, and whether several series fall into one of its rows."""
    grouped = below is not None and below.grouped
    if by is None:
        return there, grouped
    if len(set(by)) != len(by) or not all(isinstance(label, str) and label for label in by):
        raise InvalidInput(f"by must be different names of labels, not {list(by)!r}")
    if there == (SERIES_ID,):
        if by == (SERIES_ID,):
            return there, False
        # the labels of scalar series are in the registry, and any name may come
        return _of_metric(by), True
    if below is not None and below.of_samples:
        by = _of_metric(by)
    missing = [label for label in by if label not in there]
    if missing:
        raise SchemaError(f"{source} has no label {missing[0]!r}", hint="it has " + (", ".join(there) or "none"))
    return by, grouped or set(by) != set(there)


def _of_metric(by: tuple[str, ...]) -> tuple[str, ...]:
    """The labels that scalar series are told apart by: values of two metrics never mix."""
    return (METRIC, *(label for label in by if label not in (METRIC, "__name__")))


def offsets_of(offsets: tuple[Any, Any], width: int) -> tuple[int | None, int]:
    """start_offset and end_offset in µs. Raises InvalidInput."""
    start = None if offsets[0] is None else parse_duration(offsets[0])
    end = 0 if offsets[1] is None else parse_duration(offsets[1])
    if start is not None and start < end + width:
        raise InvalidInput(
            f"no bucket of {duration(width)} lies between {duration(start)} and {duration(end)} before now",
            hint="start_offset is the further one",
        )
    return start, end


def bucket_width(every: Any) -> int:
    """µs of a bucket. Raises InvalidInput."""
    width = parse_duration(every)
    if not SECOND <= width <= 366 * DAY or width % 1000:
        raise InvalidInput(f"{every!r} cannot be an interval", hint="from 1s to a year, in whole milliseconds")
    return width


def schema_of(rollup: Rollup, keep: Retention | None) -> TableSchema:
    """The table of a rollup of samples, of a table or of a rollup."""
    if rollup.of_samples:
        fields = (*((name, FIELD_TYPES[kind]) for name, kind in STATISTICS.items()), (ROWS, pa.int64()))
    else:
        fields = (
            (ROWS, pa.int64()),
            *(
                (column_of(field, name), FIELD_TYPES[kind])
                for field in rollup.fields
                for name, kind in STATISTICS.items()
            ),
        )
    return TableSchema(
        rollup.name,
        rollup.labels,
        fields,
        "overwrite",
        partition_for(rollup.every),
        keep or Retention(),
        rollup.by_series,
    )


def column_of(field: str, statistic: str) -> str:
    """The column that holds a statistic of a field; of scalar samples the field is ""."""
    return f"{field}_{statistic}" if field else statistic


def partition_for(width: int) -> int:
    """Width of a partition that holds a few hundred to a few thousand buckets, µs."""
    return DAY if width < 10 * MINUTE else 7 * DAY if width < HOUR else 30 * DAY


def duration(micros: int) -> str:
    """The shortest text that `parse_duration` reads back: 1h30m."""
    parts = []
    for unit, size in (("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND), ("ms", 1000), ("us", 1)):
        count, micros = divmod(micros, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
