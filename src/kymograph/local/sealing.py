"""Sealing the head into blocks, merging small blocks, and taking rows out of blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pyarrow as pa

from kymograph.local.block import Block, as_table
from kymograph.local.catalog import BlockRow
from kymograph.local.folder import Folder, Generation, Table
from kymograph.local.head import Run, visible_batch
from kymograph.local.rows import Ints, gather, select
from kymograph.local.scanning import part_of, preceded, superseded
from kymograph.local.sorting import sort_batches
from kymograph.model.matcher import Matcher
from kymograph.model.schema import TableSchema

# blocks with at least this many values are never merged again; it bounds the memory of a merge
FULL_BLOCK = 3_000_000
FANOUT = 8


def seal(folder: Folder, table: Table) -> int:
    """Turn the table's hot rows into blocks. Returns rows sealed; on failure they stay hot."""
    with folder.structure:
        table.head.presort(table.lock)
        with table.lock:
            if table.dropped or table.damage:
                return 0
            runs, hot_ids = table.head.freeze()
            if not runs and not hot_ids:
                return 0
            generation = Generation(table.schema, table.blocks, tuple(runs))
        new: list[BlockRow] = []
        try:
            rewritten = _drop_superseded(folder, table, generation, new)
            if generation.schema.duplicates == "ignore":
                runs = [run.without(preceded(generation, run)) for run in runs]
            rows = sum(run.visible for run in runs)
            _write_blocks(folder, table, _partitions(generation.schema, runs), new)
            folder.publish(table, new, rewritten, sealed=hot_ids)
        except BaseException:
            folder.discard(new)
            with table.lock:
                table.head.thaw()
            raise
        return rows


def _drop_superseded(folder: Folder, table: Table, generation: Generation, new: list[BlockRow]) -> list[Block]:
    """Rewrite blocks without the rows that the head replaces; returns the blocks to remove."""
    touched = []
    for block in generation.blocks:
        if any(r.min_time <= block.row.max_time and r.max_time >= block.row.min_time for r in generation.runs):
            gone = [superseded(generation, block, group) for group in block.groups()]
            if any(g is not None for g in gone):
                _rewrite(folder, table, block, gone, new)
                touched.append(block)
    return touched


def _rewrite(folder: Folder, table: Table, block: Block, gone: Sequence[Ints | None], new: list[BlockRow]) -> None:
    schema = table.schema
    batches = [part_of(schema, group, excluded) for group, excluded in zip(block.groups(), gone, strict=True)]
    left = [batch for batch in batches if batch is not None]
    if left:
        data = as_table(schema, left)
        partition, level = block.row.partition, block.row.level
        new.append(folder.write_block(table, data, partition=partition, level=level, replaces=[block]))


