"""`kymo stream create | rename | remove | destroy`."""

from __future__ import annotations

import click

from kymograph.cli.stream.place import place
from kymograph.cli.stream.words import dry_run, matched, path, shown, span, target
from kymograph.errors import InvalidInput


@click.command(short_help="Make the stream PATH of LAYOUT.")
@target
@path
@click.argument("layout")
def create(target: str, path: str, layout: str) -> None:
    """Make the stream PATH of LAYOUT: <type>_<count>, such as uint16_6 or float32_8."""
    with place(target, write=True, create=True) as there:
        there.create(path, layout)


@click.command()
@target
@click.argument("old")
@click.argument("new")
def rename(target: str, old: str, new: str) -> None:
    """Move the stream OLD to NEW."""
    with place(target, write=True) as there:
        there.rename(old, new)


@click.command(short_help="Remove rows of PATH and uncover their time.")
@target
@path
@span
@dry_run
def remove(*, target: str, path: str, start: int | None, end: int | None, dry_run: bool) -> None:
    """Remove rows of PATH and uncover their time; without --start and --end all of them."""
    with place(target, write=not dry_run) as there:
        for one in matched(there, path):
            rows = there.count(one.path, start, end) if dry_run else there.remove(one.path, start, end)
            click.echo(f"{one.path}: {rows:,} rows {'would be removed' if dry_run else 'removed'}")


@click.command(short_help="Forget streams that cover nothing.")
@target
@path
@click.option("--remove", "-R", "force", is_flag=True, help="Also when it has rows or covers time.")
@dry_run
def destroy(*, target: str, path: str, force: bool, dry_run: bool) -> None:
    """Forget the stream PATH; one that covers time only with --remove."""
    with place(target, write=not dry_run) as there:
        found = matched(there, path)
        for one in found:
            if one.start is not None and not force:
                raise InvalidInput(
                    f"{one.path} covers {shown(one.start)} to {shown(one.end)} with {one.rows:,} rows",
                    hint="--remove destroys it with them",
                )
        for one in found:
            if not dry_run:
                there.destroy(one.path)
            click.echo(f"{one.path}: {'would be ' if dry_run else ''}destroyed, {one.rows:,} rows")
