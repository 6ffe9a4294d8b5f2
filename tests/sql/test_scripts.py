"""The scripts of this folder, against every engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from kymograph.engine.interface import Engine

from .script import run

HERE = Path(__file__).parent


@pytest.mark.parametrize("path", sorted(HERE.glob("*.test")), ids=lambda path: path.stem)
def test_script(path: Path, engine: Engine) -> None:
    run(path, engine)
