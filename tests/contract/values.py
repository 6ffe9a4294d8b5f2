"""What goes in comes out: every type, every bit, any time, any text."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kymograph.engine.interface import Engine
from kymograph.model.matcher import Matcher
from kymograph.model.schema import FIELD_TYPES, SAMPLES_SCHEMA, table_schema
from kymograph.model.time import DAY, MAX_TIME, MIN_TIME
from tests.contract.base import SIMPLE, Suite
from tests.rows import batch_of, ordered, rows_of, scanned

NAN64 = [0x7FF8_0000_0000_0000, 0x7FF0_0000_0000_0002, 0xFFF8_0000_0000_0001, 0x7FF4_DEAD_BEEF_0001, 2**64 - 1]
NAN32 = [0x7FC0_0000, 0x7F80_0001, 0xFFC0_0001, 0x7FA0_BEEF, 2**32 - 1]
TEXTS = [
    "",
    " ",
    "a",
    "A",
    "a\0b",
    "line\nend",
    "größe",
    "名前",
    "🜚🎛",
    "e\u0301",
    "é",
    "'; DROP TABLE t; --",
    "%_\\",
    "x" * 5000,
]


def values_of(name: str) -> pa.Array:
    """Extremes, oddities and nulls of a field type."""
    kind = FIELD_TYPES[name]
    if name == "bool":
        return pa.array([True, None, False, True], kind)
    if name == "string":
        return pa.array([*TEXTS, None], kind)
    if pa.types.is_integer(kind):
        bits = kind.bit_width
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if name.startswith("int") else (0, 2**bits - 1)
        return pa.array([low, low + 1, None, 0, 1, high - 1, high, None], kind)
    code, nans, unsigned = ("<f", NAN32, pa.uint32()) if name == "float32" else ("<d", NAN64, pa.uint64())
    info = np.finfo(np.float32 if name == "float32" else np.float64)
    finite = [0.0, -0.0, 1.5, float(info.max), float(info.min), float(info.tiny), float(info.smallest_subnormal)]
    finite += [float("inf"), float("-inf")]
    bits = [int.from_bytes(struct.pack(code, value), "little") for value in finite]
    return pa.array([*bits, None, *nans], unsigned).view(kind)


class Values(Suite):
    """Round trips."""

    @pytest.mark.parametrize("name", FIELD_TYPES)
    def test_every_field_type_bit_for_bit(self, engine: Engine, name: str) -> None:
        schema = self.create(engine, table_schema("t", ["l"], {"f": name}))
        values = values_of(name)
        given = pa.table({"time": range(len(values)), "l": ["a"] * len(values), "f": values})
        assert self.append(engine, "t", given) == len(values)
        expected = ordered(rows_of(batch_of(schema, given)))
        assert scanned(engine, "t") == expected
        assert scanned(engine, "t", columns=["f"]) == ordered((row[2],) for row in expected)

    def test_many_types_at_once_with_many_series(self, engine: Engine) -> None:
        schema = self.create(engine, table_schema("t", ["l"], {name: name for name in FIELD_TYPES}))
        rng = np.random.default_rng(7)
        rows = 500
        columns: dict[str, Any] = {
            "time": rng.permutation(rows) * 1000 - 250_000,
            "l": rng.integers(0, 9, rows).astype(str),
        }
        for name in FIELD_TYPES:
            columns[name] = values_of(name).take(pa.array(rng.integers(0, len(values_of(name)), rows)))
        self.append(engine, "t", columns)
        assert scanned(engine, "t") == ordered(rows_of(batch_of(schema, columns)))

    def test_a_column_of_nulls_only(self, engine: Engine) -> None:
        self.create(engine, table_schema("t", ["l"], {name: name for name in FIELD_TYPES}))
        self.append(engine, "t", {"time": [1, 2], "l": None})
        assert scanned(engine, "t") == [(t, None, *[None] * len(FIELD_TYPES)) for t in (1, 2)]

    def test_times_before_1970_and_far(self, engine: Engine) -> None:
        self.create(engine, table_schema("t", [], {"f": "int8"}))
        times = [MIN_TIME, -(10**16), -DAY - 1, -DAY, -DAY + 1, -1, 0, 1, DAY - 1, DAY, 10**16, MAX_TIME - 1, MAX_TIME]
        self.append(engine, "t", {"time": times, "f": 1})
        assert [row[0] for row in scanned(engine, "t")] == times
        for time in times:
            assert scanned(engine, "t", start=time, end=time + 1) == [(time, 1)]
        assert scanned(engine, "t", end=0) == [(time, 1) for time in times if time < 0]
        found = engine.statistics("t")
        assert (found.oldest, found.newest, found.rows) == (MIN_TIME, MAX_TIME, len(times))

    def test_labels_in_any_script_and_empty_and_null(self, engine: Engine) -> None:
        self.create(engine)
        labels = [*TEXTS, None]
        expected = {(label, None, 5): float(place) for place, label in enumerate(labels)}
        self.put(engine, expected)
        found = {(host, unit, time): value for time, host, unit, value in scanned_values(engine)}
        assert found == expected
        assert engine.statistics("t").series == len(labels)
        for label in TEXTS[1:]:
            assert [row[1] for row in scanned_values(engine, [Matcher("host", "=", label)])] == [label]

    def test_null_and_empty_are_two_series(self, engine: Engine) -> None:
        self.create(engine)
        self.put(engine, {(None, "u", 1): 1.0, ("", "u", 1): 2.0})
        self.put(engine, {("", "u", 1): 3.0})
        self.put(engine, {(None, "u", 1): 4.0})
        assert scanned_values(engine) == [(1, None, "u", 4.0), (1, "", "u", 3.0)]
        assert engine.statistics("t").series == 2
        assert engine.latest("t").num_rows == 2

    def test_column_names_in_any_script(self, engine: Engine) -> None:
        schema = self.create(
            engine, table_schema("t", ["größe", "a b"], {"名前": "int8", "x.y/z": "bool", '"': "string"})
        )
        data = {
            "time": [1],
            "größe": ["g"],
            "a b": ["b"],
            "名前": pa.array([3], pa.int8()),
            "x.y/z": [True],
            '"': ["'"],
        }
        self.append(engine, "t", data)
        assert scanned(engine, "t") == [(1, "g", "b", 3, True, "'")]
        assert engine.scan("t", columns=['"', "größe"]).table().to_pylist() == [{'"': "'", "größe": "g"}]
        assert engine.tables()["t"] == schema

    def test_a_table_without_labels_and_without_fields(self, engine: Engine) -> None:
        self.create(engine, table_schema("bare"))
        self.append(engine, "bare", {"time": [3, 1, 3, 2]})
        assert scanned(engine, "bare") == [(1,), (2,), (3,)]
        assert engine.statistics("bare").series == 1
        assert rows_of(engine.latest("bare")) == [(3,)]

    def test_dictionaries_made_elsewhere(self, engine: Engine) -> None:
        schema = self.create(engine, table_schema("t", ["l"], {"f": "int64"}))
        odd = pa.DictionaryArray.from_arrays(
            pa.array([0, 1, 2, 3, None], pa.int32()), pa.array(["b", "b", None, "a", "unused"])
        )
        batch = pa.RecordBatch.from_arrays(
            [pa.array([1, 2, 3, 4, 5]).cast(schema.arrow.field("time").type), odd, pa.array([1, 2, 3, 4, 5])],
            schema=schema.arrow,
        )
        engine.append("t", batch)
        self.after_write(engine)
        assert scanned(engine, "t") == [(1, "b", 1), (2, "b", 2), (3, None, 3), (4, "a", 4), (5, None, 5)]
        assert engine.statistics("t").series == 3
        assert [row[0] for row in scanned(engine, "t", [Matcher("l", "=", "b")])] == [1, 2]

    def test_slices_keep_to_their_rows(self, engine: Engine) -> None:
        schema = self.create(engine)
        whole = batch_of(
            schema, {"time": range(10), "host": list("abcdefghij"), "unit": None, "value": np.arange(10.0)}
        )
        engine.append("t", whole.slice(3, 4))
        self.after_write(engine)
        assert scanned_values(engine) == [(t, "abcdefghij"[t], None, float(t)) for t in range(3, 7)]

    def test_samples_have_one_number_as_label(self, engine: Engine) -> None:
        self.create(engine, SAMPLES_SCHEMA)
        self.append(engine, "samples", {"time": [2, 1, 1], "series_id": [7, 7, 2**40], "value": [0.5, -0.0, 1.0]})
        self.append(engine, "samples", {"time": [2], "series_id": [7], "value": [2.5]})
        assert engine.scan("samples").schema == SAMPLES_SCHEMA.arrow
        assert [row[:2] for row in scanned(engine, "samples")] == [(1, 7), (1, 2**40), (2, 7)]
        for matcher in (Matcher("series_id", "=", 7), Matcher("series_id", "in", frozenset({7, 8}))):
            assert engine.scan("samples", [matcher]).table()["value"].to_pylist() == [-0.0, 2.5]
        assert engine.scan("samples", [Matcher("series_id", "!=", 7)]).table()["value"].to_pylist() == [1.0]
        assert sorted(engine.latest("samples")["value"].to_pylist()) == [1.0, 2.5]

    def test_an_empty_batch_is_nothing(self, engine: Engine) -> None:
        self.create(engine)
        assert engine.append("t", batch_of(SIMPLE, {"time": [], "host": [], "unit": []})) == 0
        self.after_write(engine)
        assert scanned(engine, "t") == []
        assert engine.scan("t").schema == SIMPLE.arrow
        assert engine.statistics("t").rows == 0
        assert engine.latest("t").schema == SIMPLE.arrow


def scanned_values(engine: Engine, *args: Any, **kwargs: Any) -> list[tuple[Any, ...]]:
    """(time, host, unit, value as a float) of SIMPLE's rows, ordered."""
    table = engine.scan("t", *args, **kwargs).table().select(["time", "host", "unit"])
    keys = rows_of(table)
    values = engine.scan("t", *args, **kwargs).table()["value"].to_pylist()
    return ordered((*key, value) for key, value in zip(keys, values, strict=True))
