"""What is stored of downsampling: the tables of summaries in place of samples, and the document with their boundaries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from kymograph.engine.interface import Engine
from kymograph.errors import AlreadyExists
from kymograph.model.batch import conform
from kymograph.model.matcher import Matcher
from kymograph.model.schema import FIELD_TYPES, SAMPLES, SERIES_ID, TableSchema
from kymograph.model.spacing import COLUMN
from kymograph.model.summary import STATISTICS, Ints, Summaries, together
from kymograph.model.time import TIME, TIME_TYPE, micros_of
from kymograph.options import parse_duration
from kymograph.promql.tiers import BEGINNING
from kymograph.store.rollups.definition import partition_for
from kymograph.store.rollups.lines import TABLE, Line, table_of
from kymograph.store.rollups.timed import Timed

DOCUMENT = ("downsampling", "state")
KEY = "downsampling"
_STEP_ROWS = 200_000


@dataclass(frozen=True)
class State:
    """What the document says.

    Attributes:
        lines: every (filter, interval) that has been used.
        pending: what is half done: {"upto", "chosen", "interval"}, or {"late": ranges}; None: nothing.
        count: changes since it was opened; not stored.
    """

    lines: tuple[Line, ...] = ()
    pending: dict[str, Any] | None = None
    count: int = 0

    @classmethod
    def of(cls, told: Any) -> State:
        if told is None:
            return cls()
        return cls(tuple(Line.from_document(one) for one in told["lines"]), told["pending"])

    def to_document(self) -> dict[str, Any]:
        lines = [line.to_document() for line in self.lines]
        return {"lines": lines, "pending": self.pending}


def policies(state: State) -> list[dict[str, Any]]:
    """Every line as plain values; see `Store.downsample_policies`."""
    return [
        {
            "labels": {name: list(values) for name, values in line.chosen},
            "older_than": line.older,
            "interval": line.interval,
            "table": line.table,
            "boundary": None if line.boundary == BEGINNING else line.boundary,
        }
        for line in state.lines
    ]


def level_rows(engine: Engine, table: str, ids: Ints, start: int | None, end: int | None, *, timed: bool) -> Timed:
    """Summaries in place of samples with a time in [start, end), by series and time.

    Args:
        timed: with the times of their samples; otherwise these are not read.
    """
    schema = engine.tables().get(table)
    if schema is None:
        return Timed(together([]), pa.nulls(0, pa.string()))
    timed = timed and COLUMN in schema.columns
    columns = [SERIES_ID, TIME, *STATISTICS, *([COLUMN] if timed else [])]
    found = engine.scan(table, matching(ids), start, end, columns).table()
    series, bucket = found[SERIES_ID].to_numpy(), micros_of(found[TIME].combine_chunks())
    times = found[COLUMN].combine_chunks() if timed else pa.nulls(len(series), pa.string())
    rows = Summaries(series, bucket, {name: found[name].to_numpy() for name in STATISTICS})
    return Timed(rows, times).taken(np.lexsort((bucket, series)))


def level_schema(interval: int, samples: TableSchema) -> TableSchema:
    """The table of summaries in place of samples, bounded as these are."""
    fields = tuple((name, FIELD_TYPES[kind]) for name, kind in STATISTICS.items())
    return TableSchema(
        table_of(interval),
        (SERIES_ID,),
        (*fields, (COLUMN, pa.string())),
        "overwrite",
        partition_for(interval),
        samples.retention,
        by_series=True,
    )


def matching(ids: Ints) -> tuple[Matcher, ...]:
    return (Matcher(SERIES_ID, "in", frozenset(ids.tolist())),)


def append_level(engine: Engine, interval: int, made: Timed) -> None:
    """Append summaries to the table of an interval, which is made when it is not there."""
    table = table_of(interval)
    if table not in engine.tables():
        engine.create_table(level_schema(interval, engine.tables()[SAMPLES]))
    elif not _is_level(engine.tables()[table]):
        raise AlreadyExists(f"there is a table {table} already, which summaries need", hint="drop it, or copy it away")
    elif COLUMN not in engine.tables()[table].columns:  # of an earlier version
        engine.alter_table(engine.tables()[table].extended([(COLUMN, pa.string())]))
    rows = made.rows
    columns: dict[str, Any] = {TIME: pa.array(rows.bucket).view(TIME_TYPE), SERIES_ID: pa.array(rows.series)}
    columns |= {name: pa.array(values) for name, values in rows.columns.items()}
    columns[COLUMN] = made.times
    batch = conform(pa.table(columns), engine.tables()[table])
    for first in range(0, batch.num_rows, _STEP_ROWS):
        engine.append(table, batch.slice(first, _STEP_ROWS))


def delete_inside(engine: Engine, matchers: tuple[Matcher, ...], start: int | None, end: int | None) -> None:
    """Remove the summaries all of whose samples could only lie in [start, end)."""
    for name in level_tables(engine):
        width = parse_duration(name.removeprefix(TABLE))
        engine.delete(name, matchers, None if start is None else start + width - 1, end)


def level_tables(engine: Engine) -> list[str]:
    """The tables of summaries in place of samples."""
    return [name for name, schema in engine.tables().items() if name.startswith(TABLE) and _is_level(schema)]


def _is_level(schema: TableSchema) -> bool:
    """Whether a table has summaries in place of samples; those of a rollup are beside them."""
    return schema.by_series and not schema.definition and STATISTICS.keys() <= set(schema.columns)
