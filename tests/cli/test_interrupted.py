"""Ctrl-C: in the middle of an import what is stored stays, and is told; before anything has begun there is no word."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

import kymograph
from kymograph.errors import StorageError
from tests.cli.test_failures import start
from tests.server.running import eventually


def test_an_import_says_how_far_it_came(tmp_path: Path) -> None:
    process = start("import", tmp_path / "s", "t", "-", "--format", "csv")
    assert process.stdin is not None
    process.stdin.write(b"time,host,n\n")
    for first in range(0, 600_000, 100_000):  # more than the pipe and the reader's own buffers hold
        process.stdin.write(b"".join(b"%d,a,%d\n" % (n, n) for n in range(first, first + 100_000)))
    process.stdin.flush()

    def rows() -> int:
        try:
            with kymograph.connect(tmp_path / "s", read_only=True) as store:
                return int(store.info()["rows"])
        except StorageError:
            return 0

    assert eventually(lambda: rows() > 0)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    told = re.search(r"-: interrupted; ([0-9,]+) rows are stored in t\n", err.decode())
    assert told is not None, err
    assert 0 < int(told[1].replace(",", "")) <= rows() < 600_000


@pytest.mark.parametrize("library", ["multiarray", "libarrow.so"])
def test_before_anything_has_begun(tmp_path: Path, library: str) -> None:
    process = start("sql", tmp_path, "-")
    loaded = Path(f"/proc/{process.pid}/maps")
    assert eventually(lambda: library in loaded.read_text())
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert process.communicate() == (b"", b"")
