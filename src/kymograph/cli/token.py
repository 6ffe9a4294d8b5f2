"""`kymo token`: who may use the server from other machines."""

from __future__ import annotations

from pathlib import Path

import click

from kymograph.cli.words import folder, opened
from kymograph.model.time import isoformat
from kymograph.store import tokens


@click.group()
def token() -> None:
    """Create, list and revoke access tokens of the server."""


@token.command()
@folder
@click.option("--role", type=click.Choice(tokens.ROLES), required=True, help="Each may do what the ones before it may.")
@click.option("--name", default="", metavar="TEXT", help="What it is for.")
def create(dir: Path, role: str, name: str) -> None:
    """Create a token and print it: the only time it can be seen."""
    with opened(dir, create=True) as store:
        made = tokens.create(store.engine, role, name)
    click.echo(made)
    click.echo("keep it: it is stored as a hash and cannot be shown again", err=True)


@token.command("list")
@folder
def list_(dir: Path) -> None:
    """List the tokens by id; works beside a running server."""
    with opened(dir, read_only=True) as store:
        found = tokens.list(store.engine)
    for one in found:
        click.echo(f"{one['id']}  {one['role']:<5}  {isoformat(one['created'])}  {one['name']}".rstrip())
    if not found:
        click.echo("no tokens", err=True)


@token.command()
@folder
@click.argument("id")
def revoke(dir: Path, id: str) -> None:
    """Refuse the token with this ID from now on."""
    with opened(dir) as store:
        tokens.revoke(store.engine, id)
    click.echo(f"token {id} is revoked", err=True)
