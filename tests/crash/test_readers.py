"""Readers in other processes while one writes, seals and compacts: always a prefix of what is committed."""

from __future__ import annotations

import struct
from pathlib import Path

from kymograph.local.engine import LocalEngine
from kymograph.options import StoreOptions
from tests.crash.forks import Forks
from tests.crash.scenarios import PREFIX


def test_two_readers_beside_a_writer(forks: Forks, tmp_path: Path) -> None:
    folder, counter = tmp_path / "store", tmp_path / "counter"
    # rows committed, whether the writer has ended, and how often each reader has looked
    counter.write_bytes(struct.pack("<qqqq", 0, 0, 0, 0))
    engine = LocalEngine(folder, StoreOptions(sync="normal"))
    engine.create_table(PREFIX)
    engine.close()
    shared = {"folder": str(folder), "counter": str(counter)}
    writer = forks.run("writer", **shared, seconds=6)
    readers = [forks.run("reader", **shared, reopen=reopen) for reopen in (False, True)]
    wrote = writer.rest()
    assert writer.wait() == 0, wrote
    assert wrote[0].startswith("wrote")
    rows = int(wrote[0].split()[1])
    for child in readers:
        lines = child.rest()
        assert child.wait() == 0, lines
        _, scans, _, seen = lines[0].split()
        assert int(seen) == rows
        assert int(scans) >= 3
