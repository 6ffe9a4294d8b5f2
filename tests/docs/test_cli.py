"""docs/cli.md names every verb and every option, and none that is not there."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from kymograph.cli.main import kymo
from tests.docs.pages import page

CLI = page("docs/cli.md")


def verbs(group: click.Group, path: str = "kymo") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from verbs(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


VERBS = dict(verbs(kymo))


def heading_of(verb: str) -> str:
    found = [h for h in CLI.headings() if re.match(rf"{re.escape(verb)}( [^a-z]|$)", h)]
    assert len(found) == 1, f"docs/cli.md has {len(found)} headings for {verb}"
    return found[0]


def test_no_verb_is_invented() -> None:
    headings = [heading for heading in CLI.headings() if heading.startswith("kymo ")]
    assert len(headings) == len(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_options(verb: str) -> None:
    documented = {cell.split()[0] for cell in CLI.first_cells(heading_of(verb))}
    options = [one for one in VERBS[verb].params if isinstance(one, click.Option) and not one.is_eager]
    there = {flag for option in options for flag in option.opts}
    assert documented == there


@pytest.mark.parametrize("verb", VERBS)
def test_arguments(verb: str) -> None:
    words = heading_of(verb).removeprefix(verb).split()
    arguments = [one for one in VERBS[verb].params if isinstance(one, click.Argument)]
    usage = [word for one in arguments for word in one.make_metavar(click.Context(VERBS[verb])).split()]
    assert [re.sub(r"\W+", "", word) for word in words] == [re.sub(r"\W+", "", word) for word in usage]


@pytest.mark.parametrize("verb", VERBS)
def test_defaults(verb: str) -> None:
    for option in VERBS[verb].params:
        if isinstance(option, click.Option) and option.show_default and option.default is not None:
            row = re.search(rf"^\| .*`{option.opts[-1]}[ `].*$", CLI.section(heading_of(verb)), re.MULTILINE)
            assert row is not None
            assert f"`{option.default}`" in row[0], f"{verb} {option.opts[-1]}"
