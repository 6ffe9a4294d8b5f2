"""What a table's statistics are: rows counted once each, though head and blocks may both hold one until it is sealed."""

from __future__ import annotations

import numpy as np

from kymograph.engine.interface import TableStatistics
from kymograph.local.folder import Generation, Table
from kymograph.local.scanning import preceded, superseded


def statistics_of(table: Table, generation: Generation) -> TableStatistics:
    """Numbers of a table as of `generation`."""
    with table.lock:
        series = table.newest().series()
        hot_bytes = table.head.total_bytes
    blocks, runs = generation.blocks, generation.runs
    hidden = 0
    if runs and blocks:
        if generation.schema.duplicates == "ignore":
            hidden = sum(len(preceded(generation, run)) for run in runs)
        else:
            newest = max(run.max_time for run in runs), min(run.min_time for run in runs)
            touched = [b for b in blocks if b.row.min_time <= newest[0] and b.row.max_time >= newest[1]]
            gone = [superseded(generation, block, group) for block in touched for group in block.groups()]
            hidden = sum(len(g) for g in gone if g is not None)
    hot_rows = sum(run.visible for run in runs)
    width = generation.schema.partition
    partitions = {block.row.partition // width for block in blocks}
    for run in runs:
        first, last = run.min_time // width, run.max_time // width
        partitions.update((first, last) if last - first < 2 else np.unique(run.rows.times // width).tolist())
    low = [b.row.min_time for b in blocks] + [r.min_time for r in runs]
    high = [b.row.max_time for b in blocks] + [r.max_time for r in runs]
    return TableStatistics(
        rows=sum(b.row.rows for b in blocks) + hot_rows - hidden,
        series=series,
        oldest=min(low, default=None),
        newest=max(high, default=None),
        hot_rows=hot_rows,
        hot_bytes=hot_bytes,
        sealed_bytes=sum(b.row.bytes for b in blocks),
        blocks=len(blocks),
        partitions=len(partitions),
    )
