"""What the pages say about errors, options, metrics and fields is what the code has."""

from __future__ import annotations

import dataclasses
import inspect
import re

import pytest

from kymograph import __version__, errors
from kymograph.collect.gpu import GPU_FIELDS, GPU_LABELS
from kymograph.collect.host import METRICS
from kymograph.options import StoreOptions, parse_duration, parse_size
from kymograph.server.routes import metrics
from tests.docs.pages import page

ERRORS = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, Exception)]


def test_error_tree() -> None:
    assert errors.__doc__ is not None
    drawn = re.findall(r"^    ([│├└─ ]*)(\w+) *(.*)$", errors.__doc__.partition("A message")[0], re.MULTILINE)
    parents: list[str] = []
    for lines, name, _ in drawn:
        depth = len(lines) // 4
        parents = [*parents[:depth], name]
        known = getattr(errors, name)
        assert depth == 0 or issubclass(known, getattr(errors, parents[-2])), name
    assert {name for _, name, _ in drawn} == {one.__name__ for one in ERRORS}


def test_error_tree_on_the_page() -> None:
    drawn = page("docs/python.md").blocks("text")[0]
    assert errors.__doc__ is not None
    for line in drawn.splitlines():
        assert f"    {line}" in errors.__doc__


def test_options() -> None:
    documented = page("docs/python.md").first_cells("Opening")
    assert documented == [field.name for field in dataclasses.fields(StoreOptions)]


def test_option_defaults() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", page("docs/python.md").section("Opening"), re.MULTILINE)
    known = {field.name: field.default for field in dataclasses.fields(StoreOptions)}
    for name, told in rows:
        default = known[name]
        if default is None:
            assert told == "none", name
        elif isinstance(default, int) and not isinstance(default, bool):
            assert (parse_duration if told[-1].islower() else parse_size)(told) == default, name
        else:
            assert told.strip("`").strip('"') == str(default), name


def test_host_metrics() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \| (\w*) \| (.+) \|$", page("docs/recording.md").section("Host"), re.MULTILINE
    )
    assert {name: (kind, unit, about) for name, kind, unit, about in rows} == METRICS


def test_gpu_columns() -> None:
    text = page("docs/recording.md").section("NVIDIA GPUs")
    labels = re.findall(r"^\| `(\w+)` \| [^|]+ \|$", text, re.MULTILINE)
    fields = re.findall(r"^\| `(\w+)` \| (\w+) \| [^|]+ \|$", text, re.MULTILINE)
    assert tuple(labels) == GPU_LABELS
    assert dict(fields) == GPU_FIELDS


def test_changelog_knows_this_version() -> None:
    headings = page("CHANGELOG.md").headings()
    assert "[Unreleased]" in headings or any(heading.startswith(f"[{__version__}]") for heading in headings)


@pytest.mark.parametrize("name", re.findall(r"`(kymograph_\w+)`", page("docs/operations.md").text))
def test_metrics_to_watch(name: str) -> None:
    assert f'"{name}"' in inspect.getsource(metrics)
