"""What `--help` says: all of a verb's summary, and something about every option."""

from __future__ import annotations

import click
import pytest

from kymograph.cli.main import kymo as group
from tests.cli.conftest import Kymo
from tests.docs.test_cli import VERBS

GROUPS = [[], *([name] for name, command in group.commands.items() if isinstance(command, click.Group))]


@pytest.mark.parametrize("path", GROUPS, ids=" ".join)
def test_no_summary_is_cut_off(kymo: Kymo, path: list[str]) -> None:
    run = kymo(*path, "--help")
    assert run.code == 0
    assert [line for line in run.text.splitlines() if line.endswith("...") and not line.startswith("Usage: ")] == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_explained(verb: str) -> None:
    for option in VERBS[verb].params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            shown = option.make_metavar(click.Context(VERBS[verb]))
            assert "RANGE" not in shown, f"{option.name} says {shown}, which tells no unit"
