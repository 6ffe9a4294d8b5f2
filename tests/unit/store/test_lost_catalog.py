"""What a user has set up comes back when catalog.db is lost or damaged: not the rows alone."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kymograph
from kymograph import Retention
from kymograph.errors import StorageError
from kymograph.local import settings
from kymograph.model.time import HOUR, SECOND
from kymograph.store import dashboards, tokens
from kymograph.store.jobs import now_micros
from kymograph.store.store import Store
from tests.folders import copied
from tests.server.running import eventually

BASE = now_micros() // HOUR * HOUR - 10 * HOUR
FILE = "settings.jsonl"


def opened(path: Path, **options: Any) -> Store:
    return kymograph.connect(path, sync="off", **options)


def fill(store: Store) -> str:
    """One of everything that can be set up; the half of it without a sealed row. Returns a token."""
    ids = store.series_ids([("m", {"host": host}) for host in "ab"])
    times = BASE + np.arange(1440) * 10 * SECOND
    store.append_samples(np.repeat(ids, 1440), np.tile(times, 2), np.arange(2880.0))
    store.write("t", {"time": times, "room": "r", "volts": np.arange(1440.0)})
    waves = store.stream("/meter/1/raw", "float64_2")
    waves.insert(np.column_stack([np.arange(20) * 100_000.0, np.ones((20, 2))]))
    store.seal()
    store.describe("m", kind="gauge", unit="V", help="what the meter says")
    store.set_retention("t", Retention(age="2y", bytes="1GB"))
    store.create_table("empty", ["a", "b"], {"x": "int8"}, duplicates="reject", retention=Retention(age="1d"))
    store.add_columns("t", fields={"amps": "float32"})
    waves.rename("/meter/2/raw")
    store.stream("/meter/3/raw", "uint16_6").set_metadata({"site": "roof"})
    store.ring("ring", "2s", 600, labels={"a": "1"}, unit="A")
    store.ring("ring", "3s", 60, labels={"a": "2"}, kind="counter")
    store.create_rollup("t_1m", "t", "1m", keep=Retention(age="1y"), end_offset="2m")
    store.downsample_policy("1w -> 5m", "m", {"host": "a"})
    store.downsample("1h", "1m", "m", {"host": ["a", "b"]})
    dashboards.save(store.engine, {"title": "Räume", "panels": [1, {"query": "m"}]})
    store.create_namespace("solar", cap="20MB", age="90d").create_table("inner", fields={"x": "int8"})
    return tokens.create(store.engine, "write", "meter")


def told(store: Store, token: str) -> dict[str, Any]:
    """Everything that `fill` has set up, as it is seen."""
    series = store.engine.series()
    return {
        "tables": {name: schema for name, schema in store.tables().items() if not name.startswith("samples_")},
        "metrics": store.metrics(),
        "rings": [(series[number], ring) for number, ring in sorted(store.engine.rings.all().items())],
        "streams": [store.stream(path).schema for path in sorted(store.engine.streams.streams())],
        "rollups": [one["name"] for one in store.rollups()],
        "downsampling": store.downsample_policies(),
        "dashboards": [dashboards.get(store.engine, one["slug"]) for one in dashboards.list(store.engine)],
        "tokens": tokens.list(store.engine),
        "role": tokens.verify(store.engine, token),
        "namespaces": [(name, store.namespace(name).options.cap) for name in store.namespaces()],
        "inner": store.namespace("solar").tables(),
        "rows": store.scan("t").num_rows,
        "seen": store.promql("sum(sum_over_time(m[12h]))", time=BASE + 5 * HOUR).samples,
    }


def gone(path: Path) -> None:
    for file in path.glob("catalog.db*"):
        file.unlink()


def zeroed(path: Path) -> None:
    (path / "catalog.db").write_bytes(bytes((path / "catalog.db").stat().st_size))


def emptied(path: Path) -> None:
    (path / "catalog.db").write_bytes(b"")


@pytest.mark.parametrize("harm", [gone, zeroed, emptied])
def test_everything_comes_back(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    path = tmp_path / "s"
    with opened(path) as store:
        token = fill(store)
        before = told(store, token)
    harm(path)
    harm(path / "namespaces" / "solar")
    with opened(path) as store:
        assert told(store, token) == before
        assert any("rebuilt" in note for note in store.info()["notes"])
        assert not store.check().damages
        # and is in use: nothing of it is only there to be looked at
        store.gauge("ring", 1.0, {"a": "1"}, time=BASE)
        assert store.engine.rings.read()[2].tolist() == [1.0]
        store.write("empty", {"time": [BASE], "a": ["x"], "b": ["y"], "x": [1]})
        store.stream("/meter/3/raw").insert(np.arange(14.0).reshape(2, 7))
        store.run_rollups()
    with opened(path, read_only=True) as store:
        assert tokens.verify(store.engine, token) == "write"


def test_late_samples_are_merged_after_it(tmp_path: Path) -> None:
    """Boundaries come back with the watch below them: no sample lies unseen beside its summary."""
    with opened(tmp_path / "s") as store:
        fill(store)
        store.seal()
        wanted = store.sql("SELECT count(*) AS n, sum(value) AS s FROM metric.m").rows()[0]
        assert wanted["n"] == 2880
    gone(tmp_path / "s")
    with opened(tmp_path / "s") as store:
        store.gauge("m", 1.0, {"host": "a"}, time=BASE + 1)
        store.run_rollups()
        found = store.sql("SELECT count(*) AS n, sum(value) AS s FROM metric.m").rows()[0]
        assert found == {"n": 2881, "s": wanted["s"] + 1}


def test_it_is_there_when_a_change_returns(tmp_path: Path) -> None:
    """No closing, no waiting: what was acknowledged is in the second place as well."""
    path = tmp_path / "s"
    with opened(path) as store:
        token = tokens.create(store.engine, "read")
        dashboards.save(store.engine, {"slug": "a"})
        store.downsample_policy("1h -> 1m")
        copied(path, tmp_path / "killed")
        tokens.revoke(store.engine, tokens.list(store.engine)[0]["id"])
        copied(path, tmp_path / "revoked")
    for copy in ("killed", "revoked"):
        gone(tmp_path / copy)
    with opened(tmp_path / "killed") as store:
        assert tokens.verify(store.engine, token) == "read"
        assert [one["slug"] for one in dashboards.list(store.engine)] == ["a"]
        assert [one["interval"] for one in store.downsample_policies()] == [60 * SECOND]
    with opened(tmp_path / "revoked") as store:
        assert tokens.verify(store.engine, token) is None


def test_tables_and_metrics_follow_in_the_background(tmp_path: Path) -> None:
    with opened(tmp_path / "s") as store:
        store.create_table("t", fields={"x": "int8"})
        store.ring("r", "1s", 60)
        store.describe("m", help="text")
        file = tmp_path / "s" / FILE

        def followed() -> bool:
            if not file.exists() or "text" not in file.read_text():
                return False
            kept = settings.read(tmp_path / "s")
            tables, rings = [schema.name for schema in kept.tables], [name for name, _, _ in kept.rings.values()]
            return (tables, rings) == (sorted(store.tables()), ["r"])

        assert eventually(followed)


def test_many_metrics_do_not_make_a_token_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows in the background is not looked through when a document is put."""
    with opened(tmp_path / "s") as store:
        store.describe_many({f"m{number}": {"help": "text"} for number in range(100)})
        tokens.create(store.engine, "read")
        looks = []
        monkeypatch.setattr(settings.Settings, "_settings", lambda _: looks.append(1) or [])
        for _ in range(5):
            tokens.create(store.engine, "read")
        assert not looks
        monkeypatch.undo()
    kept = settings.read(tmp_path / "s")
    assert len(kept.documents) == 106


