"""Running `kymo` in this process, as its entry point does, with what it wrote and its exit code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import kymograph
from kymograph.cli import main


@dataclass
class Run:
    """What one run left behind."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()


Kymo = Callable[..., Run]


@pytest.fixture
def kymo(capfdbinary: pytest.CaptureFixture[bytes]) -> Kymo:
    def run(*arguments: object) -> Run:
        capfdbinary.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        assert b"Traceback" not in err
        return Run(code, out, err.decode())

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with a table of three rows, a metric, and bounds that nothing is beyond."""
    path = tmp_path / "store"
    with kymograph.connect(path, sync="off") as store:
        moments = ["2026-01-02T03:04:05Z", "2026-01-02T03:04:06.5Z", "2026-01-02T03:04:07Z"]
        store.write("gpu", {"time": moments, "host": ["a", "b", "a"], "temp": [60.5, None, 62.0], "n": [1, 2, 3]})
        store.gauge("cpu_percent", 37.5, {"host": "demo"}, time=moments[0], unit="percent")
    return path