def _write_blocks(folder: Folder, table: Table, parts: Iterator[tuple[int, pa.Table]], new: list[BlockRow]) -> None:
    """Write each part as a block, a large one as two at a time: encoding is most of sealing, and one file takes one core."""
    with ThreadPoolExecutor(2, thread_name_prefix="kymograph-encode") as pool:
        for partition, data in parts:
            half = -(-data.num_rows // 2) if data.num_rows * data.num_columns >= 2 * FULL_BLOCK else data.num_rows
            writing = [
                pool.submit(folder.write_block, table, data.slice(at, half), partition=partition, level=0)
                for at in range(0, data.num_rows, half)
            ]
            wait(writing)
            # what was written is known before a failure is raised, so that it is removed again
            new.extend(future.result() for future in writing if not future.exception())
            for future in writing:
                future.result()


def _partitions(schema: TableSchema, runs: Sequence[Run]) -> Iterator[tuple[int, pa.Table]]:
    """The runs' visible rows by partition, oldest first, each sorted and in one chunk."""
    if len(runs) == 1:
        run = runs[0]
    else:
        batches = [batch for batch in (visible_batch(schema, run) for run in runs) if batch is not None]
        if not batches:
            return
        run = Run.of(sort_batches(schema, batches))
    for start in (np.unique(run.rows.times // schema.partition) * schema.partition).tolist():
        batch = visible_batch(schema, run, start, start + schema.partition)
        if batch is not None:
            yield start, pa.Table.from_batches([batch])


def delete_rows(folder: Folder, table: Table, matchers: Sequence[Matcher], start: int | None, end: int | None) -> int:
    """Remove rows from blocks; the caller has sealed the head, and keeps others from changing blocks. Returns how many."""
    generation = table.generation()
    new: list[BlockRow] = []
    old: list[Block] = []
    removed = 0
    try:
        for block in generation.blocks:
            if (end is not None and block.row.min_time >= end) or (start is not None and block.row.max_time < start):
                continue
            gone = []
            for group in block.groups():
                found = select(group, matchers, start, end)
                gone.append(None if found is None else found.positions())
                removed += 0 if found is None else found.rows
            if any(g is not None for g in gone):
                _rewrite(folder, table, block, gone, new)
                old.append(block)
        if old:
            with table.lock:
                lost = table.newest().keys(matchers, start, end)
            folder.publish(table, new, old, save_latest=not lost)
            refresh_latest(folder, table, lost)
    except BaseException:
        folder.discard(new)
        raise
    return removed


def refresh_latest(folder: Folder, table: Table, lost: set[tuple[object, ...]], until: int | None = None) -> None:
    """Find the newest rows left of series whose newest row has gone, none later than `until`, and save the result."""
    if not lost:
        return
    with table.lock:
        blocks = [block for block in table.blocks if until is None or block.row.min_time <= until]
        groups = [group for block in blocks for group in block.groups()]
        table.newest().replace(lost, [*groups, *(run.rows for run in table.head.runs())])
        saved = table.newest().dump()
    with folder.catalog.transaction():
        folder.catalog.put_latest(table.id, saved)


def mergeable(table: Table, *, eager: bool) -> list[list[Block]]:
    """Groups of neighbouring small blocks of one partition worth merging.

    Lazily, `FANOUT` blocks of one level make one of the next; eagerly any two neighbours do.
    """
    with table.lock:
        blocks, width = table.blocks, len(table.schema.columns)
    by_partition: dict[int, list[Block]] = {}
    for block in blocks:
        if block.row.rows * width < FULL_BLOCK:
            by_partition.setdefault(block.row.partition, []).append(block)
    groups = []
    for small in by_partition.values():
        levels = [None] if eager else sorted({block.row.level for block in small})
        for level in levels:
            same = [b for b in small if level is None or b.row.level == level]
            least = 2 if eager else FANOUT
            group: list[Block] = []
            for block in same:
                full = (sum(b.row.rows for b in group) + block.row.rows) * width > FULL_BLOCK
                if full or (not eager and len(group) == FANOUT):
                    groups.append(group)
                    group = []
                group.append(block)
            groups.append(group)
            groups = [g for g in groups if len(g) >= least or (len(g) > 1 and _nearly_full(g, width))]
    return groups


def _nearly_full(group: Sequence[Block], width: int) -> bool:
    return sum(block.row.rows for block in group) * width > FULL_BLOCK // 2


def merge(folder: Folder, table: Table, group: Sequence[Block]) -> int:
    """Replace neighbouring blocks of one partition by one. Returns blocks removed net; none where one has gone already."""
    with folder.structure:
        with table.lock:
            current = {block.row.id for block in table.blocks}
            schema = table.schema
        if table.dropped or not all(block.row.id in current for block in group):
            return 0
        batches = [part_of(schema, rows, None) for block in group for rows in block.groups()]
        sorted_rows = sort_batches(schema, [batch for batch in batches if batch is not None])
        del batches
        everything = select(sorted_rows)
        assert everything is not None
        data = pa.Table.from_batches([gather(sorted_rows, everything, schema, schema.columns)])
        del sorted_rows
        level = max(block.row.level for block in group) + 1
        new: list[BlockRow] = []
        try:
            new.append(folder.write_block(table, data, partition=group[0].row.partition, level=level, replaces=group))
            folder.publish(table, new, group)
        except BaseException:
            folder.discard(new)
            raise
        return len(group) - 1


def compact(folder: Folder, *, eager: bool, progress: Callable[[int, int], None] | None = None) -> int:
    """Merge what is worth merging in every table. Returns blocks removed net."""
    removed = 0
    for table in list(folder.tables.values()):
        groups = mergeable(table, eager=eager)
        for done, group in enumerate(groups):
            if not folder.room_for(sum(block.row.bytes for block in group)):
                return removed
            removed += merge(folder, table, group)
            if progress is not None:
                progress(done + 1, len(groups))
    return removed
