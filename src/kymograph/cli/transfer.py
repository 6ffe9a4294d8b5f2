"""`kymo import` and `kymo export`: rows in and out of files and pipes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from kymograph.cli.output import write_rows
from kymograph.cli.progress import Report, progress
from kymograph.cli.words import DURATION, FOLDER, SIZE, TIME, label_filter, opened, pairs
from kymograph.errors import NotFound
from kymograph.model.matcher import matchers_of
from kymograph.store.exchange.form import form_of
from kymograph.store.exchange.imports import import_rows

_FORMS = click.Choice(["csv", "json", "parquet", "arrow"])


@click.command("import", short_help="Store the rows of files in TABLE.")
@click.argument("dir", type=FOLDER)
@click.argument("table")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--format", "form", type=_FORMS, help="Default: what the name of each file tells.")
@click.option(
    "--labels", metavar="A,B", help="Label columns, added where TABLE lacks them; default: every text column."
)
@click.option("--cap", type=SIZE, help="Bytes the folder may take, as for kymo serve; default: unbounded.")
@click.option("--retention", type=DURATION, help="How long rows are kept; default: for ever.")
def import_(
    *,
    dir: Path,
    table: str,
    files: tuple[str, ...],
    form: str | None,
    labels: str | None,
    cap: int | None,
    retention: int | None,
) -> None:
    """Store the rows of each FILE in TABLE; - is standard input, which needs --format.

    Text is CSV with a header or JSON lines (also .gz, .zst, .bz2); the column time is ISO 8601 or int µs. A new table
    gets its types from all of its rows. The store is made when there is none.
    """
    names = None if labels is None else [name for name in labels.split(",") if name]
    for file in files:
        if file == "-" and form is None:
            raise click.UsageError("standard input needs --format")
        if file != "-" and not Path(file).exists():
            raise NotFound(f"there is no file {file}")
        form_of(file, form)
    with opened(dir, create=True, cap=cap, age=retention) as store:
        for file in files:
            given: Any = sys.stdin.buffer if file == "-" else file
            stored = 0
            with progress(f"import {file}", "rows") as report:

                def told(done: int, part: float | None, report: Report = report) -> None:
                    nonlocal stored
                    stored = done
                    report(done, part)

                try:
                    rows = import_rows(store, table, given, form=form, labels=names, progress=told)
                except KeyboardInterrupt:
                    click.echo(f"{file}: interrupted; {stored:,} rows are stored in {table}", err=True)
                    raise
            click.echo(f"{file}: {rows:,} rows stored in {table}", err=True)


@click.command("export", short_help="Write the rows of TABLE to a file or a pipe.")
@click.argument("dir", type=FOLDER)
@click.argument("table")
@click.option("--start", type=TIME, help="First time; default: the oldest row.")
@click.option("--end", type=TIME, help="End of the range, itself outside; default: the newest row.")
@label_filter
@click.option("--columns", metavar="A,B", help="Only these columns; default: all.")
@click.option("--format", "form", type=_FORMS, help="Default: what the name of the file tells, else csv.")
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file; default: standard output.",
)
def export_(
    *,
    dir: Path,
    table: str,
    start: int | None,
    end: int | None,
    labels: tuple[str, ...],
    columns: str | None,
    form: str | None,
    output: Path | None,
) -> None:
    """Write the rows of TABLE in the order of time, to standard output or a file; works beside a running server."""
    if form is None:
        form = "csv" if output is None else form_of(output.name)
    wanted = pairs(labels, "--label")
    names = None if columns is None else [name for name in columns.split(",") if name]
    with opened(dir, read_only=True) as store:
        reader = store.reader(table, wanted, start, end, names)
        total = store.engine.scan(table, matchers_of(wanted), start, end, []).rows
        schema = store.tables()[table] if names is None else None
        with progress(f"export {table}", "rows") as report:
            # the engine's count is an upper bound
            write_rows(
                reader, form, output, schema, lambda done: report(done, min(1.0, done / total) if total else None)
            )
