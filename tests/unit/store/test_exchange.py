"""Files in and out: every type to the bit, bounded chunks, and errors that say where and how much was stored."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest

from kymograph.errors import AlreadyExists, DiskFull, InvalidInput
from kymograph.store.exchange import jsonlines, tabular
from kymograph.store.exchange.export import encode, write_file
from kymograph.store.exchange.form import FORMS, form_of
from kymograph.store.exchange.imports import import_rows
from kymograph.store.store import Store
from tests.rows import rows_of

FIELDS = {
    **{f"{kind}{width}": f"{kind}{width}" for kind in ("int", "uint") for width in (8, 16, 32, 64)},
    "float32": "float32",
    "float64": "float64",
    "bool": "bool",
    "text": "string",
}
STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]


def fill(store: Store, rows: int = 500) -> None:
    """A table `t` with every type, nulls, extremes and texts that need quoting."""
    random = np.random.default_rng(5)
    store.create_table("t", ["host", "zone"], FIELDS)
    texts = [
        "",
        " ",
        "plain",
        'q"q',
        "a,b",
        "line\nline",
        "cr\rx",
        "007",
        "NaN",
        "null",
        "été 😀",
        "\\",
        "\u202e",
        "\x1b",
    ]
    extremes = [-(2**62), -62_135_596_800_000_001, -1, 0, 253_402_300_800_000_000, 2**62]
    columns: dict[str, Any] = {
        "time": [*extremes, *random.integers(0, 2**50, rows - 6).tolist()],
        "host": pa.array([None if i % 9 == 0 else texts[i % len(texts)] for i in range(rows)], pa.string()),
        "zone": [str(i) for i in range(rows)],
    }
    for name, kind in FIELDS.items():
        if kind.startswith(("int", "uint")):
            info = np.iinfo(kind)
            values = random.integers(info.min, info.max, rows, dtype=kind, endpoint=True)
            values[:2] = (info.min, info.max)
        elif kind == "bool":
            values = random.integers(0, 2, rows).astype(bool)
        elif kind == "string":
            values = np.array([texts[(i * 3) % len(texts)] for i in range(rows)], object)
        else:
            width = np.uint32 if kind == "float32" else np.uint64
            values = random.integers(0, np.iinfo(width).max, rows, dtype=width).view(kind)
            # text has one NaN only
            values[np.isnan(values)] = np.nan
            values[:6] = (np.nan, np.inf, -np.inf, -0.0, 1.0, 1e22)
        columns[name] = pa.array(values, mask=random.random(rows) < 0.1)
    store.write("t", columns)


def exported(store: Store, form: Any, table: str = "t") -> bytes:
    return b"".join(encode(store.reader(table), form, store.tables()[table]))


@pytest.mark.parametrize("form", FORMS)
def test_round_trips_are_exact(store: Store, form: Any, tmp_path: Path) -> None:
    fill(store)
    path = tmp_path / f"t.{form}"
    write_file(encode(store.reader("t"), form, store.tables()["t"]), path)
    if form in ("csv", "json"):
        store.create_table("back", ["host", "zone"], FIELDS)
    assert import_rows(store, "back", path) == 500
    assert rows_of(store.scan("back")) == rows_of(store.scan("t"))
    assert store.tables()["back"].fields == store.tables()["t"].fields
    assert store.tables()["back"].labels == ("host", "zone")
    with path.open("rb") as stream:
        assert import_rows(store, "again", stream, form=form, labels=["host", "zone"]) == 500


@pytest.mark.parametrize("form", ["parquet", "arrow", "arrows"])
def test_binary_forms_keep_nan_payloads_and_policies(store: Store, form: Any) -> None:
    store.create_table("t", ["host"], {"v": "float64"}, duplicates="reject", partition="1h")
    store.write("t", {"time": [1], "host": ["a"], "v": [STALE]})
    import_rows(store, "back", io.BytesIO(exported(store, form)), form=form)
    assert store.scan("back")["v"].combine_chunks().view(pa.uint64()).to_pylist() == [0x7FF0000000000002]
    assert (store.tables()["back"].duplicates, store.tables()["back"].partition) == ("reject", 3600 * 10**6)


def test_others_read_what_is_exported(store: Store) -> None:
    fill(store, 60)
    ours = store.scan("t", start=0, end=2**50).drop_columns(["time"])
    expected = ours["float64"].to_pylist()
    count = ours.num_rows
    reader = store.reader("t", start=0, end=2**50)
    rows = list(csv.DictReader(io.StringIO(b"".join(encode(reader, "csv")).decode(), newline="")))
    assert len(rows) == count
    assert [row["host"] for row in rows] == [host or "" for host in ours["host"].to_pylist()]
    objects = [json.loads(line) for line in b"".join(encode(store.reader("t"), "json")).splitlines()]
    assert [row["text"] for row in objects] == store.scan("t")["text"].to_pylist()
    assert all(not isinstance(row["float64"], float) or math.isfinite(row["float64"]) for row in objects)
    data = {form: b"".join(encode(store.reader("t", start=0, end=2**50), form)) for form in ("parquet", "arrow")}
    for found in (
        pd.read_parquet(io.BytesIO(data["parquet"]))["float64"].tolist(),
        pl.read_ipc(io.BytesIO(data["arrow"]))["float64"].to_list(),
    ):
        assert len(found) == count
        assert [x for x in found if x is not None and x == x] == [x for x in expected if x is not None and x == x]


def test_what_is_exported_is_selected(store: Store) -> None:
    store.write("t", {"time": [1, 2, 3], "host": ["a", "b", "a"], "v": [1.0, 2.5, 3.0]})
    reader = store.reader("t", {"host": "a"}, start=2, columns=["v", "host"])
    assert b"".join(encode(reader, "csv")) == b"v,host\n3.0,a\n"
    assert b"".join(encode(store.reader("t", end=0), "csv")) == b"time,host,v\n"
    assert b"".join(encode(store.reader("t", end=0), "json")) == b""
    for form in ("parquet", "arrow", "arrows"):
        empty = b"".join(encode(store.reader("t", end=0), form))  # type: ignore[arg-type]
        assert import_rows(store, f"empty_{form}", io.BytesIO(empty), form=form) == 0


def test_any_arrow_type_becomes_text() -> None:
    table = pa.table(
        {
            "naive": pa.array([0, -1], pa.timestamp("ns")),
            "zoned": pa.array([0, None], pa.timestamp("s", "Europe/Berlin")),
            "day": pa.array([0, 1], pa.date32()),
            "span": pa.array([5, 6], pa.duration("us")),
            "list": [[1, 2], None],
            "struct": [{"a": 1}, {"a": None}],
            "bytes": [b"\xff", b""],
            "null": pa.nulls(2),
            "half": pa.array(np.array([0.5, np.nan], np.float16)),
        }
    )
    first = json.loads(b"".join(encode(table.to_reader(), "json")).splitlines()[0])
    assert first == {
        "naive": "1970-01-01T00:00:00.000000000",
        "zoned": "1970-01-01T00:00:00Z",
        "day": "1970-01-01",
        "span": "5",
        "list": [1, 2],
        "struct": {"a": 1},
        "bytes": "/w==",
        "null": None,
        "half": 0.5,
    }
    assert b"".join(encode(table.to_reader(), "csv")).splitlines()[2].startswith(b"1969-12-31T23:59:59.999999999,,1970")


def test_memory_of_an_export_is_bounded(store: Store) -> None:
    rows = 60_000
    store.write("t", {"time": np.arange(rows), "v": np.random.default_rng(1).random(rows)})
    for form in ("csv", "json"):
        sizes = [len(piece) for piece in encode(store.reader("t"), form)]  # type: ignore[arg-type]
        assert len(sizes) > 3
        assert max(sizes) < 2 * 10**6


def test_a_failed_export_leaves_no_file(store: Store, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("before")

    def pieces() -> Any:
        yield b"some"
        raise DiskFull("no room")

    with pytest.raises(DiskFull):
        write_file(pieces(), tmp_path / "t.csv")
    assert [path.name for path in tmp_path.iterdir() if path.name != "store"] == ["t.csv"]
    assert (tmp_path / "t.csv").read_text() == "before"


@pytest.mark.parametrize(
    ("name", "given", "form"),
    [("a.CSV", None, "csv"), ("a.b.jsonl.gz", None, "json"), ("x", "ndjson", "json"), ("a.csv", "parquet", "parquet")],
)
def test_forms_by_name(name: str, given: str | None, form: str) -> None:
    assert form_of(name, given) == form


@pytest.mark.parametrize(
    ("name", "given"), [("x", None), ("x.txt", None), ("csv", None), ("x.gz", None), ("a.csv", "xml")]
)
def test_forms_that_are_none(name: str, given: str | None) -> None:
    with pytest.raises(InvalidInput):
        form_of(name, given)


# Types of text files


def imported(store: Store, data: bytes, form: str, **options: Any) -> Any:
    import_rows(store, "t", io.BytesIO(data), form=form, **options)
    return store.tables()["t"]


def test_csv_is_typed_by_all_of_its_rows(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tabular, "_CSV_BLOCK", 4096)
    lines = ["time,n,f,u,b,code,mixed,empty,late"]
    lines += [f"{i},{i},{i},{i},true,0{i},{i},," for i in range(1000)]
    lines += ["1000,1000,0.5,18446744073709551615,false,5,x,,7", "1001,,,,,,,,"]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines))
    seen: list[tuple[int, float | None]] = []
    assert import_rows(store, "t", path, progress=lambda rows, part: seen.append((rows, part))) == 1002
    schema = store.tables()["t"]
    assert schema.labels == ("code", "mixed")
    assert dict(schema.fields) == {
        "n": pa.int64(),
        "f": pa.float64(),
        "u": pa.uint64(),
        "b": pa.bool_(),
        "late": pa.int64(),
    }
    assert len(seen) > 3
    assert seen[-1][0] == 1002
    parts = [part for _, part in seen if part is not None]
    assert parts == sorted(parts)
    assert 0 < parts[0] <= parts[-1] <= 1


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.csv.zst", "t.jsonl", "t.parquet"])
def test_progress_is_of_what_is_stored(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(tabular, "_CSV_BLOCK", 65_536)
    monkeypatch.setattr(tabular, "_ROWS", 3000)
    monkeypatch.setattr(jsonlines, "_ROWS", 3000)
    path, values = tmp_path / name, np.random.default_rng(1).integers(0, 2**62, 50_000).tolist()
    if name == "t.parquet":
        pq.write_table(pa.table({"time": range(50_000), "v": values}), path)
    elif name == "t.jsonl":
        path.write_text("".join(f'{{"time":{i},"v":{v}}}\n' for i, v in enumerate(values)))
    else:
        with pa.output_stream(path, compression="detect") as out:
            out.write(b"time,v\n" + b"".join(b"%d,%d\n" % pair for pair in enumerate(values)))
    seen: list[tuple[int, float | None]] = []
    import_rows(store, "t", path, progress=lambda rows, part: seen.append((rows, part)))
    assert len(seen) > 5
    assert seen[-1] == (50_000, 1.0)
    for rows, part in seen:
        assert part == pytest.approx(rows / 50_000, abs=0.3)


def test_json_is_typed_by_all_of_its_rows(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonlines, "_ROWS", 100)
    rows: list[dict[str, Any]] = [{"time": i, "f": i, "host": "a", "s": "NaN"} for i in range(1000)]
    rows += [{"time": "1970-01-01T00:00:00.001000", "f": "Infinity", "u": 2**64 - 1, "b": True, "s": "x", "no": None}]
    rows += [{"time": "1001", "f": 0.5}]
    path = tmp_path / "t.jsonl.gz"
    path.write_bytes(gzip.compress("\n\n".join(map(json.dumps, rows)).encode()))
    assert import_rows(store, "t", path, labels=["host"]) == 1002
    schema = store.tables()["t"]
    assert schema.labels == ("host",)
    assert dict(schema.fields) == {"f": pa.float64(), "s": pa.string(), "u": pa.uint64(), "b": pa.bool_()}
    assert store.scan("t", columns=["f", "u"]).to_pylist()[-2:] == [
        {"f": math.inf, "u": 2**64 - 1},
        {"f": 0.5, "u": None},
    ]


def test_the_types_of_a_table_hold(store: Store) -> None:
    store.create_table("t", ["host"], {"v": "float32", "n": "uint8"})
    imported(store, b"time,host,v,n\n1,7,0.1,255\n2,,1e30,\n", "csv")
    imported(store, b'{"time":3,"host":"7","v":0.1}\n{"time":4,"host":null,"v":-1,"n":1}', "json")
    assert store.scan("t")["v"].to_pylist() == [np.float32(0.1), np.float32(1e30), np.float32(0.1), -1.0]
    assert store.scan("t")["host"].to_pylist() == ["7", None, "7", None]


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-02T03:04:05.000006Z",
        "2026-01-02 03:04:05.000006+00:00",
        "2026-01-02T05:04:05.000006+02:00",
        "2026-01-02T03:04:05.000006789Z",
        "2026-01-02T03:04:05.000006",
        "1767323045000006",
    ],
)
def test_times_in_text(store: Store, text: str) -> None:
    imported(store, f"time,v\n{text},1\n".encode(), "csv")
    imported(store, json.dumps({"time": text, "v": 2}).encode(), "json")
    assert store.scan("t")["time"].cast(pa.int64()).to_pylist() == [1_767_323_045_000_006]
    assert store.scan("t")["v"].to_pylist() == [2]


def test_beginnings_and_ends_of_text(store: Store) -> None:
    assert imported(store, b"\xef\xbb\xbftime,v\r\n1,1\r\n2,2", "csv").columns == ("time", "v")
    imported(store, b'\xef\xbb\xbf{"time":3,"v":3}\r\n\r\n{"time":4,"v":4}', "json")
    assert store.scan("t")["v"].to_pylist() == [1, 2, 3, 4]
    assert import_rows(store, "t", io.BytesIO(b"time,v\n"), form="csv") == 0
    assert import_rows(store, "t", io.BytesIO(b""), form="json") == 0


def test_labels_are_asked_for(store: Store) -> None:
    data = b"time,host,rack,v\n1,a,7,1.5\n"
    assert imported(store, data, "csv", labels=["rack"]).labels == ("rack",)
    assert dict(store.tables()["t"].fields)["host"] == pa.string()
    imported(store, data, "csv", labels=["rack"])
    with pytest.raises(InvalidInput, match="labels rack"):
        imported(store, data, "csv", labels=["host"])
    for labels in (["nowhere"], ["time"], ["v", "v"]):
        with pytest.raises(InvalidInput):
            import_rows(store, "u", io.BytesIO(data), form="csv", labels=labels)
    assert set(store.tables()) == {"t"}


@pytest.mark.parametrize("again", [False, True])
def test_labels_that_a_table_lacks_are_added(store: Store, tmp_path: Path, again: bool) -> None:
    store.create_table("t", ["host"], {"v": "float64"})
    store.write("t", {"time": [1], "host": ["a"], "v": [0.5]})
    data = b"time,host,rack,v\n1,a,r,1.5\n2,a,,2.5\n"
    given: Any = io.BytesIO(data)
    if again:
        given = tmp_path / "t.csv"
        given.write_bytes(data)
    with pytest.raises(InvalidInput, match="made with the labels host"):
        import_rows(store, "t", io.BytesIO(data), form="csv", labels=["rack"])
    with pytest.raises(InvalidInput, match="no column 'slot' to be a label"):
        import_rows(store, "t", io.BytesIO(data), form="csv", labels=["host", "rack", "slot"])
    with pytest.raises(AlreadyExists, match="'v' is there already, as a field of float64"):
        import_rows(store, "t", io.BytesIO(data), form="csv", labels=["host", "v"])
    assert import_rows(store, "t", given, form="csv", labels=["host", "rack"]) == 2
    assert store.tables()["t"].labels == ("host", "rack")
    assert store.scan("t", columns=["rack", "v"]).to_pylist() == [
        {"rack": None, "v": 0.5},
        {"rack": "r", "v": 1.5},
        {"rack": None, "v": 2.5},
    ]
    assert import_rows(store, "t", io.BytesIO(b"time,host,v\n7,b,9\n"), form="csv") == 1


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_an_export_brings_its_labels_along(store: Store, form: Any) -> None:
    store.write("old", {"time": [1], "host": ["a"], "v": [0.5]})
    store.write("new", {"time": [1], "host": ["a"], "v": [0.5]})
    store.add_columns("new", ["rack"])
    store.write("new", {"time": [1], "host": ["a"], "rack": ["r"], "v": [1.5]})
    file = b"".join(encode(store.reader("new"), form, store.tables()["new"]))
    store.create_table("noted", ["host"], {"v": "float64", "rack": "string"})
    assert import_rows(store, "noted", io.BytesIO(file), form=form) == 2
    assert store.tables()["noted"].labels == ("host",)
    assert store.scan("noted")["rack"].to_pylist() == ["r"]
    for table in ("old", "another"):
        assert import_rows(store, table, io.BytesIO(file), form=form) == 2
        assert store.tables()[table].labels == ("host", "rack")
        assert store.scan(table).to_pylist() == store.scan("new").to_pylist()


def test_labels_of_binary_files(store: Store) -> None:
    table = pa.table({"time": [1], "host": pa.array(["a"]).dictionary_encode(), "note": ["x"], "v": [1]})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    assert imported(store, sink.getvalue(), "parquet", labels=["host"]).labels == ("host",)
    assert dict(store.tables()["t"].fields) == {"note": pa.string(), "v": pa.int64()}


def test_samples_mean_nothing_elsewhere(store: Store) -> None:
    store.gauge("g", 1.5, {"a": "b"}, time=1)
    data = exported(store, "parquet", "samples")
    with pytest.raises(InvalidInput, match="series"):
        import_rows(store, "other", io.BytesIO(data), form="parquet")
    store.delete("samples")
    assert import_rows(store, "samples", io.BytesIO(data), form="parquet") == 1
    assert store.scan("samples")["value"].to_pylist() == [1.5]


@pytest.mark.parametrize("opener", [ipc.new_file, ipc.new_stream])
def test_arrow_files_and_streams_under_either_name(store: Store, opener: Callable[..., Any]) -> None:
    table = pa.table({"time": [1, 2], "v": [1.0, 2.0]})
    sink = io.BytesIO()
    with opener(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1)
    for form in ("arrow", "arrows"):
        assert import_rows(store, "t", io.BytesIO(sink.getvalue()), form=form) == 2
