"""What keeps the folder bounded: age, bytes per table, and the store-wide cap; oldest blocks first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from kymograph.engine.interface import PruneReport, Victim
from kymograph.local.block import Block
from kymograph.local.folder import Folder, Table
from kymograph.local.scanning import superseded, times_before
from kymograph.local.sealing import refresh_latest, seal

# the cap is acted on at 90 % and brought down to 85 %, so that not every write has to drop something
HIGH, LOW = 90, 85

Reason = Literal["age", "bytes", "cap"]
Delete = Callable[[Table, int], int]
_Choice = tuple[Table, Block, Reason]


def prune(folder: Folder, *, now: int, dry_run: bool, force: bool, delete: Delete) -> PruneReport:
    """Apply every bound as of `now` (µs).

    Blocks go whole, once all their rows are too old; with `force` the rows that are too old go from the others too.
    `delete(table, end)` removes a table's rows before `end`.
    """
    with folder.structure:
        chosen = _too_old(folder, now)
        if not dry_run:
            for table in {table.id: table for table, block, _ in chosen if _hides(table, block)}.values():
                # rows that these blocks hide would come to light again; sealing forgets them
                seal(folder, table)
        partly = _partly_too_old(folder, now) if force else []
        chosen += _over_table_bytes(folder, {block.row.id for _, block, _ in chosen})
        chosen += _over_cap(folder, {block.row.id for _, block, _ in chosen}, 0)
        report = _report(folder, chosen, dry_run)
        if not dry_run:
            _drop_all(folder, chosen)
            for name in {victim.table for victim in partly}:
                table = folder.table(name)
                delete(table, now - (_age(folder, table) or 0))
        return PruneReport((*report.victims, *partly), dry_run)


def _hides(table: Table, block: Block) -> bool:
    return table.schema.duplicates == "ignore" and _late_rows(table, block)


def _late_rows(table: Table, block: Block) -> bool:
    return any(run.min_time <= block.row.max_time for run in table.generation().runs)


def _visible(table: Table, block: Block) -> int:
    """Rows of a block that nothing in the head replaces."""
    if not _late_rows(table, block):
        return block.row.rows
    generation = table.generation()
    gone = [superseded(generation, block, group) for group in block.groups()]
    return block.row.rows - sum(len(positions) for positions in gone if positions is not None)


def _age(folder: Folder, table: Table) -> int | None:
    own = table.schema.retention.age_micros
    return folder.options.age if own is None else own


def _partly_too_old(folder: Folder, now: int) -> list[Victim]:
    """Rows past their age in the head and in blocks that also hold younger ones, by partition."""
    victims = []
    for table in folder.tables.values():
        age = _age(folder, table)
        if age is None:
            continue
        cutoff = now - age
        generation = table.generation()
        straddling = [b for b in generation.blocks if b.row.min_time < cutoff <= b.row.max_time]
        parts = times_before(generation, straddling, cutoff)
        times = np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)
        width = table.schema.partition
        for start in np.unique(times // width).tolist():
            own = times[times // width == start]
            low, high = int(own[0]), int(own[-1]) + 1
            victims.append(Victim(table.schema.name, start * width, low, high, len(own), 0, "age"))
    return victims


def make_room(folder: Folder, need: int) -> None:
    """Drop the oldest blocks when `need` more bytes would pass 90 % of the cap."""
    cap = folder.options.cap
    if cap is None or folder.usage() + need <= cap * HIGH // 100:
        return
    with folder.structure:
        _drop_all(folder, _over_cap(folder, set(), need))


def _report(folder: Folder, chosen: Sequence[_Choice], dry_run: bool) -> PruneReport:
    victims: dict[tuple[str, int, Reason], list[Block]] = {}
    for table, block, reason in chosen:
        victims.setdefault((table.schema.name, block.row.partition, reason), []).append(block)
    return PruneReport(
        tuple(
            Victim(
                table=name,
                partition=partition,
                start=min(b.row.min_time for b in blocks),
                end=max(b.row.max_time for b in blocks) + 1,
                rows=sum(_visible(folder.table(name), b) for b in blocks),
                bytes=sum(b.row.bytes for b in blocks),
                reason=reason,
            )
            for (name, partition, reason), blocks in victims.items()
        ),
        dry_run,
    )


def _drop_all(folder: Folder, chosen: Sequence[_Choice]) -> None:
    by_table: dict[str, list[Block]] = {}
    for table, block, _ in chosen:
        by_table.setdefault(table.schema.name, []).append(block)
    for name, blocks in by_table.items():
        _drop(folder, folder.table(name), blocks)


def _drop(folder: Folder, table: Table, blocks: list[Block]) -> None:
    newest = max(block.row.max_time for block in blocks)
    with table.lock:
        lost = table.newest().keys((), None, newest + 1)
    folder.publish(table, (), blocks, save_latest=not lost)
    refresh_latest(folder, table, lost, until=newest)


def _too_old(folder: Folder, now: int) -> list[_Choice]:
    chosen: list[_Choice] = []
    for table in folder.tables.values():
        age = _age(folder, table)
        if age is not None:
            chosen += [(table, block, "age") for block in table.blocks if block.row.max_time < now - age]
    return chosen


def _over_table_bytes(folder: Folder, gone: set[int]) -> list[_Choice]:
    chosen: list[_Choice] = []
    for table in folder.tables.values():
        limit = table.schema.retention.max_bytes
        if limit is not None:
            left = [block for block in table.blocks if block.row.id not in gone]
            excess = sum(block.row.bytes for block in left) - limit
            chosen += [(table, block, "bytes") for block in _oldest(left, excess)]
    return chosen


def _over_cap(folder: Folder, gone: set[int], need: int) -> list[_Choice]:
    cap = folder.options.cap
    if cap is None:
        return []
    owner = {block.row.id: table for table in folder.tables.values() for block in table.blocks}
    blocks = [b for table in folder.tables.values() for b in table.blocks]
    usage = folder.usage() + need - sum(block.row.bytes for block in blocks if block.row.id in gone)
    if usage <= cap * HIGH // 100:
        return []
    left = [block for block in blocks if block.row.id not in gone]
    return [(owner[block.row.id], block, "cap") for block in _oldest(left, usage - cap * LOW // 100)]


def _oldest(blocks: Sequence[Block], excess: int) -> list[Block]:
    """The oldest blocks, by partition and then by newest row, that together free `excess` bytes."""
    chosen = []
    for block in sorted(blocks, key=lambda b: (b.row.partition, b.row.max_time)):
        if excess <= 0:
            break
        chosen.append(block)
        excess -= block.row.bytes
    return chosen
