"""`kymo info`, `check`, `compact`, `prune`: looking at a store and keeping it in order."""

from __future__ import annotations

import json
import time as clock
from pathlib import Path
from typing import Any

import click

from kymograph.cli.progress import progress
from kymograph.cli.words import DURATION, SIZE, folder, opened
from kymograph.model.time import isoformat


@click.command(short_help="Show what is stored in DIR.")
@folder
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON; times and durations in µs.")
def info(dir: Path, as_json: bool) -> None:
    """Show what is stored in DIR; works beside a running server."""
    with opened(dir, read_only=True) as store:
        found = store.info()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    cap = "no cap" if found["cap_bytes"] is None else f"cap {_bytes(found['cap_bytes'])}"
    click.echo(f"{found['path']}  (Kymograph {found['version']})")
    click.echo(f"{_bytes(found['usage_bytes'])} on disk, {found['rows']:,} rows, {found['series']:,} series, {cap}")
    if found["oldest"] is not None:
        click.echo(f"{isoformat(found['oldest'])} … {isoformat(found['newest'])}")
    for name, table in found["tables"].items():
        click.echo("")
        click.echo(_table_lines(name, table))
    for note in found["notes"]:
        click.echo(f"\nnote: {note}")
    for job in found["jobs"][-3:]:
        click.echo(
            f"\njob {job['job']} {isoformat(job['finished'])} {'ok' if job['ok'] else 'FAILED'}: {job['detail']}"
        )


def _table_lines(name: str, table: dict[str, Any]) -> str:
    lines = [f"{name}: {table['rows']:,} rows, {table['series']:,} series"]
    if table["oldest"] is not None:
        lines.append(f"  {isoformat(table['oldest'])} … {isoformat(table['newest'])}")
    each = "" if table["bytes_per_value"] is None else f", {table['bytes_per_value']:.2f} bytes/value"
    lines.append(
        f"  sealed {_bytes(table['sealed_bytes'])} in {table['blocks']:,} blocks of {table['partitions']:,} partitions"
        f"{each}; hot {table['hot_rows']:,} rows, {_bytes(table['hot_bytes'])}"
    )
    return "\n".join(lines)


@click.command(short_help="Verify everything stored in DIR.")
@folder
@click.option("--repair", is_flag=True, help="Salvage every undamaged row of what is damaged.")
def check(dir: Path, repair: bool) -> int:
    """Verify everything stored in DIR; fails when something is damaged and was not repaired."""
    with opened(dir, read_only=not repair) as store, progress("check", "blocks") as report:
        found = store.check(repair, lambda done, total: report(done, done / total if total else None))
    for damage in found.damages:
        lost = "" if damage.rows_lost is None else f", {damage.rows_lost:,} rows lost"
        click.echo(f"{damage.table} {damage.place}: {damage.problem}{lost}{', repaired' if damage.repaired else ''}")
    for note in found.notes:
        click.echo(f"note: {note}")
    click.echo(f"{found.blocks:,} blocks, {_bytes(found.bytes)} verified, {len(found.damages)} damaged")
    left = [damage for damage in found.damages if not damage.repaired]
    if left and not repair:
        click.echo("`kymo check --repair` salvages what can be read", err=True)
    return 1 if left else 0


@click.command(short_help="Seal hot rows and merge small blocks now.")
@folder
def compact(dir: Path) -> None:
    """Seal hot rows and merge small blocks in DIR now, instead of waiting for the background to do it."""
    with opened(dir) as store:
        sealed = store.seal()
        with progress("compact", "blocks") as report:
            merged = store.compact(lambda done, total: report(done, done / total if total else None))
    click.echo(f"{sealed:,} rows sealed, {merged:,} blocks fewer")


@click.command()
@folder
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--force", is_flag=True, help="Apply ages to the row: also inside younger blocks, and unsealed rows.")
@click.option("--cap", type=SIZE, help="Bytes the folder may take; default: unbounded.")
@click.option(
    "--retention", type=DURATION, help="How long rows of tables without an own bound are kept; default: for ever."
)
def prune(dir: Path, dry_run: bool, force: bool, cap: int | None, retention: int | None) -> None:
    """Remove what is beyond its bounds in DIR.

    Tables keep the bounds they were given; the store-wide ones belong to whoever opens the store, so say them here as
    you say them to kymo serve.
    """
    with opened(dir, read_only=dry_run, cap=cap, age=retention) as store:
        started = clock.monotonic()
        report = store.prune(dry_run=dry_run, force=force)
    for victim in report.victims:
        click.echo(
            f"{victim.table}  {isoformat(victim.start)} … {isoformat(victim.end)}  "
            f"{victim.rows:,} rows  {_bytes(victim.bytes)}  ({victim.reason})"
        )
    verb = "would go" if dry_run else f"went in {clock.monotonic() - started:.1f} s"
    click.echo(f"{len(report.victims):,} partitions, {report.rows:,} rows, {_bytes(report.bytes)} {verb}")


def _bytes(size: int | None) -> str:
    if size is None:
        return "?"
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
