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
from kymograph.model.summary import STATISTICS, Ints, Summaries, together
from kymograph.model.time import TIME, TIME_TYPE, micros_of
from kymograph.options import parse_duration
from kymograph.promql.tiers import BEGINNING, VERSION
from kymograph.store.rollups.definition import partition_for
from kymograph.store.rollups.lines import TABLE, Line, table_of

DOCUMENT = ("downsampling", "state")
KEY = "downsampling"
_STEP_ROWS = 200_000


@dataclass(frozen=True)
class State:
    """What the document says.

    Attributes:
        lines: every (filter, interval) that has been used.
        version: of the last merge of late samples.
        pending: what is half done: {"upto", "chosen", "interval"}, or {"late": ranges}; None: nothing.
        count: changes since it was opened; not stored.
    """

    lines: tuple[Line, ...] = ()
    version: int = 0
    pending: dict[str, Any] | None = None
    count: int = 0

    @classmethod
    def of(cls, told: Any) -> State:
        if told is None:
            return cls()
        return cls(tuple(Line.from_document(one) for one in told["lines"]), told["version"], told["pending"])

    def to_document(self) -> dict[str, Any]:
        lines = [line.to_document() for line in self.lines]
        return {"lines": lines, "version": self.version, "pending": self.pending}


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


def level_rows(engine: Engine, table: str, ids: Ints, start: int | None, end: int | None) -> tuple[Summaries, Ints]:
    """Summaries in place of samples with a time in [start, end), by series and time, and their versions."""
    if table not in engine.tables():
        return together([]), np.zeros(0, np.int64)
    found = engine.scan(table, matching(ids), start, end, [SERIES_ID, TIME, *STATISTICS, VERSION]).table()
    series, bucket = found[SERIES_ID].to_numpy(), micros_of(found[TIME].combine_chunks())
    order = np.lexsort((bucket, series))
    columns = {name: found[name].to_numpy()[order] for name in STATISTICS}
    return Summaries(series[order], bucket[order], columns), found[VERSION].to_numpy()[order]


def level_schema(interval: int, samples: TableSchema) -> TableSchema:
    """The table of summaries in place of samples, bounded as these are."""
    fields = tuple((name, FIELD_TYPES[kind]) for name, kind in STATISTICS.items())
    return TableSchema(
        table_of(interval),
        (SERIES_ID,),
        (*fields, (VERSION, pa.int64())),
        "overwrite",
        partition_for(interval),
        samples.retention,
        by_series=True,
    )


def matching(ids: Ints) -> tuple[Matcher, ...]:
    return (Matcher(SERIES_ID, "in", frozenset(ids.tolist())),)


def append_level(engine: Engine, interval: int, made: Summaries, version: int) -> None:
    """Append summaries to the table of an interval, which is made when it is not there."""
    table = table_of(interval)
    if table not in engine.tables():
        engine.create_table(level_schema(interval, engine.tables()[SAMPLES]))
    elif not (engine.tables()[table].by_series and VERSION in engine.tables()[table].columns):
        raise AlreadyExists(f"there is a table {table} already, which summaries need", hint="drop it, or copy it away")
    columns: dict[str, Any] = {TIME: pa.array(made.bucket).view(TIME_TYPE), SERIES_ID: pa.array(made.series)}
    columns |= {name: pa.array(values) for name, values in made.columns.items()}
    columns[VERSION] = pa.array(np.full(len(made), version, np.int64))
    batch = conform(pa.table(columns), engine.tables()[table])
    for first in range(0, batch.num_rows, _STEP_ROWS):
        engine.append(table, batch.slice(first, _STEP_ROWS))


def delete_inside(engine: Engine, matchers: tuple[Matcher, ...], start: int | None, end: int | None) -> None:
    """Remove the summaries all of whose samples could only lie in [start, end)."""
    for name, schema in engine.tables().items():
        if name.startswith(TABLE) and schema.by_series and VERSION in schema.columns:
            width = parse_duration(name.removeprefix(TABLE))
            engine.delete(name, matchers, None if start is None else start + width - 1, end)
