"""A store on each engine that this room is tested on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import kymograph
from kymograph.store.store import Store


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    target = "memory:" if request.param == "memory" else tmp_path / "store"
    with kymograph.connect(target, sync="off") as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"
