"""A catalog is made anew, and that is killed at every step: the next opening has all that an undisturbed one has."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from kymograph.local.engine import LocalEngine
from kymograph.model.stream import StreamSchema
from kymograph.options import StoreOptions
from tests.crash.forks import Forks
from tests.crash.script import apply, state
from tests.crash.stream_script import LAYOUT, A, rows_at

OPTIONS = StoreOptions(sync="off")
SETTINGS = (("create",), ("document", "k", 1), ("series", "x"), ("samples",), ("ring", 0, 1, 70))


def everything(engine: LocalEngine) -> tuple[Any, ...]:
    found = engine.streams.streams()
    return (*state(engine), dict(found), engine.streams.statistics(A).rows)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A store whose catalog is gone, empty, or damaged in its middle with most of the log readable."""
    folder = tmp_path_factory.mktemp("rebuild") / "store"
    engine = LocalEngine(folder, OPTIONS)
    for operation in (*SETTINGS, ("append", 1, 0, 300, 3), ("seal",), ("append", 2, 200, 200, 1), ("seal",)):
        apply(engine, operation)
    engine.streams.create(StreamSchema(A, LAYOUT, True))
    engine.streams.insert(A, rows_at(0, 500), 0, 100_000)
    engine.streams.fold()
    apply(engine, ("append", 3, 900, 100, 3))
    engine.close()
    found = {}
    for name in ("gone", "empty", "damaged"):
        found[name] = folder.with_name(name)
        shutil.copytree(folder, found[name])
        catalog = found[name] / "catalog.db"
        raw = bytearray(catalog.read_bytes())
        catalog.unlink()
        if name == "empty":
            catalog.touch()
        elif name == "damaged":
            # a row of the block list: everything else of the file can be read
            at = raw.index(b".parquet") - 10
            raw[at] ^= 1
            catalog.write_bytes(raw)
    return found


@pytest.mark.parametrize("harm", ["gone", "empty", "damaged"])
def test_killed_at_every_step(forks: Forks, folders: dict[str, Path], tmp_path: Path, harm: str) -> None:
    shutil.copytree(folders[harm], tmp_path / "whole")
    engine = LocalEngine(tmp_path / "whole", OPTIONS)
    expected = everything(engine)
    assert engine.get_document("kind", "k") == 1
    assert len(engine.rings.all()) == 1
    assert engine.statistics("t").rows == (580 if harm == "damaged" else 480)
    engine.close()
    k = 0
    while True:
        folder = tmp_path / f"{k}"
        shutil.copytree(folders[harm], folder)
        end = forks.ended("opening", folder=str(folder), k=k)
        engine = LocalEngine(folder, OPTIONS)
        assert everything(engine) == expected, f"step {k}"
        assert not engine.check().damages
        engine.close()
        kept = sorted(path.name for path in folder.iterdir() if "damaged" not in path.name)
        assert kept == ["LOCK", "blocks", "catalog.db", "settings.jsonl", "streams"], f"step {k}"
        assert len(list(folder.glob("catalog.damaged-*.db"))) == (harm != "gone"), f"step {k}"
        shutil.rmtree(folder)
        if not end.killed:
            break
        k += 1
    assert k > 8
