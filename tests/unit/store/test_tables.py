"""Writing tables: created and extended by what is written, exact or refused, nothing left behind by a refusal."""

from __future__ import annotations

import datetime as dt
import struct
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from kymograph.errors import (
    AlreadyExists,
    DuplicateRows,
    InvalidInput,
    KymographError,
    LimitExceeded,
    NotFound,
    SchemaError,
    TimeError,
)
from kymograph.options import Retention
from kymograph.store import tables as tables_module
from kymograph.store.store import Store

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]


def bits(column: pa.ChunkedArray) -> list[int]:
    return column.combine_chunks().view(pa.uint64()).to_pylist()


def test_the_first_write_creates(store: Store) -> None:
    assert store.write("gpu", {"time": [1, 2], "host": ["a", "b"], "temp": [1.5, None], "n": [1, 2]}) == 2
    schema = store.tables()["gpu"]
    assert schema.labels == ("host",)
    assert schema.fields == (("temp", pa.float64()), ("n", pa.int64()))


@pytest.mark.parametrize(
    "data",
    [
        pa.table({"time": pa.array([5], pa.timestamp("us", "UTC")), "host": ["a"], "v": [1.5]}),
        pa.record_batch({"time": pa.array([5]), "host": pa.array(["a"]), "v": pa.array([1.5])}),
        pd.DataFrame({"time": pd.to_datetime([5000], unit="ns"), "host": ["a"], "v": [1.5]}),
        pl.DataFrame({"time": [dt.datetime(1970, 1, 1, microsecond=5)], "host": ["a"], "v": [1.5]}),
        {"time": ["1970-01-01T00:00:00.000005Z"], "host": ["a"], "v": np.array([1.5])},
        {"time": 5, "host": "a", "v": 1.5},
    ],
    ids=["table", "batch", "pandas", "polars", "columns", "scalars"],
)
def test_every_kind_of_data(store: Store, data: Any) -> None:
    assert store.write("t", data) == 1
    assert store.scan("t").cast(
        pa.schema([("time", pa.int64()), ("host", pa.string()), ("v", pa.float64())])
    ).to_pylist() == [{"time": 5, "host": "a", "v": 1.5}]


def test_a_reader_is_stored_batch_by_batch(store: Store) -> None:
    schema = pa.schema([("time", pa.int64()), ("v", pa.float64())])
    batches = (pa.record_batch({"time": pa.array([i]), "v": pa.array([float(i)])}, schema=schema) for i in range(5))
    assert store.write("t", pa.RecordBatchReader.from_batches(schema, batches)) == 5


def test_new_columns_become_fields(store: Store) -> None:
    store.write("t", {"time": [1], "host": ["a"], "v": [1]})
    store.write("t", {"time": [2], "host": ["a"], "note": ["text"], "v": [2]})
    store.write("t", {"time": [3], "host": ["b"]})
    assert store.tables()["t"].labels == ("host",)
    assert store.scan("t", columns=["v", "note"]).to_pylist() == [
        {"v": 1, "note": None},
        {"v": 2, "note": "text"},
        {"v": None, "note": None},
    ]


def test_labels_and_fields_are_added(store: Store) -> None:
    store.write("t", {"time": [1], "host": ["a"], "v": [1]})
    schema = store.add_columns("t", ["region"], {"note": "string", "w": pa.float32()})
    assert schema == store.tables()["t"]
    assert schema.columns == ("time", "host", "region", "v", "note", "w")
    assert store.add_columns("t", ["host", "region"], {"v": "int64"}) == schema
    store.write("t", {"time": [1, 2], "host": ["a", "a"], "region": ["eu", "eu"], "v": [2, 3]})
    store.write("t", {"time": [1], "host": ["a"], "v": [4]})  # one who knows nothing of it
    store.write("t", {"time": 3, "host": "a", "v": 5, "w": 0.5})
    assert store.scan("t", columns=["region", "v", "w"]).to_pylist() == [
        {"region": None, "v": 4, "w": None},
        {"region": "eu", "v": 2, "w": None},
        {"region": "eu", "v": 3, "w": None},
        {"region": None, "v": 5, "w": 0.5},
    ]
    assert store.scan("t", {"region": None})["v"].to_pylist() == [4, 5]
    assert store.delete("t", {"region": "eu"}, end=2) == 1
    with pytest.raises(SchemaError, match="no label column host"):
        store.write("t", {"time": [9], "region": ["eu"], "v": [1]})


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"labels": ["v"]}, AlreadyExists),
        ({"fields": {"host": "string"}}, AlreadyExists),
        ({"fields": {"v": "float64"}}, AlreadyExists),
        ({"labels": ["new"], "fields": {"v": "float64"}}, AlreadyExists),
        ({"labels": ["new"], "fields": {"new": "string"}}, SchemaError),
        ({"labels": "new"}, SchemaError),
        ({"labels": ["time"]}, SchemaError),
        ({"labels": [""]}, SchemaError),
        ({"labels": ["new", 3]}, SchemaError),
        ({"fields": {"f": "decimal"}}, SchemaError),
        ({"labels": [f"l{number}" for number in range(100)]}, LimitExceeded),
    ],
    ids=str,
)
def test_columns_that_cannot_be_added(store: Store, columns: Any, problem: type[KymographError]) -> None:
    store.write("t", {"time": [1], "host": ["a"], "v": [1]})
    before = store.tables()["t"]
    with pytest.raises(problem):
        store.add_columns("t", **columns)
    assert store.tables()["t"] == before
    with pytest.raises(NotFound):
        store.add_columns("no", ["label"])
    for name in ("samples", "metrics"):
        with pytest.raises(SchemaError):
            store.add_columns(name, ["label"])


