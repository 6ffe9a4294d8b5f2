"""Rows from whatever holds them, conformed exactly or refused with names and types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from kymograph.errors import InvalidInput, KymographError, SchemaError
from kymograph.model.batch import conform, infer_schema, new_fields, to_table
from kymograph.model.schema import FIELD_TYPES, LABEL_TYPE, SAMPLES_SCHEMA, table_schema
from kymograph.model.time import micros_of

SCHEMA = table_schema("t", ["l"], {name: name for name in FIELD_TYPES})
QUIET, SIGNALLING = 0x7FF8_0000_0000_0002, 0x7FF0_0000_0000_0002  # Prometheus' staleness marker is the latter
NAN64 = [QUIET, SIGNALLING, 0xFFF8_0000_0000_0001, 0x7FFF_FFFF_FFFF_FFFF, 1 << 63]
NAN32 = [0x7FC0_0001, 0x7F80_0001, 0xFFC0_0000, 0x7FFF_FFFF, 1 << 31]


def conformed(field: str, values: pa.Array) -> pa.Array:
    table = pa.table({"time": pa.array(range(len(values))), "l": pa.array(["a"] * len(values)), field: values})
    batch = conform(table, SCHEMA)
    batch.validate(full=True)
    assert batch.schema == SCHEMA.arrow
    return batch[field]


@pytest.mark.parametrize("name", FIELD_TYPES)
def test_a_field_of_its_own_type_is_taken_as_it_is(name: str) -> None:
    kind = FIELD_TYPES[name]
    if pa.types.is_integer(kind):
        bits = kind.bit_width
        extremes = [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if name[0] == "i" else [0, 2**bits - 1]
    else:
        extremes = {"bool": [True, False], "string": ["", "a\0é🜚"]}.get(name, [0.0, float("inf"), -float("inf")])
    values = pa.array([*extremes, None], kind)
    assert conformed(name, values).equals(values)


def test_nan_bits_are_kept() -> None:
    for name, bits, unsigned in (("float64", NAN64, pa.uint64()), ("float32", NAN32, pa.uint32())):
        values = pa.array([*bits, None], unsigned).view(FIELD_TYPES[name])
        assert conformed(name, values).view(unsigned).to_pylist() == [*bits, None]


def test_nan_bits_survive_dicts_of_numpy() -> None:
    table = to_table({"time": [0] * 5, "l": "a", "float64": np.array(NAN64, np.uint64).view(np.float64)})
    assert conform(table, SCHEMA)["float64"].view(pa.uint64()).to_pylist() == NAN64


@pytest.mark.parametrize(
    ("field", "values", "expected"),
    [
        ("float32", pa.array([0.5, None, -0.0, float("inf"), float("nan"), 2.0**-149]), None),
        ("float64", pa.array([0.1, None], pa.float32()), None),
        ("float64", pa.array([np.float16(0.1), None], pa.float16()), [0.0999755859375, None]),
        ("int64", pa.array([1.0, None, -(2.0**53)]), [1, None, -(2**53)]),
        ("uint64", pa.array([2**62], pa.int64()), None),
        ("float64", pa.array([2**53], pa.uint64()), None),
        ("float32", pa.array([2**24], pa.int64()), None),
        ("int8", pa.array([-128, 127, None], pa.int64()), None),
        ("string", pa.array(["a", None], pa.large_string()), None),
        ("string", pa.array(["a", None], pa.string_view()), None),
        ("string", pa.array(["a", "a", None]).dictionary_encode(), ["a", "a", None]),
        ("float64", pa.array([1.5, None]).dictionary_encode(), [1.5, None]),
        ("float64", pa.nulls(2), None),
        ("bool", pa.nulls(2), None),
    ],
    ids=str,
)
def test_exact_casts(field: str, values: pa.Array, expected: list[Any] | None) -> None:
    found = conformed(field, values)
    wanted = values.to_pylist() if expected is None else expected
    assert [_plain(v) for v in found.to_pylist()] == [_plain(v) for v in wanted]


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (str, bool)) else float(value).hex()


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("float64", pa.array([2**53 + 1], pa.uint64())),
        ("float64", pa.array([None, -(2**53) - 1], pa.int64())),
        ("float32", pa.array([2**24 + 1], pa.int64())),
        ("float32", pa.array([0.1])),
        ("float32", pa.array([1e300])),
        ("float32", pa.array([SIGNALLING], pa.uint64()).view(pa.float64())),
        ("int64", pa.array([0.5])),
        ("int64", pa.array([float("nan")])),
        ("int64", pa.array([float("inf")])),
        ("int64", pa.array([2.0**63])),
        ("int64", pa.array([2**63], pa.uint64())),
        ("uint8", pa.array([-1])),
        ("uint8", pa.array([256])),
        ("bool", pa.array([1])),
        ("int8", pa.array([True])),
        ("string", pa.array([1])),
        ("int64", pa.array(["1"])),
        ("string", pa.array([b"\xff"])),
        ("float64", pa.array([1]).cast(pa.decimal128(20))),
        ("int64", pa.array([1], pa.timestamp("us"))),
        ("l", pa.array([1])),
    ],
    ids=str,
)
def test_what_does_not_fit_names_table_column_and_both_types(field: str, values: pa.Array) -> None:
    columns = {"time": pa.array(range(len(values))), "l": pa.array(["a"] * len(values)), field: values}
    with pytest.raises(SchemaError) as caught:
        conform(pa.table(columns), SCHEMA)
    stored = "text label" if field == "l" else field
    given = {"double": "float64"}.get(str(values.type), str(values.type))
    for part in ("table t", f"column {field}", f"stored as {stored}", f"these {given} values"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "labels",
    [
        pa.array(["x", "", None]),
        pa.array(["x", "", None], pa.large_string()),
        pa.array(["x", "", None], pa.string_view()),
        pa.array(["x", "", None]).dictionary_encode(),
        pa.array(["x", "", None]).dictionary_encode("encode"),
        pa.DictionaryArray.from_arrays(pa.array([2, 0, None], pa.int64()), pa.array(["", "y", "x"], pa.large_string())),
        pa.chunked_array([pa.array(["x"]).dictionary_encode(), pa.array(["", None]).dictionary_encode()]),
    ],
    ids=lambda a: str(a.type).replace("\n", ""),
)
def test_labels_of_every_text_type(labels: Any) -> None:
    batch = conform(pa.table({"time": [1, 2, 3], "l": labels}), SCHEMA)
    assert batch["l"].type == LABEL_TYPE
    assert batch["l"].dictionary_decode().to_pylist() == ["x", "", None]


def test_a_label_column_of_nothing_is_null() -> None:
    batch = conform(pa.table({"time": [1, 2], "l": pa.nulls(2)}), SCHEMA)
    assert batch["l"].to_pylist() == [None, None]


def test_missing_fields_are_null_and_missing_time_or_label_an_error() -> None:
    batch = conform(pa.table({"l": ["a"], "time": [5]}), SCHEMA)
    assert micros_of(batch["time"]).tolist() == [5]
    assert all(batch[name].to_pylist() == [None] for name in FIELD_TYPES)
    with pytest.raises(SchemaError, match="no column time"):
        conform(pa.table({"l": ["a"]}), SCHEMA)
    with pytest.raises(SchemaError, match="no label column l"):
        conform(pa.table({"time": [1]}), SCHEMA)


def test_series_ids_are_integers() -> None:
    batch = conform(to_table({"time": [1], "series_id": np.array([7], np.int32), "value": [1]}), SAMPLES_SCHEMA)
    assert batch["series_id"].to_pylist() == [7]
    assert batch["value"].to_pylist() == [1.0]
    with pytest.raises(SchemaError):
        conform(to_table({"time": [1], "series_id": ["7"], "value": [1.0]}), SAMPLES_SCHEMA)


@pytest.mark.parametrize(
    "data",
    [
        {"time": [1, 2], "host": ["a", "b"], "load": [0.5, 1.5]},
        {"time": np.array([1, 2]), "host": np.array(["a", "b"]), "load": np.array([0.5, 1.5])},
        pa.table({"time": [1, 2], "host": ["a", "b"], "load": [0.5, 1.5]}),
        pa.record_batch({"time": [1, 2], "host": ["a", "b"], "load": [0.5, 1.5]}),
        pa.table({"time": [1, 2], "host": ["a", "b"], "load": [0.5, 1.5]}).to_reader(),
        pd.DataFrame({"time": [1, 2], "host": ["a", "b"], "load": [0.5, 1.5]}, index=[7, 9]),
        pd.DataFrame({"time": [1, 2], "host": pd.Categorical(["a", "b"]), "load": [0.5, 1.5]}),
        pl.DataFrame({"time": [1, 2], "host": ["a", "b"], "load": [0.5, 1.5]}),
        {"time": pl.Series([1, 2]), "host": pd.Series(["a", "b"]), "load": pl.Series([0.5, 1.5])},
    ],
    ids=lambda d: f"{type(d).__module__}.{type(d).__name__}",
)
def test_rows_from_everything_that_holds_columns(data: Any) -> None:
    table = to_table(data)
    schema = infer_schema("t", table)
    assert schema.labels == ("host",)
    assert schema.fields == (("load", pa.float64()),)
    batch = conform(table, schema)
    assert micros_of(batch["time"]).tolist() == [1, 2]
    assert batch["host"].to_pylist() == ["a", "b"]
    assert batch["load"].to_pylist() == [0.5, 1.5]


def test_a_scalar_stands_for_every_row() -> None:
    assert to_table({"time": [1, 2], "host": "a", "x": None}).select(["host", "x"]).to_pylist() == 2 * [
        {"host": "a", "x": None}
    ]
    assert to_table({"time": 1, "x": float("nan")}).num_rows == 1


def test_plain_integers_reach_the_end_of_uint64() -> None:
    assert to_table({"x": [0, 2**64 - 1, None]})["x"].to_pylist() == [0, 2**64 - 1, None]
    for bad in ([-1, 2**63], [2**64]):
        with pytest.raises(SchemaError):
            to_table({"x": bad})


def test_nan_is_a_value_except_in_pandas() -> None:
    assert to_table({"x": np.array([np.nan])})["x"].null_count == 0
    assert to_table({"x": [float("nan")]})["x"].null_count == 0
    assert to_table(pd.DataFrame({"x": [np.nan]}))["x"].null_count == 1


@pytest.mark.parametrize(
    "data",
    [
        None, 5, "abc", [1], [{"time": 1}],
        {"time": [1, 2], "x": [1]}, {"time": [1], "x": [object()]}, {"time": [1, 2], "x": [1, "b"]},
        {"time": [1], "x": [10**30]}, {"time": [1], "x": np.zeros((1, 2))}, {"time": [1], "x": np.array(5)},
        {"time": [1], "x": np.array([1j])}, {1: [1]}, {"time": [1], "\ud800": [1]}, {"time": [1], "x": ["\ud800"]},
        pa.table([[1], [2]], names=["a", "a"]), pd.DataFrame([[1, 2]], columns=["a", "a"]),
        pd.DataFrame({"x": pd.Series([1, "a"], dtype=object)}),
    ],
    ids=lambda d: repr(d)[:40],
)  # fmt: skip
def test_what_holds_no_columns_is_invalid_input(data: Any) -> None:
    with pytest.raises(InvalidInput):
        to_table(data)


def test_inferred_types_and_new_fields() -> None:
    table = pa.table({"time": [1], "h": pa.array(["a"]).dictionary_encode(), "x": pa.array([1], pa.uint8())})
    schema = infer_schema("t", table)
    assert (schema.labels, schema.fields) == (("h",), (("x", pa.uint8()),))
    wider = table.append_column("f", pa.array([np.float16(1)])).append_column("n", pa.nulls(1))
    assert new_fields(schema, wider) == (("f", pa.float32()),)
    with pytest.raises(SchemaError, match="column bad"):
        infer_schema("t", table.append_column("bad", pa.array([[1]])))


def test_errors_are_one_family() -> None:
    assert issubclass(SchemaError, (KymographError, ValueError))
