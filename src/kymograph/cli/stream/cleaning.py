"""`kymo stream cleanup`: bounds of streams from a file, with an estimate of the disk they need.

The file is INI. Each section is a path, which may have wildcards; the first section that matches a stream counts:

    [/meter/*/raw]
    keep = 3w        ; covered time that is kept, the oldest goes first
    age = 90d        ; nothing older than this before now
    rate = 8000      ; rows per second, for the estimate of streams with little data yet
"""

from __future__ import annotations

import configparser
import fnmatch
import time
from dataclasses import dataclass
from pathlib import Path

import click

from kymograph.cli.stream.place import Entry, Place, place
from kymograph.cli.stream.words import shown, target
from kymograph.errors import InvalidInput
from kymograph.model.stream import Layout, StreamRetention, cut_at
from kymograph.options import parse_duration

_KEYS = ("keep", "age", "rate")


@dataclass(frozen=True)
class Bound:
    """What one section says: µs, and rows per second."""

    pattern: str
    keep: int | None
    age: int | None
    rate: float | None


@click.command(short_help="Remove the oldest rows of streams.")
@target
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--estimate", is_flag=True, help="Say how much each stream will take once it holds all it may.")
@click.option("--yes", "-y", is_flag=True, help="Really remove; without it only say what would go.")
def cleanup(*, target: str, config: Path, estimate: bool, yes: bool) -> None:
    """Remove the oldest rows of streams by the bounds in CONFIG, an INI file: a section per path, with keep, age, rate."""
    if estimate and yes:
        raise click.UsageError("--estimate and --yes do not go together")
    bounds = read_config(config)
    with place(target, write=yes) as there:
        for entry in there.entries():
            bound = next((one for one in bounds if fnmatch.fnmatchcase(entry.path, one.pattern)), None)
            if bound is None:
                continue
            if estimate:
                click.echo(_estimate(entry, bound))
            else:
                _clean(there, entry, bound, yes)


def read_config(file: Path) -> list[Bound]:
    """The sections of a file, in order. Raises InvalidInput, which names section and key."""
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=(";",))
    try:
        parser.read_string(file.read_text("utf-8"), str(file))
    except (configparser.Error, UnicodeDecodeError) as problem:
        raise InvalidInput(f"{file} cannot be read: {str(problem).splitlines()[0]}") from None
    found = []
    for name in parser.sections():
        section = parser[name]
        strange = sorted(set(section) - set(_KEYS))
        if strange:
            raise InvalidInput(f"{file}: [{name}] has an unknown key {strange[0]}", hint="one of " + ", ".join(_KEYS))
        spans = {}
        for key in ("keep", "age"):
            text = section.get(key)
            spans[key] = None if text is None else parse_duration(text)
            if spans[key] == 0:
                raise InvalidInput(f"{file}: [{name}] {key} must be positive")
        rate = section.get("rate")
        try:
            number = None if rate is None else float(rate)
        except ValueError:
            number = -1.0
        if number is not None and not 0 < number <= 1e6:
            raise InvalidInput(f"{file}: [{name}] rate must be rows per second, not {rate}")
        if spans["keep"] is None and spans["age"] is None:
            raise InvalidInput(f"{file}: [{name}] bounds nothing", hint="give keep or age")
        found.append(Bound(name, spans["keep"], spans["age"], number))
    return found


def _clean(there: Place, entry: Entry, bound: Bound, yes: bool) -> None:
    bounds = StreamRetention(age=bound.age, keep=bound.keep)
    before = cut_at(there.intervals(entry.path, None, None), bounds, None, time.time_ns() // 1000)
    if before is None:
        click.echo(f"{entry.path}: nothing to remove")
        return
    rows = there.remove(entry.path, None, before) if yes else there.count(entry.path, None, before)
    click.echo(f"{entry.path}: {rows:,} rows before {shown(before)} {'removed' if yes else 'would be removed'}")


def _estimate(entry: Entry, bound: Bound) -> str:
    spans = [span for span in (bound.keep, bound.age) if span is not None]
    rate = bound.rate
    if rate is None and entry.covered:
        rate = entry.rows / (entry.covered / 1e6)
    if rate is None:
        return f"{entry.path}: nothing is known of its rate"
    rows = rate * min(spans) / 1e6
    size = rows * Layout.parse(entry.layout).rows.itemsize
    return f"{entry.path}: {rows:,.0f} rows, at most {size / 1e9:,.3f} GB before compression"