def test_columns_of_nulls_are_passed_over(store: Store) -> None:
    store.write("t", {"time": [1], "host": ["a"], "v": [1], "nothing": [None]})
    assert "nothing" not in store.tables()["t"].columns
    store.write("t", {"time": [2], "host": ["a"], "v": [None], "nothing": [None]})
    store.write("t", {"time": [3], "host": ["a"], "v": [None], "nothing": [1.5]})
    assert store.scan("t")["nothing"].to_pylist() == [None, None, 1.5]


def test_empty_writes(store: Store) -> None:
    assert store.write("t", {"time": pa.array([], pa.int64()), "v": pa.array([], pa.float64())}) == 0
    assert store.write("t", {"time": [1], "v": [1.0]}) == 1


def test_nothing_is_narrowed(store: Store) -> None:
    store.create_table("t", fields={"small": "int8", "single": "float32", "big": "uint64"})
    store.write("t", {"time": [1], "small": [-128], "single": [0.5], "big": [2**64 - 1]})
    for column, value in (("small", 128), ("single", 0.1), ("big", -1), ("small", 1.5), ("small", "1"), ("big", True)):
        with pytest.raises(SchemaError, match=rf"table t: column {column}"):
            store.write("t", {"time": [2], column: [value]})
    assert store.scan("t").num_rows == 1
    assert store.scan("t")["big"].to_pylist() == [2**64 - 1]


def test_float_bits_are_kept(store: Store) -> None:
    values = [STALE, float("nan"), float("inf"), float("-inf"), -0.0, 5e-324]
    given = pa.array(values, pa.float64())
    store.write("t", {"time": list(range(6)), "v": given})
    assert bits(store.scan("t")["v"]) == given.view(pa.uint64()).to_pylist()


@pytest.mark.parametrize(
    "data",
    [
        {"v": [1]},
        {"time": [1], "v": [[1, 2]]},
        {"time": [None], "v": [1]},
        {"time": ["yesterday"], "v": [1]},
        {"time": [2**63 - 1], "v": [1]},
        {"time": [True], "v": [1]},
        {"time": [1, 2], "v": [1]},
        {"time": [1], "v": [object()]},
        {"time": [1], "": [1]},
        {"time": [1], 7: [1]},
        {"time": [1], "v": [1, "x"]},
        pa.table([[1], [2], [3]], names=["time", "v", "v"]),
        "time,v\n1,2",
        None,
        17,
        [],
    ],
)
def test_garbage_leaves_nothing_behind(store: Store, data: Any) -> None:
    with pytest.raises(InvalidInput):
        store.write("t", data)
    assert store.tables() == {}


def test_a_refused_extension_leaves_no_column_behind(store: Store) -> None:
    store.write("t", {"time": [1], "v": [1]})
    with pytest.raises(SchemaError):
        store.write("t", {"time": [1], "w": [1], "v": [1.5]})
    with pytest.raises(TimeError):
        store.write("t", {"time": [None], "w": [1], "v": [1]})
    assert store.tables()["t"].columns == ("time", "v")


@pytest.mark.parametrize("name", ["", "1t", "a b", "../t", "a/b", "t;", "é", "x" * 128, "samples", "metrics", None])
def test_names_that_are_none(store: Store, name: Any) -> None:
    with pytest.raises(InvalidInput):
        store.write(name, {"time": [1], "v": [1]})
    with pytest.raises(InvalidInput):
        store.create_table(name)
    assert store.tables() == {}


def test_unicode_names_and_values(store: Store) -> None:
    store.write("t", {"time": [1, 1], "Gerät°": ["Zähler 😀", "\u202e\0x"], "値": [1.5, 2.5]})
    found = store.scan("t", {"Gerät°": "Zähler 😀"}, columns=["値"])
    assert found.to_pylist() == [{"値": 1.5}]
    assert set(store.scan("t")["Gerät°"].to_pylist()) == {"Zähler 😀", "\u202e\0x"}


def test_time_travel(store: Store) -> None:
    times = [-(2**62), -1, 0, 1, 2**62]
    for time in reversed(times):
        store.write("t", {"time": [time], "v": [time]})
    assert store.scan("t")["v"].to_pylist() == times
    assert store.scan("t", start=-1, end=1)["v"].to_pylist() == [-1, 0]
    assert store.reader("t").read_all()["v"].to_pylist() == times


