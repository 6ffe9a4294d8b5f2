"""Scalar series: identity, values kept to the bit, metadata, and what is refused."""

from __future__ import annotations

import struct
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kymograph.errors import InvalidInput, TimeError
from kymograph.store.metrics import Sample
from kymograph.store.store import Store

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]


def values(store: Store) -> list[float]:
    found: list[float] = store.scan("samples")["value"].to_pylist()
    return found


def test_labels_identify_a_series_in_any_order(store: Store) -> None:
    store.gauge("cpu", 1, {"host": "a", "core": "0"}, time=1)
    store.gauge("cpu", 2, {"core": "0", "host": "a"}, time=2)
    store.gauge("cpu", 3, {"core": "0", "host": "a", "absent": ""}, time=3)
    store.gauge("cpu", 4, {"core": "1", "host": "a"}, time=4)
    store.gauge("cpu", 5, time=5)
    store.gauge("mem", 6, {"core": "0", "host": "a"}, time=6)
    assert len(store.engine.series()) == 4
    assert values(store) == [1, 2, 3, 4, 5, 6]


def test_the_default_time_is_now(store: Store) -> None:
    before = time.time_ns() // 1000
    store.counter("n", 1)
    store.record([Sample("n", 2, {"a": "b"}), Sample("n", 3, {"a": "c"})])
    after = time.time_ns() // 1000
    times = store.scan("samples")["time"].cast(pa.int64()).to_pylist()
    assert before <= min(times) <= max(times) <= after
    assert times[-1] == times[-2]


def test_values_are_kept_to_the_bit(store: Store) -> None:
    given = [STALE, float("nan"), float("inf"), float("-inf"), -0.0, 5e-324, 1.7976931348623157e308]
    for at, value in enumerate(given):
        store.gauge("g", value, time=at)
    store.record([Sample("h", value, {}, 100 + at) for at, value in enumerate(given)])
    expected = [struct.unpack("<Q", struct.pack("<d", value))[0] for value in given]
    assert store.scan("samples")["value"].combine_chunks().view(pa.uint64()).to_pylist() == expected * 2


@pytest.mark.parametrize("value", [7, 2**53, np.float32(0.5), np.int8(-3), np.uint64(2**63), -(2**60)])
def test_numbers_that_float64_holds(store: Store, value: Any) -> None:
    store.gauge("g", value, time=1)
    assert values(store) == [float(value)]


@pytest.mark.parametrize("value", [True, "1", None, b"1", [1], 2**53 + 1, 10**400, 1j, np.bool_(True), np.array([1.0])])
def test_values_that_are_none(store: Store, value: Any) -> None:
    with pytest.raises(InvalidInput):
        store.gauge("g", value)
    with pytest.raises(InvalidInput):
        store.record([Sample("g", 1.0), Sample("g", value)])
    assert store.tables() == {} or store.scan("samples").num_rows == 0


@pytest.mark.parametrize("name", ["", None, 7, "x" * 256, "a\0b", "\ud800", b"g", "__name__"])
def test_names_that_are_none(store: Store, name: Any) -> None:
    for use in (
        lambda: store.gauge(name, 1.0),
        lambda: store.gauge("g", 1.0, {name: "x"}),
        lambda: store.record([Sample(name, 1.0)]),
        lambda: store.describe(name, help="x"),
    ):
        with pytest.raises(InvalidInput):
            use()
    assert store.metrics() == []
    assert dict(store.engine.series()) == {}


@pytest.mark.parametrize("value", [7, None, b"x", "\udfff", "x" * 65_536])
def test_label_values_that_are_none(store: Store, value: Any) -> None:
    with pytest.raises(InvalidInput, match="label host"):
        store.gauge("g", 1.0, {"host": value})


@pytest.mark.parametrize("labels", ["host", [("host", "a")], 7])
def test_labels_that_are_no_mapping(store: Store, labels: Any) -> None:
    with pytest.raises(InvalidInput):
        store.gauge("g", 1.0, labels)


def test_unicode_names(store: Store) -> None:
    store.gauge("température.°C/最大", 1.5, {"salle à": "été 😀", "host": "a\nb"}, time=1)
    assert list(store.engine.series().values()) == [("température.°C/最大", {"host": "a\nb", "salle à": "été 😀"})]


@pytest.mark.parametrize("moment", ["soon", True, 2**63, float("nan"), object()])
def test_times_that_are_none(store: Store, moment: Any) -> None:
    with pytest.raises(TimeError):
        store.gauge("g", 1.0, time=moment)


def test_metadata_is_kept_and_changed_only_when_given(store: Store) -> None:
    store.gauge("power", 1.0, unit="watt", help="Drawn at the socket")
    store.gauge("power", 2.0)
    store.describe("power", help="Drawn by the board")
    store.describe("later", kind="histogram")
    store.counter("n", 1, labels={"a": "1"})
    store.counter("n", 1, labels={"a": "2"})
    assert store.metrics() == [
        {"name": "later", "kind": "histogram", "unit": "", "help": "", "series": 0},
        {"name": "n", "kind": "counter", "unit": "", "help": "", "series": 2},
        {"name": "power", "kind": "gauge", "unit": "watt", "help": "Drawn by the board", "series": 1},
    ]


def test_a_gauge_is_no_counter(store: Store) -> None:
    store.gauge("g", 1.0)
    with pytest.raises(InvalidInput, match="is a gauge, not a counter"):
        store.counter("g", 2.0)
    assert len(values(store)) == 1
    store.describe("g", kind="counter")
    store.counter("g", 2.0)
    store.describe("u", kind="untyped")
    store.counter("u", 1.0)
    assert [metric["kind"] for metric in store.metrics()] == ["counter", "counter"]


def test_scrapes_that_disagree_keep_the_first_kind(store: Store) -> None:
    store.record([Sample("m", 1.0, kind="counter"), Sample("m", 2.0, {"a": "b"}, kind="gauge")])
    store.record([Sample("m", 3.0, kind="gauge")])
    assert store.metrics()[0]["kind"] == "counter"
    with pytest.raises(InvalidInput, match="kind"):
        store.record([Sample("q", 1.0, kind="meter")])  # type: ignore[arg-type]


def test_recording_is_all_or_nothing(store: Store) -> None:
    assert store.record([]) == 0
    with pytest.raises(InvalidInput):
        store.record([Sample("a", 1.0), {"name": "b", "value": 1.0}])  # type: ignore[list-item]
    assert store.tables() == {}
    assert store.record(Sample("a", float(i), {"i": str(i % 7)}, i) for i in range(1000)) == 1000
    assert values(store) == list(range(1000))


def test_dropping_samples_and_going_on(store: Store) -> None:
    store.gauge("g", 1.0, time=1)
    store.drop_table("samples")
    store.gauge("g", 2.0, time=2)
    assert values(store) == [2.0]
    assert store.metrics()[0]["series"] == 1


def test_the_last_value_of_one_time_wins(store: Store) -> None:
    store.gauge("g", 1.0, time=1)
    store.gauge("g", 2.0, time=1)
    store.record([Sample("g", 3.0, time=1), Sample("g", 4.0, time=1)])
    assert values(store) == [4.0]
