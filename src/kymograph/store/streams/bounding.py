"""What bounds a stream, by age or by covered time kept: what would go, and the disk that what stays will need."""

from __future__ import annotations

from dataclasses import dataclass

from kymograph.engine.streams import StreamStatistics
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


def needed(statistics: StreamStatistics, retention: StreamRetention) -> int | None:
    """Bytes of a stream that holds all its bounds allow, as many per covered µs as now."""
    bounds = [bound for bound in (retention.age_micros, retention.keep_micros) if bound is not None]
    if not bounds or not statistics.covered:
        return None
    return statistics.bytes * min(bounds) // statistics.covered