def test_creating(store: Store) -> None:
    first = store.create_table("t", ["host"], {"v": "float32"}, duplicates="ignore", partition="1h")
    assert store.create_table("t", ["host"], {"v": pa.float32()}, duplicates="ignore", partition=3600 * 10**6) == first
    with pytest.raises(AlreadyExists):
        store.create_table("t", ["host"], {"v": "float64"})
    with pytest.raises(SchemaError, match="float128"):
        store.create_table("u", [], {"v": "float128"})


def test_creating_what_has_grown_since(store: Store) -> None:
    """A program that creates its table whenever it starts goes on after others have added to it."""
    store.create_table("t", ["host"], {"v": "float32"})
    store.write("t", {"time": [1], "host": ["a"], "v": [1.0], "w": [2]})
    grown = store.add_columns("t", ["region"])
    assert store.create_table("t", ["host"], {"v": "float32"}) == grown
    others: list[tuple[list[str], dict[str, Any]]] = [
        ([], {"v": "float32"}), (["region"], {"v": "float32"}), (["host", "region"], {"v": "float32"}),
        (["host"], {"w": "int64"}), (["host"], {"v": "float32", "other": "int64"}), (["host", "rack"], {"v": "float32"}),
    ]  # fmt: skip
    for labels, fields in others:
        with pytest.raises(AlreadyExists):
            store.create_table("t", labels, fields)
    with pytest.raises(AlreadyExists):
        store.create_table("t", ["host"], {"v": "float32"}, duplicates="ignore")
    assert store.tables()["t"] == grown


def test_policies_of_duplicates(store: Store) -> None:
    for policy, kept in (("overwrite", 2.0), ("ignore", 1.0)):
        store.create_table(policy, fields={"v": "float64"}, duplicates=policy)  # type: ignore[arg-type]
        store.write(policy, {"time": [1], "v": [1.0]})
        store.write(policy, {"time": [1], "v": [2.0]})
        assert store.scan(policy)["v"].to_pylist() == [kept]
    store.create_table("reject", fields={"v": "float64"}, duplicates="reject")
    store.write("reject", {"time": [1], "v": [1.0]})
    with pytest.raises(DuplicateRows):
        store.write("reject", {"time": [0, 1], "v": [1.0, 2.0]})
    assert store.scan("reject")["v"].to_pylist() == [1.0]


def test_retention_is_kept_and_replaced(store: Store) -> None:
    store.create_table("t", fields={"v": "float64"})
    store.set_retention("t", Retention(age="1d"))
    assert store.tables()["t"].retention == Retention(age="1d")
    store.set_retention("t", None)
    assert store.tables()["t"].retention == Retention()
    with pytest.raises(InvalidInput):
        store.set_retention("t", "1d")  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        store.set_retention("u", None)


def test_large_writes_go_in_steps(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables_module, "STEP_BYTES", 1000)
    assert store.write("t", {"time": np.arange(1000), "v": np.arange(1000.0)}) == 1000
    assert store.scan("t")["v"].to_pylist() == list(range(1000))
    store.create_table("whole", fields={"v": "float64"}, duplicates="reject")
    store.write("whole", {"time": [999], "v": [0.0]})
    with pytest.raises(DuplicateRows):
        store.write("whole", {"time": np.arange(1000), "v": np.arange(1000.0)})
    assert store.scan("whole").num_rows == 1


def test_dropping_and_writing_again(store: Store) -> None:
    store.write("t", {"time": [1], "v": [1]})
    store.drop_table("t")
    with pytest.raises(NotFound):
        store.scan("t")
    with pytest.raises(NotFound):
        store.drop_table("t")
    store.write("t", {"time": [1], "v": ["now a label"]})
    assert store.tables()["t"].labels == ("v",)


def test_deleting(store: Store) -> None:
    store.write("t", {"time": [1, 2, 3, 1], "host": ["a", "a", "a", "b"], "v": [1, 2, 3, 4]})
    assert store.delete("t", {"host": "a"}, start=2, end=3) == 1
    assert store.delete("t", {"host": ["b", "c"]}) == 1
    assert store.scan("t")["v"].to_pylist() == [1, 3]
    with pytest.raises(KymographError):
        store.delete("t", {"v": 1})


def test_latest(store: Store) -> None:
    store.write("t", {"time": [3, 1, 2], "host": ["a", "a", "b"], "v": [1, 2, 3]})
    rows = sorted(store.latest("t").select(["host", "v"]).to_pylist(), key=lambda row: row["host"])
    assert rows == [{"host": "a", "v": 1}, {"host": "b", "v": 3}]
    assert store.latest("t", {"host": "b"})["v"].to_pylist() == [3]


def test_samples_are_only_written_by_their_series(store: Store) -> None:
    with pytest.raises(InvalidInput):
        store.write("samples", {"time": [1], "value": [1.0]})
    with pytest.raises(InvalidInput):
        store.write("samples", {"time": [1], "series_id": [77], "value": [1.0]})
    store.gauge("cpu", 1.0, time=1)
    number = store.scan("samples")["series_id"].to_pylist()
    assert store.write("samples", {"time": [2], "series_id": number, "value": [2.0]}) == 1
    assert store.scan("samples")["value"].to_pylist() == [1.0, 2.0]
