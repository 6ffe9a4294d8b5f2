"""Deletions from blocks while others write."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import kymograph
from kymograph.local import sealing


def test_writers_do_not_wait_for_blocks_to_be_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        store.write("t", {"time": [1, 2, 3], "v": [1.0, 2.0, 3.0]})
        begun, written, rewrite = threading.Event(), threading.Event(), sealing._rewrite
        waited = []

        def slow(*arguments: Any) -> None:
            begun.set()
            waited.append(written.wait(10))
            rewrite(*arguments)

        monkeypatch.setattr(sealing, "_rewrite", slow)
        deleting = threading.Thread(target=store.delete, args=("t", None, 1, 3))
        deleting.start()
        assert begun.wait(10)
        # in the range that goes, but after it had been said what goes: it stays, as if written when all was done
        store.write("t", {"time": [2, 4], "v": [20.0, 40.0]})
        written.set()
        deleting.join()
        assert waited == [True]
        assert store.scan("t")["v"].to_pylist() == [20.0, 3.0, 40.0]
        assert store.latest("t")["v"].to_pylist() == [40.0]
        store.seal()
        store.compact()
        assert store.scan("t")["v"].to_pylist() == [20.0, 3.0, 40.0]
        assert not store.check().damages
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        assert store.scan("t")["v"].to_pylist() == [20.0, 3.0, 40.0]
