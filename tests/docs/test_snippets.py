"""The Python on the pages runs, in order, in an empty folder; the shell lines name verbs and options that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from kymograph.cli.main import kymo
from tests.docs.pages import ROOT, Page, every_page

WITH_PYTHON = [one for one in every_page() if one.blocks("python")]
COMMANDS = [
    pytest.param(line, id=f"{one.path.name}: {line[:60]}")
    for one in every_page()
    for block in one.blocks("sh")
    for line in re.findall(r"^(?:.*&& )?(?:\.venv/bin/)?(kymo .*)$", block, re.MULTILINE)
]


@pytest.mark.parametrize("one", WITH_PYTHON, ids=lambda one: str(one.path.relative_to(ROOT)))
def test_python_runs(one: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for number, block in enumerate(one.blocks("python"), 1):
        exec(compile(block, f"{one.path.name}, block {number}", "exec"), names)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_exist(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command: click.Command = kymo
    context = click.Context(kymo, info_name="kymo")
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None, f"there is no kymo {words[0]}"
        command, words = found, words[1:]
        context = click.Context(command, parent=context, info_name=command.name)
    command.parse_args(context, words)