def test_what_passes_is_not_in_it(tmp_path: Path) -> None:
    """The history of jobs and what waits to be summarised change all the time, and are made anew."""
    with opened(tmp_path / "s") as store:
        fill(store)
        store.run_rollups()
    kinds = {kind for kind, _ in settings.read(tmp_path / "s").documents}
    assert kinds == {"metric", "token", "dashboard", "rollup", "downsampling", "namespace"}


def test_hashes_are_as_private_as_the_catalog(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with opened(path) as store:
        store.create_table("t", fields={"x": "int8"})
    (path / "catalog.db").chmod(0o600)
    with opened(path) as store:
        tokens.create(store.engine, "admin")
        assert stat.S_IMODE((path / FILE).stat().st_mode) == 0o600
        store.snapshot(tmp_path / "copy")
    for name in ("catalog.db", FILE):
        assert stat.S_IMODE((tmp_path / "copy" / name).stat().st_mode) == 0o600
    gone(path)
    with opened(path) as store:
        assert len(tokens.list(store.engine)) == 1
        assert stat.S_IMODE((path / "catalog.db").stat().st_mode) == 0o600


def test_a_damaged_line_costs_itself(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with opened(path) as store:
        for slug in ("one", "two", "three"):
            dashboards.save(store.engine, {"slug": slug})
    raw = (path / FILE).read_bytes()
    (path / FILE).write_bytes(raw.replace(b'"slug": "two"', b'"slug": "twx"'))
    with opened(path, read_only=True) as store:
        assert [damage.place for damage in store.check().damages] == [FILE]
    copied(path, tmp_path / "lost")
    gone(tmp_path / "lost")
    with opened(tmp_path / "lost") as store:
        assert [one["slug"] for one in dashboards.list(store.engine)] == ["one", "three"]
        assert any(FILE in note for note in store.info()["notes"])
    # beside a catalog that is whole, it is written anew
    with opened(path) as store:
        assert [one["slug"] for one in dashboards.list(store.engine)] == ["one", "three", "two"]
    assert (path / FILE).read_bytes() == raw


@pytest.mark.parametrize("text", [b"", b"\0" * 500, b"{}", b"deadbeef []\n", b"\xff\xfe garbage\n" * 3])
def test_garbage_in_its_place_stops_nobody(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "s"
    with opened(path) as store:
        store.write("t", {"time": [1], "x": [1.0]})
        store.seal()
    (path / FILE).write_bytes(text)
    gone(path)
    with opened(path) as store:
        assert store.scan("t").num_rows == 1
    with opened(path, read_only=True) as store:
        assert not store.check().damages


def test_a_newer_one_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with opened(path) as store:
        dashboards.save(store.engine, {"slug": "a"})
    head, _, rest = (path / FILE).read_text().partition("\n")
    told = json.loads(head.partition(" ")[2])
    told[1] = 2
    newer = settings.line(told) + rest
    (path / FILE).write_text(newer)
    gone(path)
    with pytest.raises(StorageError, match="version 2, this release reads 1"):
        opened(path)
    assert (path / FILE).read_text() == newer


def test_nothing_set_up_is_no_file(tmp_path: Path) -> None:
    opened(tmp_path / "s").close()
    assert not (tmp_path / "s" / FILE).exists()
