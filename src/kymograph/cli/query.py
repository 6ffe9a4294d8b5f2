"""`kymo sql`: ask in SQL, beside a running server too."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import pyarrow as pa

from kymograph.cli.output import FORMATS, write_rows
from kymograph.cli.words import FOLDER, opened, pairs
from kymograph.options import QueryLimits


@click.command(short_help="Ask the store in DIR in SQL.")
@click.argument("dir", type=FOLDER)
@click.argument("query")
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="How rows are written."
)
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file; default: standard output.",
)
@click.option("--param", "-p", "params", multiple=True, metavar="NAME=TEXT", help="Value of $NAME; may be repeated.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=None,
    metavar="SECONDS",
    help="Give up after so long; default: never.",
)
def sql(
    *, dir: Path, query: str, form: str, output: Path | None, params: tuple[str, ...], timeout: float | None
) -> None:
    """Run the SQL statement QUERY on the store in DIR; - reads it from standard input.

    \b
    kymo sql DIR "SELECT time, host, value FROM metric.cpu_percent ORDER BY time DESC LIMIT 10"
    kymo sql DIR "SELECT * FROM latest.gpu_metrics" --format json
    """
    given = {name: values[-1] for name, values in pairs(params, "--param").items()}
    text = sys.stdin.read() if query == "-" else query
    with opened(dir, read_only=True) as store:
        result = store.sql(text, given, limits=QueryLimits(timeout=timeout))
        write_rows(pa.RecordBatchReader.from_batches(result.schema, result.batches()), form, output)
