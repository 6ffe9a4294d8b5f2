"""`kymo stream list | intervals | metadata`: what there is."""

from __future__ import annotations

import json

import click

from kymograph.cli.stream.place import place
from kymograph.cli.stream.words import matched, path, raw_times, shown, span, target
from kymograph.errors import InvalidInput


@click.command("list", short_help="List streams with their layouts.")
@target
@click.argument("path", default="*")
@click.option("--extended", "-E", is_flag=True, help="Also extent, rows and covered time.")
@click.option("--layout", metavar="LAYOUT", help="Only streams of this layout, such as uint16_6.")
@raw_times
def list_(*, target: str, path: str, extended: bool, layout: str | None, raw_times: bool) -> None:
    """List the streams that PATH matches, with their layouts."""
    with place(target) as there:
        for one in there.entries(path):
            if layout not in (None, one.layout):
                continue
            click.echo(f"{one.path} {one.layout}")
            if extended:
                extent = f"{shown(one.start, raw_times)} -> {shown(one.end, raw_times)}"
                click.echo(f"  extent: {extent}\n  rows: {one.rows:,}\n  covered: {one.covered / 1e6:,.6f} s")


@click.command()
@target
@path
@span
@click.option("--diff", metavar="PATH", help="Only what this stream does not cover.")
@raw_times
def intervals(*, target: str, path: str, start: int | None, end: int | None, diff: str | None, raw_times: bool) -> None:
    """Print what PATH covers, an interval a line."""
    with place(target) as there:
        found = there.intervals(path, start, end)
        if diff is not None:
            found -= there.intervals(diff, start, end)
        for low, high in found:
            click.echo(f"[ {shown(low, raw_times)} -> {shown(high, raw_times)} ]")


@click.command(short_help="Print or change the metadata of PATH.")
@target
@path
@click.option("--get", "-g", "keys", multiple=True, metavar="KEY", help="Only this key; may be repeated.")
@click.option("--set", "-s", "whole", multiple=True, metavar="KEY=VALUE", help="Replace all metadata by these.")
@click.option("--update", "-u", "changes", multiple=True, metavar="KEY=VALUE", help="Set a key.")
@click.option("--delete", "-d", "gone", multiple=True, metavar="KEY", help="Remove a key.")
def metadata(
    *,
    target: str,
    path: str,
    keys: tuple[str, ...],
    whole: tuple[str, ...],
    changes: tuple[str, ...],
    gone: tuple[str, ...],
) -> None:
    """Print or change the metadata of PATH; values are text, or JSON where they parse as such."""
    changing = bool(whole or changes or gone)
    if changing and keys:
        raise click.UsageError("--get and changes do not go together")
    with place(target, write=changing) as there:
        if not changing:
            found = there.metadata(path)
            for key in keys or sorted(found):
                click.echo(f"{key}={_text(found.get(key))}")
            return
        for one in matched(there, path):
            new = dict(map(_pair, whole)) if whole else there.metadata(one.path)
            new |= dict(map(_pair, changes))
            there.set_metadata(one.path, {key: value for key, value in new.items() if key not in gone})


def _pair(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise InvalidInput(f"{text!r} is not KEY=VALUE")
    if value[:1] in ("{", "["):
        try:
            return key, json.loads(value)
        except ValueError:
            return key, value
    return key, value


def _text(value: object) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
