"""`kymo retention`: ages of some scalar series, shorter than that of all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from kymograph.cli.words import DURATION, folder, opened
from kymograph.model.schema import SAMPLES
from kymograph.model.time import isoformat
from kymograph.options import Retention
from kymograph.store.rollups.definition import duration


@click.group(short_help="List, set and drop ages of some series.")
def retention() -> None:
    """List, set and drop ages of some series: {team="juniors"} after 3 days, and all else as ever."""


@retention.command("list", short_help="List the selectors that have an age.")
@folder
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
def list_(dir: Path, as_json: bool) -> None:
    """List the selectors that have an age; works beside a running server."""
    with opened(dir, read_only=True) as store:
        found = store.series_retention()
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        _show(found)


@retention.command("set", short_help="Let samples of SERIES go after AGE.")
@folder
@click.argument("series")
@click.argument("age", type=DURATION)
def set_(dir: Path, series: str, age: int) -> None:
    """Let samples of SERIES, a selector in PromQL, go once they are older than AGE."""
    with opened(dir) as store:
        store.set_retention(SAMPLES, Retention(age=age), series=series)
        _show(store.series_retention())


@retention.command()
@folder
@click.argument("series")
def drop(dir: Path, series: str) -> None:
    """Take the age of SERIES away; what has gone stays gone."""
    with opened(dir) as store:
        store.set_retention(SAMPLES, None, series=series)
    click.echo(f"{series} has no age of its own", err=True)


def _show(lines: list[dict[str, Any]]) -> None:
    for one in lines:
        upto = "nothing has gone yet" if one["boundary"] is None else f"gone before {isoformat(one['boundary'])}"
        click.echo(f"{one['series']}  {duration(one['age'])}  {one['matched']:,} series, {upto}")
    if not lines:
        click.echo("no series have an age of their own", err=True)
