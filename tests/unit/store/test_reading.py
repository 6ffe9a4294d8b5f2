"""Order and streaming: ascending in time, labels within one time, bounded slices, however the rows lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import kymograph
from kymograph.errors import InvalidInput, NotFound, SchemaError, TimeError
from kymograph.store import reading
from kymograph.store.reading import newest
from kymograph.store.store import Store

DAY = 86_400 * 10**6


def fill(store: Store, rows: int, *, spread: int, seed: int = 1) -> list[tuple[int, str | None, str, int]]:
    """Random rows in random order over `spread` µs; returns them as a scan must give them."""
    random = np.random.default_rng(seed)
    times = random.integers(-spread // 2, spread // 2, rows)
    hosts = [None if n == 0 else f"h{n}" for n in random.integers(0, 12, rows)]
    zones = [f"z{n}" for n in random.integers(0, 3, rows)]
    unique = {(int(t), h, z): n for n, (t, h, z) in enumerate(zip(times, hosts, zones, strict=True))}
    order = list(unique)
    for part in range(0, len(order), max(1, len(order) // 5)):
        keys = order[part : part + max(1, len(order) // 5)]
        store.write(
            "t",
            {
                "time": [k[0] for k in keys],
                "host": pa.array([k[1] for k in keys], pa.string()),
                "zone": [k[2] for k in keys],
                "n": [unique[k] for k in keys],
            },
        )
        if part == 0:
            store.seal()
    return [(*key, unique[key]) for key in sorted(unique, key=lambda k: (k[0], k[1] is not None, k[1] or "", k[2]))]


def rows_of(table: pa.Table) -> list[tuple[int, str | None, str, int]]:
    columns = [table["time"].cast(pa.int64()), table["host"], table["zone"], table["n"]]
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


def test_scans_are_in_order(store: Store) -> None:
    expected = fill(store, 800, spread=400)
    assert rows_of(store.scan("t")) == expected
    assert rows_of(store.scan("t", start=-50, end=60)) == [row for row in expected if -50 <= row[0] < 60]
    assert store.scan("t", columns=["n"])["n"].to_pylist() == [row[3] for row in expected]
    assert store.scan("t", {"host": "h3"}, columns="n")["n"].to_pylist() == [r[3] for r in expected if r[1] == "h3"]


def test_descending_keeps_label_order(store: Store) -> None:
    expected = sorted(fill(store, 800, spread=400), key=lambda row: -row[0])
    assert rows_of(store.scan("t", descending=True)) == expected


@pytest.mark.parametrize("spread", [100, 400, 3 * DAY, 200 * DAY])
def test_streams_are_scans_in_slices(store: Store, monkeypatch: pytest.MonkeyPatch, spread: int) -> None:
    expected = fill(store, 4000, spread=spread)
    monkeypatch.setattr(reading, "SLICE_BYTES", 0)  # 1024 rows
    batches = list(store.reader("t"))
    assert len(batches) > 1
    # rows of one time are never cut apart, and 36 series is the most there are
    assert max(batch.num_rows for batch in batches) <= 2 * 1024 + 36
    assert rows_of(pa.Table.from_batches(batches)) == expected
    part = store.reader("t", {"zone": "z1"}, start=0, columns=["n", "time"]).read_all()
    assert part.column_names == ["n", "time"]
    assert part["n"].to_pylist() == [row[3] for row in expected if row[2] == "z1" and row[0] >= 0]


def test_streams_of_nothing(store: Store) -> None:
    store.create_table("t", ["host"], {"v": "float64"})
    assert store.reader("t").read_all().num_rows == 0
    store.write("t", {"time": [5], "host": ["a"], "v": [1.0]})
    assert store.reader("t", end=5).read_all().num_rows == 0
    assert store.reader("t", start=9, end=3).read_all().num_rows == 0
    assert store.reader("t", {"host": "b"}).read_all().schema.names == ["time", "host", "v"]


def test_a_stream_ends_while_others_write(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SLICE_BYTES", 0)
    store.write("t", {"time": np.arange(3000), "n": np.arange(3000)})
    seen = 0
    for batch in store.reader("t"):
        seen += batch.num_rows
        store.write("t", {"time": np.arange(seen + 10_000, seen + 10_100), "n": np.arange(100)})
    assert seen == 3000


def test_columns_and_labels_that_are_none(store: Store) -> None:
    store.write("t", {"time": [1], "host": ["a"], "v": [1]})
    for use in (store.scan, store.reader):
        with pytest.raises(SchemaError):
            use("t", columns=["w"])
        with pytest.raises(SchemaError):
            use("t", {"v": "1"})
        with pytest.raises(InvalidInput):
            use("t", {"host": 1.5})
        with pytest.raises(TimeError):
            use("t", start="soon")
        with pytest.raises(NotFound):
            use("u")


def test_the_newest(store: Store) -> None:
    expected = fill(store, 200, spread=300 * DAY)
    for count in (1, 7, 150, 10_000):
        assert rows_of(newest(store.engine, "t", count)) == expected[-count:]
    store.create_table("empty", fields={"v": "float64"})
    assert newest(store.engine, "empty", 5).num_rows == 0


def test_label_dictionaries_that_differ(tmp_path: Path) -> None:
    """Blocks and hot rows have dictionaries of their own; order must not come from their codes."""
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        for names in (["b", "c"], ["a", "c"], ["d", "b"]):
            store.write("t", {"time": [1, 1], "host": names, "v": [1, 1]})
            store.seal()
        assert store.scan("t")["host"].to_pylist() == ["a", "b", "c", "d"]


def test_samples_are_read_by_series(store: Store) -> None:
    for at in range(5):
        store.gauge("a", at, time=at)
        store.gauge("b", 10 + at, time=at)
    one = store.scan("samples", start=0, end=1)["series_id"].to_pylist()
    assert one == sorted(one)
    assert store.scan("samples", {"series_id": one[1]})["value"].to_pylist() == [10, 11, 12, 13, 14]
