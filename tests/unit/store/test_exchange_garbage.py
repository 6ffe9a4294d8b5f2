"""Files that cannot be read: the error says where, and how many rows were stored before it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import kymograph
from kymograph.errors import DiskFull, InvalidInput, KymographError, NotFound
from kymograph.store.exchange import jsonlines, tabular
from kymograph.store.exchange.export import encode
from kymograph.store.exchange.form import FORMS
from kymograph.store.exchange.imports import import_rows
from kymograph.store.store import Store


def exported(store: Store, form: Any) -> bytes:
    return b"".join(encode(store.reader("t"), form, store.tables()["t"]))


GARBAGE: list[tuple[str, bytes, str]] = [
    ("csv", b"", "header"),
    ("csv", b"v\n1\n", "time"),
    ("csv", b"time,v,v\n1,1,1\n", "twice"),
    ("csv", b"time,v\n1,1\n2\n", "Row #3"),
    ("csv", b"time,v\n1,1\n2,3,4\n", "Row #3"),
    ("csv", b"time,v\n1,\xff\xfe\n", "UTF8"),
    ("csv", b"time,v\nnoon,1\n", "row 1"),
    ("csv", b"time,v\n1,1\n,1\n", "row 2"),
    ("csv", b"time,v\n99999999999999999999,1\n", "row 1"),
    ("csv", b"time,v\n1,1e999\n", "row 1"),
    ("csv", b"\0\1\2\3", "csv"),
    ("json", b"[1,2]\n", "line 1"),
    ("json", b'{"time":1}\n\n{"time":', "line 3"),
    ("json", b'{"time":1,"v":{"a":1}}', "line 1"),
    ("json", b'{"v":1}', "line 1"),
    ("json", b'{"time":1,"v":1}\n{"time":true,"v":1}', "line 2"),
    ("json", b'{"time":1,"v":1}\n{"time":2,"v":true}', "bool, int"),
    ("json", b'{"time":1,"v":"\xff"}', "line 1"),
    ("json", b"[" * 100_000, "line 1"),
    ("json", b'{"time":1,"v":1e999}\n{"time":1,"v":"x"}', "float, text"),
    ("json", b'{"time":NaN}', "line 1"),
    ("parquet", b"", "parquet"),
    ("parquet", b"PAR1" + b"x" * 100 + b"PAR1", "parquet"),
    ("arrow", b"", "arrow"),
    ("arrow", b"ARROW1\0\0" + b"x" * 100, "arrow"),
    ("arrows", b"x" * 100, "arrows"),
]


@pytest.mark.parametrize(("form", "data", "place"), GARBAGE)
def test_garbage_is_refused_with_its_place(store: Store, form: str, data: bytes, place: str, tmp_path: Path) -> None:
    path = tmp_path / f"bad.{form}"
    path.write_bytes(data)
    for given in (path, io.BytesIO(data)):
        with pytest.raises(KymographError, match="nothing was stored") as caught:
            import_rows(store, "t", given, form=form)
        assert place in str(caught.value)
        assert str(path if given == path else "the stream") in str(caught.value)
    assert store.tables() == {}


@pytest.mark.parametrize("form", FORMS)
def test_every_truncation_is_noticed(form: Any) -> None:
    with kymograph.connect("memory:") as store:
        store.write("t", {"time": np.arange(40), "host": [f"h{i % 3}" for i in range(40)], "v": np.arange(40) / 7})
        data = exported(store, form)
        expected = store.scan("t").num_rows
        for end in range(0, len(data) - 1, max(1, len(data) // 60)):
            store.create_table(f"t{end}", ["host"], {"v": "float64"})
            try:
                rows = import_rows(store, f"t{end}", io.BytesIO(data[:end]), form=form)
            except KymographError:
                continue
            # lines and batches end where a file may end: then what is there is taken
            assert rows < expected or form == "arrows"
            assert form in ("csv", "json", "arrows")
            assert store.scan(f"t{end}").num_rows == rows


def test_random_bytes_never_crash() -> None:
    random = np.random.default_rng(11)
    with kymograph.connect("memory:") as store:
        store.write("t", {"time": np.arange(20), "host": ["é,\n"] * 20, "v": np.arange(20) / 7})
        for form in FORMS:
            good = bytearray(exported(store, form))
            for _ in range(60):
                data = bytearray(good)
                for at in random.integers(0, len(data), 3):
                    data[at] = random.integers(0, 256)
                try:
                    import_rows(store, f"{form}.x", io.BytesIO(bytes(data)), form=form)
                except KymographError:
                    continue


def test_rows_before_an_error_are_counted(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tabular, "_CSV_BLOCK", 4096)
    monkeypatch.setattr(jsonlines, "_ROWS", 100)
    store.create_table("t", ["host"], {"v": "int8"})
    bad = 1500
    lines = ["time,host,v", *(f"{i},a,{'oops' if i == bad else i % 100}" for i in range(2000))]
    objects = [json.dumps({"time": i, "host": "a", "v": 128 if i == bad else i % 100}) for i in range(2000)]
    for name, text, place in (
        ("t.csv", lines, f"row {bad + 1}: column 'v': 'oops' is not int8"),
        ("t.jsonl", objects, f"line {bad + 1}: column 'v'"),
    ):
        (tmp_path / name).write_text("\n".join(text))
        store.delete("t")
        with pytest.raises(InvalidInput) as caught:
            import_rows(store, "t", tmp_path / name)
        stored = store.scan("t").num_rows
        assert 0 < stored <= bad
        assert place in str(caught.value)
        assert f"{stored:,} rows before it were stored" in str(caught.value)
        assert store.scan("t")["time"].cast(pa.int64()).to_pylist() == list(range(stored))


def test_errors_of_the_store_keep_their_kind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise DiskFull("no room", hint="make some")

    monkeypatch.setattr(store.engine, "append", full)
    with pytest.raises(DiskFull, match=r"the stream: no room; nothing was stored \(make some\)"):
        import_rows(store, "t", io.BytesIO(b"time,v\n1,1\n"), form="csv")


@pytest.mark.parametrize("given", ["missing.csv", "."])
def test_files_that_are_none(store: Store, given: str, tmp_path: Path) -> None:
    with pytest.raises((NotFound, InvalidInput)):
        import_rows(store, "t", tmp_path / given, form="csv")
