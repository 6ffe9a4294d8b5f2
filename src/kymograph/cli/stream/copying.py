"""`kymo stream copy | decimate`: what a destination lacks is made from a source; may be run again at any time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import click
import numpy as np

from kymograph.cli.progress import Report, progress
from kymograph.cli.stream.place import Place, place
from kymograph.cli.stream.words import dry_run, matched, span, target
from kymograph.errors import InvalidInput, NotFound
from kymograph.model.stream import TIMESTAMP, Layout
from kymograph.store.streams.filters import grouped

Array = np.ndarray[Any, Any]
# rows of one insertion
_BLOCK = 1 << 20


@click.command(short_help="Copy streams from SOURCE to DESTINATION.")
@click.argument("source")
@click.argument("destination")
@click.argument("path", default="*")
@click.option("--to", metavar="PATH", help="The path at the destination, when it is another one.")
@span
@click.option("--no-metadata", is_flag=True, help="Leave the metadata at the destination as it is.")
@dry_run
def copy(
    *,
    source: str,
    destination: str,
    path: str,
    to: str | None,
    start: int | None,
    end: int | None,
    no_metadata: bool,
    dry_run: bool,
) -> None:
    """Copy the streams that PATH matches from SOURCE to DESTINATION (folders or URLs): the intervals missing there."""
    with ExitStack() as opened:
        here = opened.enter_context(place(source))
        same = source == destination
        there = (
            here
            if same and dry_run
            else opened.enter_context(place(destination, write=not dry_run, create=not dry_run))
        )
        found = matched(here, path)
        if to is not None and len(found) != 1:
            raise InvalidInput(f"{path} matches {len(found)} streams: --to takes one")
        for one in found:
            goal = to or one.path
            if same and goal == one.path:
                raise InvalidInput(f"{one.path} would be copied onto itself")
            _copy(here, there, one.path, goal, start, end, not no_metadata, dry_run)


def _copy(
    here: Place, there: Place, path: str, goal: str, start: int | None, end: int | None, metadata: bool, dry: bool
) -> None:
    layout = here.layout(path)
    missing = here.intervals(path, start, end)
    if _has(there, goal):
        if there.layout(goal) != layout:
            raise InvalidInput(f"{goal} has the layout {there.layout(goal).name} at the destination, not {layout.name}")
        missing -= there.intervals(goal, start, end)
    elif not dry:
        there.create(goal, layout.name)
    if dry:
        rows = sum(here.count(path, low, high) for low, high in missing)
        click.echo(f"{path}: {rows:,} rows in {len(missing)} intervals would be copied")
        return
    if metadata and here.metadata(path) != there.metadata(goal):
        there.set_metadata(goal, here.metadata(path))
    with progress(f"copy {path}", "rows") as report:
        rows = 0
        for low, high in missing:
            rows = _fill(there, goal, _blocks(here.chunks(path, low, high), layout.rows), low, high, rows, report)
    click.echo(f"{path}: {rows:,} rows in {len(missing)} intervals copied")


def _fill(there: Place, goal: str, blocks: Iterator[Array], low: int, high: int, done: int, report: Report) -> int:
    """Insert blocks that together cover `[low, high)`: each is whole, and a copy that is cut off goes on from there."""
    held: Array | None = None
    for block in blocks:
        if held is not None:
            end = int(block[TIMESTAMP][0])
            there.insert(goal, held, low, end)
            low = end
        held = block
        done += len(block)
        report(done, None)
    none = np.empty(0, there.layout(goal).rows)
    there.insert(goal, none if held is None else held, low, high)
    return done


def _blocks(chunks: Iterator[Array], dtype: np.dtype[Any]) -> Iterator[Array]:
    held: list[Array] = []
    size = 0
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size >= _BLOCK:
            yield np.concatenate(held)
            held, size = [], 0
    if held:
        yield np.concatenate(held)


@click.command(short_help="Make a stream of means, minima and maxima.")
@target
@click.argument("source")
@click.argument("destination")
@click.option(
    "--factor", "-f", metavar="N", type=click.IntRange(2, 10**6), default=4, show_default=True, help="Rows in one."
)
@dry_run
def decimate(*, target: str, source: str, destination: str, factor: int, dry_run: bool) -> None:
    """Make the stream DESTINATION of means, minima and maxima over every FACTOR rows of SOURCE.

    It has three times the columns, as float32 or float64: all means, all minima, all maxima. Groups do not reach across
    gaps. What DESTINATION covers already is not made again.
    """
    with place(target, write=not dry_run) as there:
        layout = there.layout(source)
        wide = Layout.parse(f"{_float(layout)}_{3 * layout.count}")
        if _has(there, destination):
            if there.layout(destination) != wide:
                raise InvalidInput(f"{destination} has the layout {there.layout(destination).name}, not {wide.name}")
            missing = there.intervals(source, None, None) - there.intervals(destination, None, None)
        else:
            missing = there.intervals(source, None, None)
            if not dry_run:
                there.create(destination, wide.name)
        rows = sum(there.count(source, low, high) for low, high in missing)
        if dry_run:
            click.echo(f"{source}: {rows:,} rows in {len(missing)} intervals would be decimated")
            return
        with progress(f"decimate {source}", "rows") as report:
            made = 0
            for low, high in missing:
                groups = _groups(there.chunks(source, low, high), layout, wide, factor)
                made = _fill(there, destination, _blocks(groups, wide.rows), low, high, made, report)
    click.echo(f"{destination}: {made:,} rows made of {rows:,}")


def _float(layout: Layout) -> str:
    return "float32" if np.can_cast(layout.dtype, np.float32, "safe") else "float64"


def _groups(chunks: Iterator[Array], layout: Layout, wide: Layout, factor: int) -> Iterator[Array]:
    rest = np.empty(0, layout.rows)
    for chunk in chunks:
        rows = np.concatenate([rest, chunk]) if len(rest) else chunk
        whole = len(rows) // factor * factor
        if whole:
            yield grouped(rows[:whole], factor, wide)
        rest = rows[whole:]
    if len(rest):
        yield grouped(rest, factor, wide)


def _has(there: Place, path: str) -> bool:
    try:
        there.layout(path)
    except NotFound:
        return False
    return True
