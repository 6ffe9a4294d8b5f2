"""Each benchmark runs to its end on little data, and its systems give the same answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SMALL = {
    "fleet": ["--gpus", "24", "--hours", "1", "--repeats", "1"],
    "tsbs": ["--repeats", "1"],
    "scrapes": ["--scrapes", "10"],
    "writes": [],
    "metrics": [],
    "streams": [],
    "answers": [],
    "labels": [],
    "opening": ["--blocks", "10", "--repeats", "1"],
}


@pytest.mark.timeout(600)  # the longest takes most of 300 s on a machine that does a dozen other things
@pytest.mark.parametrize("name", SMALL)
def test_runs(name: str, root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", name, "--small", *SMALL[name]]
    found = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=570, check=False)
    assert found.returncode == 0, found.stderr
    assert "| Kymograph" in found.stdout
    assert "DIFFERENT" not in found.stdout
    assert "cannot answer" not in found.stdout
