"""`kymo tail`: the newest rows of a table, and those that come."""

from __future__ import annotations

import sys
import time as clock
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pyarrow as pa

from kymograph.cli.output import Layout
from kymograph.cli.words import default_folder, label_filter, opened, pairs
from kymograph.errors import NotFound
from kymograph.model.matcher import matchers_of
from kymograph.model.schema import SAMPLES, SERIES_ID
from kymograph.model.time import TIME, micros_of
from kymograph.store.exchange.text import csv_header, csv_lines, json_lines
from kymograph.store.reading import newest

if TYPE_CHECKING:
    from kymograph.store.store import Store

_PAUSE = 0.5


@click.command(short_help="Show the newest rows of TABLE, and those to come.")
@click.argument("where", nargs=-1, required=True, metavar="[DIR] TABLE")
@click.option(
    "-n", "count", type=click.IntRange(min=0), default=10, show_default=True, metavar="N", help="Rows to begin with."
)
@click.option("--follow", "-f", is_flag=True, help="Go on with rows as they come, until Ctrl-C.")
@label_filter
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="How rows are written.",
)
def tail(where: tuple[str, ...], count: int, follow: bool, labels: tuple[str, ...], form: str) -> None:
    """Show the newest rows of TABLE; works beside a running server.

    Rows that come late, with a time before what was shown, are not followed.
    """
    if len(where) > 2:
        raise click.UsageError("kymo tail takes [DIR] TABLE")
    place, table = (Path(where[0]), where[1]) if len(where) == 2 else (default_folder(), where[0])
    matchers = matchers_of(pairs(labels, "--label"))
    with opened(place, read_only=True) as store:
        if table not in store.tables():
            raise NotFound(f"there is no table {table}", hint="there are: " + (", ".join(store.tables()) or "none"))
        printer = _Printer(form)
        seen = _Seen()
        rows = seen.fresh(store, table, newest(store.engine, table, max(count, 1), matchers))
        printer.write(_named(store, table, rows.slice(0 if count else rows.num_rows)))
        while follow:
            clock.sleep(_PAUSE)
            rows = seen.fresh(store, table, store.scan(table, matchers, start=seen.time))
            printer.write(_named(store, table, rows))


class _Seen:
    """Remembers the rows of the newest time seen: that time is read again, since other series may still follow."""

    def __init__(self) -> None:
        self._keys: set[tuple[Any, ...]] = set()
        self.time: int | None = None

    def fresh(self, store: Store, table: str, rows: pa.Table) -> pa.Table:
        """The rows that were not seen before; `rows` is ascending in time and begins at `self.time`."""
        if not rows.num_rows:
            return rows
        times = micros_of(rows[TIME].combine_chunks()).tolist()
        # the table may have been given more of them
        labels = [label for label in store.tables()[table].labels if label in rows.column_names]
        keys = [_ended(key) for key in zip(times, *(rows[label].to_pylist() for label in labels), strict=True)]
        kept = [at for at, key in enumerate(keys) if key not in self._keys]
        self.time = times[-1]
        self._keys = {key for key in keys if key[0] == self.time}
        return rows.take(pa.array(kept, pa.int64()))


def _ended(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """A key as it was before the labels came that it has none of."""
    return _ended(key[:-1]) if key[-1] is None else key


def _named(store: Store, table: str, rows: pa.Table) -> pa.Table:
    """Scalar samples with the series spelled out instead of its id; other rows as they are."""
    if table != SAMPLES:
        return rows
    series = store.engine.series()
    texts = []
    for number in rows[SERIES_ID].to_pylist():
        name, labels = series.get(number, (f"series {number}", {}))
        inside = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
        texts.append(f"{name}{{{inside}}}" if inside else name)
    place = rows.column_names.index(SERIES_ID)
    return rows.set_column(place, "series", pa.array(texts, pa.string()))


class _Printer:
    """Prints tables of one shape after one another, with the layout of the first."""

    def __init__(self, form: str) -> None:
        self._form = form
        self._names: list[str] | None = None
        self._layout: Layout | None = None

    def write(self, rows: pa.Table) -> None:
        batches = rows.combine_chunks().to_batches()
        out = sys.stdout.buffer
        if rows.column_names != self._names:  # the first, or the table got another field
            self._names = rows.column_names
            self._layout = Layout(rows.schema, batches)
            if self._form == "table":
                out.write("".join(line + "\n" for line in self._layout.header()).encode())
            elif self._form == "csv":
                out.write(csv_header(self._names))
        assert self._layout is not None
        for batch in batches:
            if self._form == "table":
                out.write("".join(line + "\n" for line in self._layout.lines(batch)).encode())
            else:
                out.write(csv_lines(batch) if self._form == "csv" else json_lines(batch))
        out.flush()
