"""Rings read beside a writing process that drops and makes them anew between two looks at the catalog."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kymograph.engine.rings import Ring
from kymograph.local.engine import LocalEngine
from kymograph.model.schema import SAMPLES_SCHEMA
from kymograph.options import StoreOptions


def test_pages_that_go_after_a_reader_has_looked(tmp_path: Path) -> None:
    writer = LocalEngine(tmp_path / "s", StoreOptions(sync="off"))
    writer.create_table(SAMPLES_SCHEMA)
    ids = np.array(writer.register_series([("g", {"i": str(number)}) for number in range(3)]))
    writer.rings.define({number: Ring(10, 200, "gauge") for number in ids.tolist()})
    writer.rings.write(np.tile(ids, 100), np.repeat(np.arange(100) * 10, 3), np.ones(300))
    reader = LocalEngine(tmp_path / "s", StoreOptions(read_only=True))
    pages = reader._readable().rings  # as a query holds them that began before what follows
    writer.rings.drop([int(ids[0])])
    writer.rings.resize(int(ids[1]), 10, 30)
    found = pages.read(ids.tolist(), None, None)
    reader.close()
    writer.close()
    assert np.unique(found.ids, return_counts=True)[1].tolist() == [30, 100]
