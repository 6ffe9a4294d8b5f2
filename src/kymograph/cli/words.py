"""Arguments and options that several verbs share, and the words they are written in."""

from __future__ import annotations

import re
import time as clock
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import platformdirs

from kymograph.connect import connect
from kymograph.errors import Corrupt, InvalidInput, NotFound, StoreLocked
from kymograph.model.time import to_micros
from kymograph.options import parse_duration, parse_size

if TYPE_CHECKING:
    from kymograph.store.store import Store

_F = TypeVar("_F", bound=Callable[..., Any])


# generic for type checkers of newer click, never at run time
if TYPE_CHECKING:
    _IntType = click.ParamType[int]
else:
    _IntType = click.ParamType


class _Parsed(_IntType):
    """Text that one of our parsers understands; its message becomes the usage error."""

    def __init__(self, name: str, parse: Callable[[str], int]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return self._parse(value)
        except InvalidInput as problem:
            self.fail(str(problem), param, ctx)


def _moment(text: str) -> int:
    """ISO 8601, int µs (also after an @), or a duration before now."""
    text = text.removeprefix("@")
    if re.fullmatch(r"-?[0-9]{1,19}", text, re.ASCII):
        return to_micros(int(text))
    if re.fullmatch(r"([0-9.]+(us|ms|s|m|h|d|w|y))+", text, re.ASCII):
        return clock.time_ns() // 1000 - parse_duration(text)
    try:
        return to_micros(text)
    except InvalidInput as problem:
        problem.hint = "give 2026-01-31T12:00:00Z, int µs since 1970, or a duration before now, such as 24h"
        raise


DURATION = _Parsed("DURATION", parse_duration)
SIZE = _Parsed("SIZE", parse_size)
TIME = _Parsed("TIME", _moment)
FOLDER = click.Path(file_okay=False, path_type=Path)


def default_folder() -> Path:
    """Where a store is kept when nobody says where."""
    return Path(platformdirs.user_data_dir("kymograph", appauthor=False))


def folder(verb: _F) -> _F:
    """An optional DIR."""
    return click.argument("dir", type=FOLDER, required=False, default=default_folder)(verb)


def label_filter(verb: _F) -> _F:
    """`--label k=v`, any number of times; several of one label mean any of them."""
    return click.option(
        "--label", "labels", multiple=True, metavar="NAME=VALUE", help="Only rows with this label; may be repeated."
    )(verb)


def pairs(given: Iterable[str], option: str) -> dict[str, list[str]]:
    """`["a=1", "a=2", "b=3"]` as `{"a": ["1", "2"], "b": ["3"]}`. Raises a usage error."""
    found: dict[str, list[str]] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
        found.setdefault(name, []).append(value)
    return found


@contextmanager
def opened(dir: Path, *, read_only: bool = False, create: bool = False, **options: Any) -> Iterator[Store]:
    """The store in a folder, closed at the end.

    Args:
        read_only: works beside a running server.
        create: make the store when there is none; otherwise that is an error, so that a mistyped name leaves nothing.
    """
    if dir.parts[:1] in (("http:",), ("https:",)):
        raise InvalidInput(
            "this verb takes the folder of a store, not the address of a server",
            hint="ask the server itself over HTTP: its page /docs says how",
        )
    if len(dir.parts) > 1 and re.fullmatch(r"[a-z+]{2,}:", dir.parts[0]):
        raise InvalidInput(
            f"{dir.parts[0]}// is no place for a store", hint="give a folder; kymo stream takes http:// too"
        )
    if not create and not dir.is_dir():
        raise NotFound(f"there is no folder {dir}", hint="kymo serve and kymo import make one")
    if not create and not read_only:
        # what is damaged is for the writing process to deal with
        with suppress(Corrupt):
            connect(dir, read_only=True).close()
    try:
        store = connect(dir, read_only=read_only, **options)
    except StoreLocked as problem:
        problem.hint = "stop that process, or, if it is kymo serve, use its HTTP API: its page /docs says how"
        raise
    with store:
        yield store
