"""`kymo rollup` and `kymo downsample`: summaries beside the samples, and in place of them."""

from __future__ import annotations

import json
from pathlib import Path

import click

from kymograph.cli.words import DURATION, TIME, folder, opened, pairs
from kymograph.model.time import isoformat
from kymograph.options import Retention
from kymograph.store.rollups.definition import duration


@click.group(short_help="Create, list, refresh and drop rollups.")
def rollup() -> None:
    """Create, list, refresh and drop rollups: summaries per bucket that are kept fresh."""


@rollup.command("list")
@folder
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON; times and durations in µs.")
def list_(dir: Path, as_json: bool) -> None:
    """List the rollups; works beside a running server."""
    with opened(dir, read_only=True) as store:
        found = store.rollups()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for one in found:
        source = one["source"] or "SQL"
        waiting = f", {one['waiting']} stretches to make anew" if one["waiting"] else ""
        click.echo(
            f"{one['name']}  {source} every {duration(one['every'])} by {', '.join(one['by']) or 'nothing'}"
            f"  {one['rows']:,} rows, fresh until {isoformat(one['fresh_until'])}{waiting}"
        )
    if not found:
        click.echo("no rollups", err=True)


@rollup.command()
@folder
@click.argument("name")
@click.option("--source", default="samples", show_default=True, metavar="NAME", help="samples, a table or a rollup.")
@click.option("--every", type=DURATION, default="1m", show_default=True, help="Width of a bucket.")
@click.option(
    "--by",
    multiple=True,
    metavar="LABEL",
    help="Tell rows apart by this label; may be repeated; default: every series.",
)
@click.option(
    "--field",
    "fields",
    multiple=True,
    metavar="FIELD",
    help="Only this field of a table; may be repeated; default: all numbers.",
)
@click.option("--query", metavar="SQL", help="A SELECT with time_bucket in place of source, by and fields.")
@click.option("--keep", type=DURATION, help="Age after which the rollup's own rows go; default: never.")
@click.option(
    "--start-offset", type=DURATION, help="Late data further back than this is not looked at; default: all is."
)
@click.option(
    "--end-offset", type=DURATION, default="1m", show_default=True, help="How long after its end a bucket is made."
)
def create(
    dir: Path,
    name: str,
    source: str,
    every: int,
    by: tuple[str, ...],
    fields: tuple[str, ...],
    query: str | None,
    keep: int | None,
    start_offset: int | None,
    end_offset: int,
) -> None:
    """Create the rollup NAME and make what is there already."""
    with opened(dir) as store:
        made = store.create_rollup(
            name,
            source,
            every,
            by or None,
            fields or None,
            None if keep is None else Retention(age=keep),
            start_offset,
            end_offset,
            query=query,
        )
    click.echo(f"{made['rows']:,} rows, fresh until {isoformat(made['fresh_until'])}")


@rollup.command()
@folder
@click.argument("name")
@click.option("--start", type=TIME, help="Make buckets from here on anew.")
@click.option("--end", type=TIME, help="Make buckets before this anew.")
def refresh(dir: Path, name: str, start: int | None, end: int | None) -> None:
    """Bring the rollup NAME up to date."""
    with opened(dir) as store:
        rows = store.refresh_rollup(name, start, end)
    click.echo(f"{rows:,} rows written")


@rollup.command()
@folder
@click.argument("name")
def drop(dir: Path, name: str) -> None:
    """Forget the rollup NAME with its rows."""
    with opened(dir) as store:
        store.drop_rollup(name)
    click.echo(f"rollup {name} is dropped", err=True)


@click.command(short_help="Replace scalar samples by summaries in place.")
@folder
@click.option("--older-than", type=DURATION, help="Replace samples older than this now.")
@click.option("--interval", type=DURATION, help="Width of the summaries' buckets.")
@click.option(
    "--policy", metavar="TEXT", help="Do so from now on, such as 1h -> 1m, 1w -> 5m, 30d -> 1h; an empty one ends it."
)
@click.option("--name", metavar="METRIC", help="Only this metric.")
@click.option(
    "--label", "labels", multiple=True, metavar="NAME=VALUE", help="Only series with this label; may be repeated."
)
def downsample(
    dir: Path,
    older_than: int | None,
    interval: int | None,
    policy: str | None,
    name: str | None,
    labels: tuple[str, ...],
) -> None:
    """Replace scalar samples by summaries in place, or show what is; without options it works beside a running server."""
    chosen = pairs(labels, "--label") or None
    if policy is None and older_than is None and interval is None:
        with opened(dir, read_only=True) as store:
            _show(store.downsample_policies())
        return
    if policy is None and (older_than is None or interval is None):
        raise click.UsageError("give --older-than and --interval, or --policy")
    with opened(dir) as store:
        if policy is not None:
            _show(store.downsample_policy(policy, name, chosen))
            return
        assert older_than is not None
        assert interval is not None
        done = store.downsample(older_than, interval, name, chosen)
    click.echo(f"{done['samples']:,} samples replaced by {done['summaries']:,} summaries")


def _show(policies: list[dict[str, object]]) -> None:
    for one in policies:
        older = one["older_than"]
        when = f"older than {duration(older)}" if isinstance(older, int) else "by hand"
        upto = one["boundary"]
        until = f"up to {isoformat(upto)}" if isinstance(upto, int) else "nothing yet"
        interval = one["interval"]
        assert isinstance(interval, int)
        click.echo(f"{when} -> {duration(interval)}  {json.dumps(one['labels'])}  {until}")
    if not policies:
        click.echo("nothing is downsampled", err=True)
