"""Schemas: names in any script, JSON there and back, policies checked."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from kymograph.errors import InvalidInput, SchemaError
from kymograph.model.schema import FIELD_TYPES, SAMPLES_SCHEMA, TableSchema, field_type, table_schema
from kymograph.model.time import DAY, HOUR
from kymograph.options import Retention


def test_columns_are_time_labels_fields() -> None:
    schema = table_schema("t", ["b", "a"], {"z": "int8", "y": pa.float32()}, partition="1h")
    assert schema.columns == ("time", "b", "a", "z", "y")
    assert schema.arrow.names == list(schema.columns)
    assert schema.partition == HOUR
    assert not schema.arrow.field("time").nullable


def test_json_there_and_back() -> None:
    retention = Retention(age="90d", bytes="1GB")
    schema = table_schema(
        "gpu.metrics-1", ["größe", "名前", "a b"], dict.fromkeys(FIELD_TYPES, "int8") | {"🜚": "bool"}, "reject", "1h",
        retention,
    )  # fmt: skip
    assert TableSchema.from_json(schema.to_json()) == schema
    assert "\n" not in schema.to_json()
    assert TableSchema.from_json(SAMPLES_SCHEMA.to_json()) == SAMPLES_SCHEMA


def test_partitions_are_aligned_to_the_epoch() -> None:
    schema = table_schema("t")
    assert [schema.partition_of(t) for t in (-DAY - 1, -1, 0, DAY - 1, DAY)] == [-2 * DAY, -DAY, 0, 0, DAY]


@pytest.mark.parametrize("name", ["", "1a", "a b", "a/b", "../a", ".a", "a\n", "ä", "a" * 128, None, 5])
def test_table_names(name: Any) -> None:
    with pytest.raises(SchemaError):
        table_schema(name)


@pytest.mark.parametrize("column", ["", "time", "a\0b", "a" * 256, "\ud800", None, 5])
def test_column_names(column: Any) -> None:
    with pytest.raises(SchemaError):
        table_schema("t", [column])
    with pytest.raises(SchemaError):
        table_schema("t", fields={column: "int8"})


@pytest.mark.parametrize(
    "arguments",
    [
        {"labels": "host"}, {"labels": ["a", "a"]}, {"labels": ["a"], "fields": {"a": "int8"}},
        {"fields": {"a": "int128"}}, {"fields": {"a": pa.list_(pa.int8())}}, {"duplicates": "keep"},
        {"partition": "1s"}, {"partition": "soon"}, {"retention": "90d"}, {"retention": {"age": "90d"}},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_schema(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        table_schema("t", **arguments)


def test_types_that_hold_others_exactly() -> None:
    assert field_type(pa.large_string()) == pa.string()
    assert field_type(pa.float16()) == pa.float32()
    assert field_type(pa.dictionary(pa.int8(), pa.uint8())) == pa.uint8()
    for kind in (pa.null(), pa.binary(), pa.timestamp("us"), pa.decimal128(5), pa.list_(pa.int8())):
        assert field_type(kind) is None


def test_a_bound_is_equal_however_it_was_written() -> None:
    assert Retention(age="1d", bytes="1KB") == Retention(age=DAY, bytes=1000)
    assert Retention(age="1d").age_micros == DAY
    for bad in ({"age": 0}, {"age": "0s"}, {"bytes": 0}, {"bytes": "-1"}, {"age": 1.5}):
        with pytest.raises(InvalidInput):
            Retention(**bad)  # type: ignore[arg-type]
