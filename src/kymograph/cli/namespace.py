"""`kymo namespace`: stores inside a store, for applications that share a folder and nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from kymograph.cli.words import DURATION, SIZE, folder, opened


@click.group(short_help="Create and list stores inside a store.")
def namespace() -> None:
    """Create and list namespaces: DIR/namespaces/NAME is a store of its own that every verb takes."""


@namespace.command()
@folder
@click.argument("name")
@click.option("--cap", type=SIZE, help="Bytes it may take beside the cap of DIR; default: unbounded.")
@click.option("--age", type=DURATION, help="Age after which its rows go; default: never.")
def create(dir: Path, name: str, cap: int | None, age: int | None) -> None:
    """Create a namespace in the store DIR."""
    with opened(dir, create=True) as store:
        made = store.create_namespace(name, cap=cap, age=age)
        click.echo(made.path)


@namespace.command("list", short_help="List the namespaces of the store DIR.")
@folder
def list_(dir: Path) -> None:
    """List the namespaces of the store DIR; works beside a running server."""
    with opened(dir, read_only=True) as store:
        names = store.namespaces()
    for name in names:
        click.echo(name)
    if not names:
        click.echo("no namespaces", err=True)
