"""Reading a generation: which row groups and runs may hold the rows, and the rows of each, none twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from kymograph.engine.interface import Scan, SeriesBatch
from kymograph.errors import SchemaError
from kymograph.local.block import Block, OpenBlock, RowGroup
from kymograph.local.folder import Generation
from kymograph.local.head import Run
from kymograph.local.rows import Ints, SortedRows, common_positions, gather, select
from kymograph.model.matcher import Matcher
from kymograph.model.schema import TableSchema
from kymograph.model.time import TIME

_GROUPS_PER_PART = 4

Batch = TypeVar("Batch")
Make = Callable[[SortedRows, Ints | None], Batch | None]


class Query:
    """One scan's question."""

    def __init__(
        self,
        generation: Generation,
        matchers: Sequence[Matcher],
        start: int | None,
        end: int | None,
        columns: Sequence[str] | None,
    ) -> None:
        schema = generation.schema
        self.generation = generation
        self.schema = schema
        self.matchers = tuple(matchers)
        self.start, self.end = start, end
        self.columns = schema.columns if columns is None else tuple(columns)
        for name in self.columns:
            if name not in schema.columns:
                raise SchemaError(
                    f"table {schema.name} has no column {name!r}", hint="it has " + ", ".join(schema.columns)
                )
        for matcher in self.matchers:
            if matcher.label not in schema.labels:
                raise SchemaError(
                    f"table {schema.name} has no label {matcher.label!r}",
                    hint="its labels are " + (", ".join(schema.labels) or "none"),
                )

    def within(self, low: int, high: int) -> bool:
        """Whether [low, high], both inclusive, touches the asked range."""
        return (self.end is None or low < self.end) and (self.start is None or high >= self.start)

    def scan(self) -> Scan:
        """Files are opened (and verified) here, so that what is published later does not disturb the parts."""
        parts: list[_Part] = []
        rows = 0
        for block in self.generation.blocks:
            if not self.within(block.row.min_time, block.row.max_time):
                continue
            opened = block.open()
            groups = self._groups(opened)
            pieces = [groups[at : at + _GROUPS_PER_PART] for at in range(0, len(groups), _GROUPS_PER_PART)]
            parts.extend(_BlockPart(self, block, opened, frozenset(piece)) for piece in pieces)
            rows += sum(int(opened.starts[g + 1] - opened.starts[g]) for g in groups)
        for run in self.generation.runs:
            if self.within(run.min_time, run.max_time):
                excluded = run.excluded
                if self.schema.duplicates == "ignore":
                    excluded = np.union1d(excluded, preceded(self.generation, run))
                parts.append(_RunPart(run, excluded))
                rows += run.visible
        arrow = pa.schema([self.schema.arrow.field(name) for name in self.columns])
        return Scan(
            arrow,
            [partial(part.read, self.batch) for part in parts],
            rows,
            [partial(part.read, self.series_batch) for part in parts],
            self._span(),
        )

    def _span(self) -> tuple[int, int] | None:
        held = [(b.row.min_time, b.row.max_time) for b in self.generation.blocks]
        held += [(run.min_time, run.max_time) for run in self.generation.runs]
        if self.matchers or self.start is not None or self.end is not None or not held:
            return None
        return min(low for low, _ in held), max(high for _, high in held)

    def _groups(self, opened: OpenBlock) -> list[int]:
        """The row groups that may hold rows, by what the file says of them."""
        keep = np.ones(len(opened.starts) - 1, np.bool_)
        integers = opened.integer_bounds
        written = set(opened.columns.names)
        if any(m.label not in written and not m.matches(None) for m in self.matchers):
            return []  # from before the label came
        if TIME in integers:
            low, high = integers[TIME]
            keep &= True if self.end is None else low < self.end
            keep &= True if self.start is None else high >= self.start
        others = []
        for matcher in self.matchers:
            if matcher.label in integers and _is_certain(matcher):
                low, high = integers[matcher.label]
                wanted = matcher.numbers
                keep &= np.searchsorted(wanted, low) < np.searchsorted(wanted, high, side="right")
            else:
                others.append(matcher)
        groups: list[int] = np.flatnonzero(keep).tolist()
        return [g for g in groups if all(_possible(m, *opened.bounds[g].get(m.label, (None, None))) for m in others)]

    def batch(self, rows: SortedRows, excluded: Ints | None) -> pa.RecordBatch | None:
        found = select(rows, self.matchers, self.start, self.end, excluded)
        return None if found is None else gather(rows, found, self.schema, self.columns)

    def series_batch(self, rows: SortedRows, excluded: Ints | None) -> SeriesBatch | None:
        """As `batch`, with the labels of a series told once."""
        found = select(rows, self.matchers, self.start, self.end, excluded)
        if found is None:
            return None
        once = np.ones(len(found.series), np.int64)
        kinds = {name: self.schema.arrow.field(name).type for name in self.columns}
        labels = {
            name: rows.index.label_array(name, found.series, once, kind)
            for name, kind in kinds.items()
            if name in self.schema.labels
        }
        fields = [name for name in self.columns if name != TIME and name not in labels]
        batch = gather(rows, found, self.schema, fields)
        return SeriesBatch(labels, found.counts, found.of(rows.times), dict(zip(fields, batch.columns, strict=True)))


