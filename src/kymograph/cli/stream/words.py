"""Arguments and options that the verbs of streams share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from kymograph.cli.stream.place import Entry, Place
from kymograph.cli.words import TIME
from kymograph.errors import NotFound
from kymograph.model.time import isoformat

_F = TypeVar("_F", bound=Callable[..., Any])
target = click.argument("target")
path = click.argument("path")
dry_run = click.option("--dry-run", "-n", is_flag=True, help="Only say what would be done.")
raw_times = click.option("--raw-times", "-T", is_flag=True, help="Print times as int µs.")


def span(verb: _F) -> _F:
    """`--start` and `--end`."""
    verb = click.option("--end", "-e", type=TIME, help="End of the range, itself outside; default: open.")(verb)
    return click.option("--start", "-s", type=TIME, help="First time; default: open.")(verb)


def shown(time: int | None, raw: bool = False) -> str:
    """A time as it is printed."""
    return "-" if time is None else str(time) if raw else isoformat(time)


def matched(there: Place, pattern: str) -> list[Entry]:
    """The streams that a path with wildcards names. Raises NotFound when there is none."""
    found = there.entries(pattern)
    if not found:
        raise NotFound(f"there is no stream {pattern}")
    return found
