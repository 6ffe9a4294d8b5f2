"""What keeps the folder bounded: age, bytes per table, and the store-wide cap; oldest blocks first."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from kymograph.engine.interface import PruneReport, Victim
from kymograph.local.block import Block
from kymograph.local.budget import Budget
from kymograph.local.folder import Folder, Table
from kymograph.local.scanning import superseded, times_before
from kymograph.local.sealing import refresh_latest, seal
from kymograph.local.streams import folder as streams
from kymograph.local.streams.folder import StreamVictim
from kymograph.local.streams.pieces import Piece

# the cap is acted on at 90 % and brought down to 85 %, so that not every write has to drop something
HIGH, LOW = 90, 85

Reason = Literal["age", "bytes", "cap"]
Delete = Callable[[Table, int], int]


class _Choice(NamedTuple):
    """One block that is to go."""

    folder: Folder
    table: Table
    block: Block
    reason: Reason


def prune(folder: Folder, *, now: int, dry_run: bool, force: bool, delete: Delete) -> PruneReport:
    """Apply every bound as of `now` (µs).

    Blocks go whole, once all their rows are too old; with `force` the rows that are too old go from the others too.
    `delete(table, end)` removes a table's rows before `end`. A cap that is shared may take blocks of other folders.
    """
    with contextlib.ExitStack() as held:
        for budget in folder.budgets:
            held.enter_context(budget.lock)
        held.enter_context(folder.structure)
        chosen = _too_old(folder, now)
        if not dry_run:
            for table in {one.table.id: one.table for one in chosen if _hides(one.table, one.block)}.values():
                # rows that these blocks hide would come to light again; sealing forgets them
                seal(folder, table)
        partly = _partly_too_old(folder, now) if force else []
        chosen += _over_table_bytes(folder, {one.block for one in chosen})
        old = folder.streams.too_old(now)
        partly += folder.streams.partly_too_old(now, {one.piece for one in old}) if force else []
        for budget in folder.budgets:
            blocks, pieces = _over_cap(budget, {one.block for one in chosen}, {one.piece for one in old}, 0)
            chosen, old = [*chosen, *blocks], [*old, *pieces]
        report = _report(folder, chosen, dry_run)
        if not dry_run:
            _drop_all(chosen)
            streams.drop(old)
            if force:
                folder.streams.cut_all(now)
            for name in {victim.table for victim in partly} & set(folder.tables):
                table = folder.table(name)
                delete(table, now - (_age(folder, table) or 0))
        return PruneReport((*report.victims, *streams.report(old), *partly), dry_run)


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
    """Drop the oldest blocks when `need` more bytes would pass 90 % of a cap."""
    for budget in folder.budgets:
        if budget.cap is None or budget.usage() + need <= budget.cap * HIGH // 100:
            continue
        with budget.lock:
            blocks, pieces = _over_cap(budget, set(), set(), need)
            _drop_all(blocks)
            streams.drop(pieces)


def _report(folder: Folder, chosen: Sequence[_Choice], dry_run: bool) -> PruneReport:
    victims: dict[tuple[str, int, Reason], list[_Choice]] = {}
    for one in chosen:
        name = one.table.schema.name
        # a table of another namespace is told apart by its folder
        name = name if one.folder is folder else f"{one.folder.path.name}/{name}"
        victims.setdefault((name, one.block.row.partition, one.reason), []).append(one)
    return PruneReport(
        tuple(
            Victim(
                table=name,
                partition=partition,
                start=min(one.block.row.min_time for one in several),
                end=max(one.block.row.max_time for one in several) + 1,
                rows=sum(_visible(one.table, one.block) for one in several),
                bytes=sum(one.block.row.bytes for one in several),
                reason=reason,
            )
            for (name, partition, reason), several in victims.items()
        ),
        dry_run,
    )


def _drop_all(chosen: Sequence[_Choice]) -> None:
    by_table: dict[tuple[Folder, Table], list[Block]] = {}
    for one in chosen:
        by_table.setdefault((one.folder, one.table), []).append(one.block)
    for (folder, table), blocks in by_table.items():
        with folder.structure:
            there = {block.row.id for block in table.blocks}  # compaction may have been faster
            _drop(folder, table, [block for block in blocks if block.row.id in there])


def _drop(folder: Folder, table: Table, blocks: list[Block]) -> None:
    if not blocks or table.dropped:
        return
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
            old = [block for block in table.blocks if block.row.max_time < now - age]
            chosen += [_Choice(folder, table, block, "age") for block in old]
    return chosen


def _over_table_bytes(folder: Folder, gone: set[Block]) -> list[_Choice]:
    chosen: list[_Choice] = []
    for table in folder.tables.values():
        limit = table.schema.retention.max_bytes
        if limit is not None:
            left = [_Choice(folder, table, block, "bytes") for block in table.blocks if block not in gone]
            chosen += [
                one for one in _oldest(left, sum(_bytes(one) for one in left) - limit) if isinstance(one, _Choice)
            ]
    return chosen


def _over_cap(
    budget: Budget, gone: set[Block], gone_too: set[Piece], need: int
) -> tuple[list[_Choice], list[StreamVictim]]:
    """Blocks of tables and of streams that the cap takes beside those that go anyway."""
    if budget.cap is None:
        return [], []
    blocks: list[_Choice | StreamVictim] = [
        _Choice(folder, table, block, "cap")
        for folder in budget.folders
        for table in folder.tables.values()
        for block in table.blocks
        if block not in gone
    ]
    blocks += [one for folder in budget.folders for one in folder.streams.blocks(gone_too)]
    usage = budget.usage() + need - sum(block.row.bytes for block in gone) - sum(piece.bytes for piece in gone_too)
    if usage <= budget.cap * HIGH // 100:
        return [], []
    chosen = _oldest(blocks, usage - budget.cap * LOW // 100)
    return [one for one in chosen if isinstance(one, _Choice)], [one for one in chosen if isinstance(one, StreamVictim)]


def _oldest(blocks: Sequence[_Choice | StreamVictim], excess: int) -> list[_Choice | StreamVictim]:
    """The oldest blocks, by partition and then by newest row, that together free `excess` bytes."""
    chosen = []
    for one in sorted(blocks, key=_age_of):
        if excess <= 0:
            break
        chosen.append(one)
        excess -= _bytes(one)
    return chosen


def _age_of(one: _Choice | StreamVictim) -> tuple[int, int]:
    if isinstance(one, StreamVictim):
        return one.partition, one.piece.last
    return one.block.row.partition, one.block.row.max_time


def _bytes(one: _Choice | StreamVictim) -> int:
    return one.piece.bytes if isinstance(one, StreamVictim) else one.block.row.bytes