def _is_certain(matcher: Matcher) -> bool:
    """Whether only rows that have the label can satisfy a matcher, and only with certain values."""
    return matcher.operator in ("=", "in") and not matcher.matches(None)


def _possible(matcher: Matcher, low: Any, high: Any) -> bool:
    """Whether a label between `low` and `high` (None where unknown) can satisfy an "=" or "in"; else True."""
    if low is None or not _is_certain(matcher):
        return True
    wanted: Any = matcher.value if isinstance(matcher.value, frozenset) else {matcher.value}
    return any(type(value) is type(low) and low <= value <= high for value in wanted)


@dataclass(frozen=True)
class _BlockPart:
    """Some row groups of a block."""

    query: Query
    block: Block
    opened: OpenBlock
    groups: frozenset[int]

    def read(self, make: Make[Batch]) -> Iterator[Batch]:
        for group in self.block.groups(self.opened):
            if group.number in self.groups:
                batch = make(group, superseded(self.query.generation, self.block, group))
                if batch is not None:
                    yield batch


@dataclass(frozen=True)
class _RunPart:
    """A run of the head."""

    run: Run
    excluded: Ints

    def read(self, make: Make[Batch]) -> Iterator[Batch]:
        batch = make(self.run.rows, self.excluded)
        if batch is not None:
            yield batch


_Part = _BlockPart | _RunPart


def superseded(generation: Generation, block: Block, group: RowGroup) -> Ints | None:
    """Positions in a row group that rows of the head replace."""
    if generation.schema.duplicates == "ignore":
        return None
    hits = [_collisions(block, group, run)[0] for run in generation.runs if _touch(block, run)]
    hits = [h for h in hits if len(h)]
    return np.unique(np.concatenate(hits)) if hits else None


def preceded(generation: Generation, run: Run) -> Ints:
    """Positions in a run whose key a block holds already."""
    hits = [np.empty(0, np.int64)]
    for block in generation.blocks:
        if _touch(block, run):
            hits.extend(_collisions(block, group, run)[1] for group in block.groups())
    return np.unique(np.concatenate(hits))


def _touch(block: Block, run: Run) -> bool:
    return block.row.min_time <= run.max_time and block.row.max_time >= run.min_time


def _collisions(block: Block, group: RowGroup, run: Run) -> tuple[Ints, Ints]:
    """Positions in the row group and in the run that hold the same (series, time)."""
    key = (block.row.id, group.number)
    found = run.collisions.get(key)
    if found is None:
        within = select(run.rows, (), block.row.min_time, block.row.max_time + 1)
        nothing = np.empty(0, np.int64)
        found = (nothing, nothing) if within is None else common_positions(group, run.rows, within)
        run.collisions[key] = found
    return found


def part_of(schema: TableSchema, rows: SortedRows, excluded: Ints | None) -> pa.RecordBatch | None:
    """All of some sorted rows but `excluded`, in canonical columns."""
    found = select(rows, excluded=excluded)
    return None if found is None else gather(rows, found, schema, schema.columns)


def times_before(generation: Generation, blocks: Sequence[Block], end: int) -> list[Ints]:
    """Times of the rows before `end` in the head and in some of the generation's blocks, each row once."""
    found = []
    sources: list[tuple[SortedRows, Ints | None]] = []
    for block in blocks:
        sources.extend((group, superseded(generation, block, group)) for group in block.groups())
    for run in generation.runs:
        hidden = preceded(generation, run) if generation.schema.duplicates == "ignore" else run.excluded
        sources.append((run.rows, np.union1d(hidden, run.excluded)))
    for rows, excluded in sources:
        selected = select(rows, (), None, end, excluded)
        if selected is not None:
            found.append(selected.of(rows.times))
    return found
