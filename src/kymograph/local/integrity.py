"""`kymo check`: verify every byte and rule, name what is damaged, and salvage the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from kymograph.engine.interface import CheckReport, Damage
from kymograph.errors import Corrupt, StorageError
from kymograph.local.block import Block, RowGroup, canonical, open_parquet
from kymograph.local.catalog import BlockRow
from kymograph.local.folder import Folder, Table
from kymograph.local.format import PAGE_ROWS, NewerBlock, decode_metadata
from kymograph.local.ring_integrity import check_rings
from kymograph.local.rows import common_positions, gather, select
from kymograph.local.samples import is_stored
from kymograph.local.sorting import sort_batches
from kymograph.local.streams.integrity import check_streams
from kymograph.model.schema import TableSchema

Progress = Callable[[int, int], None]


def check(folder: Folder, *, repair: bool, notes: list[str], progress: Progress | None = None) -> CheckReport:
    """Verify the catalog, every block and the hot log; `notes` is what was noticed at opening."""
    with folder.structure:
        damages = []
        try:
            folder.catalog.verify()
        except Corrupt as problem:
            damages.append(Damage("", "catalog.db", problem.message))
        blocks = [(table, block) for table in folder.tables.values() for block in table.blocks]
        for done, (table, block) in enumerate(blocks):
            problem_found = _problem(table.schema, block)
            if problem_found:
                lost = _salvage(folder, table, block) if repair else None
                damages.append(Damage(table.schema.name, block.row.path, problem_found, lost, repair))
            if progress is not None:
                progress(done + 1, len(blocks))
        for table in folder.tables.values():
            damages += _hot_damage(folder, table, repair)
            if not damages:
                damages += _twice(table)
        damages += check_rings(folder.catalog, folder.rings, repair)
        damages += folder.settings.check(repair)
        more, size, found = check_streams(folder.streams, repair=repair)
        damages += found
        size += sum(block.row.bytes for _, block in blocks)
        return CheckReport(len(blocks) + more, size, tuple(damages), tuple(notes))


def _problem(schema: TableSchema, block: Block) -> str:
    """What is wrong with a block, or ""."""
    try:
        opened = block.reopen()
        decode_metadata(opened.file.schema_arrow)
        rows, low, high = 0, [], []
        for group in block.groups(opened):
            rows += _sorted_rows(schema, group)
            low.append(int(group.times.min()))
            high.append(int(group.times.max()))
            for name, kind in schema.fields:
                group.column(name, kind)
    except NewerBlock:
        raise
    except StorageError as problem:
        return problem.message
    if (rows, min(low), max(high)) != (block.row.rows, block.row.min_time, block.row.max_time):
        return f"holds {rows} rows of [{min(low)}, {max(high)}], the catalog says {block.row.rows} of " + (
            f"[{block.row.min_time}, {block.row.max_time}]"
        )
    return ""


def _sorted_rows(schema: TableSchema, group: RowGroup) -> int:
    times, index = group.times, group.index
    inside = np.ones(max(0, len(times) - 1), np.bool_)
    inside[index.offsets[1:-1] - 1] = False
    if (times[1:] <= times[:-1])[inside].any():
        raise Corrupt(f"row group {group.number} is not in time order within its series")
    if len(index.keys) != len(index):
        raise Corrupt(f"row group {group.number} holds a series of {schema.name} in two places")
    return len(times)


def _twice(table: Table) -> Iterator[Damage]:
    """Keys that two blocks hold."""
    for place, block in enumerate(table.blocks):
        for other in table.blocks[place + 1 :]:
            if other.row.min_time > block.row.max_time:
                break
            for left in block.groups():
                within = select(left, (), other.row.min_time, other.row.max_time + 1)
                if within is not None:
                    hits = sum(len(common_positions(right, left, within)[0]) for right in other.groups())
                    if hits:
                        text = f"{hits} rows are also in {other.row.path}"
                        yield Damage(table.schema.name, block.row.path, text)


def _hot_damage(folder: Folder, table: Table, repair: bool) -> list[Damage]:
    found = [Damage(table.schema.name, "catalog.db", problem, None, repair) for problem in table.damage]
    if found and repair:
        with folder.catalog.transaction():
            folder.catalog.remove_hot(table.damaged_hot)
        with table.lock:
            table.damage, table.damaged_hot = [], []
    return found


def _salvage(folder: Folder, table: Table, block: Block) -> int:
    """Replace a damaged block by what can still be read of it; the file is kept under DIR/damaged. Returns rows lost."""
    schema = table.schema
    batches = list(_readable(folder, schema, block))
    new: list[BlockRow] = []
    saved = 0
    kept = folder.path / "damaged" / block.row.path
    kept.parent.mkdir(parents=True, exist_ok=True)
    if block.path.exists():
        kept.write_bytes(block.path.read_bytes())
    if batches:
        rows = sort_batches(schema, batches)
        found = select(rows)
        assert found is not None
        saved = found.rows
        data = pa.Table.from_batches([gather(rows, found, schema, schema.columns)])
        partition, level = block.row.partition, block.row.level
        new.append(folder.write_block(table, data, partition=partition, level=level, replaces=[block]))
    with table.lock:
        table.forget_latest()
    folder.publish(table, new, [block], save_latest=False)
    return block.row.rows - saved


def _readable(folder: Folder, schema: TableSchema, block: Block) -> Iterator[pa.RecordBatch]:
    """Rows of every page that still has its checksum, up to the first damaged page of each row group."""
    try:
        data = bytearray(block.path.read_bytes())[: block.row.bytes]
    except OSError:
        return
    data.extend(bytes(block.row.bytes - len(data)))
    try:
        tail = folder.catalog.read_footer(block.row.id)
        data[len(data) - len(tail) :] = tail
    except Corrupt:
        pass  # then the file's own footer has to do
    try:
        file = open_parquet(pa.BufferReader(bytes(data)), schema.labels, check_pages=True)
    except (pa.ArrowException, OSError):
        return
    scaled = is_stored(file.schema_arrow)  # then rows need those before them, and a group is one page anyway
    for group in range(file.metadata.num_row_groups):
        size = file.metadata.row_group(group).num_rows if scaled else PAGE_ROWS
        pieces = file.iter_batches(batch_size=size, row_groups=[group], use_threads=False)
        while True:
            try:
                piece = next(pieces)
            except (StopIteration, pa.ArrowException, OSError):
                break
            yield canonical(piece, schema)
