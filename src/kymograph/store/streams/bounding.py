"""What bounds a stream, by age or by covered time kept: what would go, and the disk that what stays will need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kymograph.engine.streams import StreamStatistics
from kymograph.model.interval import Intervals
from kymograph.model.stream import StreamRetention


@dataclass(frozen=True)
class Cleanup:
    """What a cleanup took, or with `dry_run` would take.

    Attributes:
        path: the stream.
        before: everything before this time (µs) goes; None: nothing does.
        rows: rows that go.
        covered: µs of coverage that go.
        bytes: disk that they take, in proportion to the rows.
        needed: bytes that the stream will take once it holds all that the bounds allow, at the present rate; None where
            nothing is known of the rate, or nothing bounds it.
        dry_run: whether nothing was removed.
    """

    path: str
    before: int | None
    rows: int
    covered: int
    bytes: int
    needed: int | None
    dry_run: bool


def cut(coverage: Intervals, retention: StreamRetention, now: int) -> int | None:
    """The time before which everything goes, or None."""
    cuts = []
    if retention.age_micros is not None:
        cuts.append(now - retention.age_micros)
    keep = retention.keep_micros
    if keep is not None and coverage.duration > keep:
        # covered time from the start of each interval to the end of all
        left = np.cumsum((coverage.ends - coverage.starts)[::-1])[::-1]
        at = int(np.flatnonzero(left >= keep)[-1])
        cuts.append(int(coverage.ends[at]) - (keep - int(left[at] - (coverage.ends[at] - coverage.starts[at]))))
    if not cuts or coverage.extent is None or max(cuts) <= coverage.extent[0]:
        return None
    return max(cuts)


def needed(statistics: StreamStatistics, retention: StreamRetention) -> int | None:
    """Bytes of a stream that holds all its bounds allow, as many per covered µs as now."""
    bounds = [bound for bound in (retention.age_micros, retention.keep_micros) if bound is not None]
    if not bounds or not statistics.covered:
        return None
    return statistics.bytes * min(bounds) // statistics.covered
