"""Progress of long work: a bar on a terminal, lines elsewhere, nothing for what is done at once."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

import kymograph
from kymograph.cli import progress as progress_module
from kymograph.cli.progress import progress


def test_lines_without_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "_EVERY", 0.0)
    with progress("import x.csv", "rows") as report:
        report(1000, 0.5)
        report(2000, None)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("import x.csv: 1,000 rows, ")
    assert first.endswith(" s left")
    assert "50%" in first
    assert second.startswith("import x.csv: 2,000 rows, ")
    assert second.endswith(" rows/s")


def test_short_work_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("import x.csv", "rows") as report:
        report(1000, 1.0)
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("time,v\n" + "".join(f"{i},{i}\n" for i in range(200_000)))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "kymo", "import", tmp_path / "s", "t", tmp_path / "t.csv"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
    )
    os.close(theirs)
    seen = b""
    try:
        while piece := os.read(ours, 65_536):
            seen += piece
    except OSError:  # how a terminal says that its other side is gone
        pass
    os.close(ours)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, b"")
    assert b"\x1b[" in seen
    assert b"rows/s" in seen
    assert b"200,000 rows stored in t" in seen
    with kymograph.connect(tmp_path / "s", read_only=True) as store:
        assert store.info()["rows"] == 200_000
