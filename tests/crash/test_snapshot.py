"""A copy that was killed half way: what it leaves is removed by the next, and nothing that is not its own."""

from __future__ import annotations

from pathlib import Path

import kymograph
from tests.crash.forks import Forks
from tests.unit.local.test_snapshot import ROWS, unfinished, write


def test_what_a_crash_leaves_goes_with_the_next(tmp_path: Path, forks: Forks) -> None:
    path = tmp_path / "store"
    with kymograph.connect(path) as store:
        write(store, 0)
        store.seal()
    theirs = [path / "snapshots" / name for name in ("mine.tmp", ".notes", ".x-0123456.kymo.tmp", "copy.tmp")]
    for folder in theirs:
        folder.mkdir(parents=True)
        (folder / "file").write_text("not ours")
    (path / "snapshots" / ".f-01234567.kymo.tmp").write_text("a file")
    (path / "snapshots" / ".l-01234567.kymo.tmp").symlink_to(tmp_path / "store" / "blocks")
    beside = unfinished(path / "snapshots")
    for place in (path / "snapshots", tmp_path):
        child = forks.run("snapshot", folder=str(path), target=str(place / "copy"))
        assert child.wait() == 137
        assert len(unfinished(place)) == len(beside) * (place != tmp_path) + 1
    # the next opening sees to the store's own folder, the next copy to the one it is made in
    with kymograph.connect(path) as store:
        assert unfinished(path / "snapshots") == beside
        assert len(unfinished(tmp_path)) == 1
        store.snapshot(tmp_path / "other")
    assert unfinished(tmp_path) == []
    assert sorted(each.name for each in tmp_path.iterdir()) == ["other", "store"]
    assert all((folder / "file").read_text() == "not ours" for folder in theirs)
    with kymograph.connect(tmp_path / "other") as store:
        assert store.scan("t").num_rows == ROWS
