"""What SQL has to know of a rollup. Imports nothing of the planner, so that stores can tell it at little cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from kymograph.errors import LimitExceeded
from kymograph.model.summary import Ints, Summaries

RAW = "raw"
Range = tuple[int, int]
# of a dozen columns: about a GiB
MOST_SUMMARIES = 10_000_000


def check_summaries(rows: int, table: str) -> None:
    """Raise LimitExceeded where a query would hold so many rows of a table of summaries."""
    if rows > MOST_SUMMARIES:
        raise LimitExceeded(
            f"the query needs {rows:,} summaries of {table}, more than {MOST_SUMMARIES:,}",
            hint="narrow its time range or name fewer series, or make a coarser rollup",
        )


@dataclass(frozen=True)
class Tier:
    """A rollup of a table, of buckets [time, time + width).

    Attributes:
        table: where its rows are.
        labels: what they are told apart by.
        fields: by field of the source, what the names of its statistics begin with.
        rows: the column that counts rows of the source.
        width: µs.
        oldest: of its rows, µs.
        upto: buckets that end later are not made yet, µs.
        touched: ranges of buckets that may not be believed at present.
        lost: rows of the source older than this may be gone, µs.
        scalar: its source are samples. Where it counts more rows than values, there are staleness markers, which SQL
            takes for values and the other columns leave out.
    """

    table: str
    labels: frozenset[str]
    fields: Mapping[str, str]
    rows: str
    width: int
    oldest: int
    upto: int
    touched: tuple[Range, ...]
    lost: int
    scalar: bool = False


@dataclass(frozen=True)
class Replaced:
    """Samples of some series that summaries have taken the place of.

    Attributes:
        ids: the series, ascending.
        boundary: for each the time up to which, itself included, its samples are here, µs.
        rows: summaries by id, and samples that came after their summary was made, each as the summary of itself.
        tables: where `rows` come from.
    """

    ids: Ints
    boundary: Ints
    rows: Summaries
    tables: tuple[str, ...]


class TierKeeper(Protocol):
    """Who knows the rollups of a table."""

    def tiers_of(self, table: str, series: Callable[[], Ints]) -> Sequence[Tier]:
        """Coarsest first. `series` tells which scalar series are asked for where the table is `samples`."""

    def replaced(self, ids: Ints, start: int | None, end: int | None) -> Replaced | None:
        """What is in place of samples of these series (ascending) in [start, end) µs; None where nothing is."""

    def changes(self) -> object:
        """Equal as long as no samples were replaced in between."""

    def summarises(self) -> bool:
        """Whether there is any rollup, or any sample has been replaced."""

    def replaced_upto(self) -> int | None:
        """The latest time up to which samples of some series have been replaced by summaries, µs; None: nowhere."""
