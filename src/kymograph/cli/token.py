"""`kymo token`: who may use the server from other machines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import click

from kymograph.cli.server import admitted, is_server
from kymograph.cli.words import default_folder, opened
from kymograph.client.http import Connection
from kymograph.errors import StoreLocked
from kymograph.model.time import isoformat
from kymograph.store import tokens

if TYPE_CHECKING:
    from kymograph.store.store import Store

_target = click.argument("target", metavar="[DIR|URL]", required=False, default=lambda: str(default_folder()))


class _Tokens(Protocol):
    def create(self, role: str, name: str) -> str: ...

    def list(self) -> list[dict[str, Any]]:
        """Each has `id`, `role`, `created` (ISO 8601) and `name`."""

    def revoke(self, id: str) -> None: ...


class _OfFolder:
    def __init__(self, store: Store) -> None:
        self._engine = store.engine

    def create(self, role: str, name: str) -> str:
        return tokens.create(self._engine, role, name)

    def list(self) -> list[dict[str, Any]]:
        return [{**one, "created": isoformat(one["created"])} for one in tokens.list(self._engine)]

    def revoke(self, id: str) -> None:
        tokens.revoke(self._engine, id)


class _OfServer:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(self, role: str, name: str) -> str:
        found: str = json.loads(self._connection.post("/api/tokens", {"role": role, "name": name}))["token"]
        return found

    def list(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._connection.get_json("/api/tokens", {})
        return found

    def revoke(self, id: str) -> None:
        self._connection.delete(f"/api/tokens/{quote(id, safe='')}")


@contextmanager
def _tokens(target: str, **how: Any) -> Iterator[_Tokens]:
    if is_server(target):
        with admitted() as token, closing(Connection(target, token)) as connection:
            yield _OfServer(connection)
        return
    try:
        with opened(Path(target), **how) as store:
            yield _OfFolder(store)
    except StoreLocked as problem:
        problem.hint = "if it is kymo serve, give its URL in place of the folder"
        raise


@click.group()
def token() -> None:
    """Create, list and revoke access tokens of the server.

    One that runs takes its URL in place of DIR, and an admin's token in the environment variable KYMO_TOKEN.
    """


@token.command()
@_target
@click.option("--role", type=click.Choice(tokens.ROLES), required=True, help="Each may do what the ones before it may.")
@click.option("--name", default="", metavar="TEXT", help="What it is for.")
def create(target: str, role: str, name: str) -> None:
    """Create a token and print it: the only time it can be seen."""
    with _tokens(target, create=True) as place:
        made = place.create(role, name)
    click.echo(made)
    click.echo("keep it: it is stored as a hash and cannot be shown again", err=True)


@token.command("list")
@_target
def list_(target: str) -> None:
    """List the tokens by id, of a folder also beside its server."""
    with _tokens(target, read_only=True) as place:
        found = place.list()
    for one in found:
        click.echo(f"{one['id']}  {one['role']:<5}  {one['created']}  {one['name']}".rstrip())
    if not found:
        click.echo("no tokens", err=True)


@token.command()
@_target
@click.argument("id")
def revoke(target: str, id: str) -> None:
    """Refuse the token with this ID from now on."""
    with _tokens(target) as place:
        place.revoke(id)
    click.echo(f"token {id} is revoked", err=True)
