"""Exemplars of scalar series: which are taken, found, kept and lost."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import kymograph
from kymograph import Exemplar
from kymograph.errors import InvalidInput, QueryError, ReadOnly, SchemaError
from kymograph.store.metrics import Sample
from kymograph.store.store import Store

NOW = 1_772_409_600_000_000


def one(time: Any = NOW, value: float = 1.0, trace: str = "a", name: str = "m", **series: str) -> Exemplar:
    return Exemplar(name, {"trace_id": trace}, value, series, time)


def short(found: list[Exemplar]) -> list[tuple[Any, ...]]:
    return [(each.name, dict(each.series), each.labels["trace_id"], each.value, each.time) for each in found]


@pytest.fixture
def filled(store: Store) -> Store:
    for host in "ab":
        store.gauge("m", 1.0, {"host": host}, time=NOW)
        store.gauge("n", 1.0, {"host": host}, time=NOW)
    return store


def test_a_round_trip(filled: Store) -> None:
    given = [
        Exemplar("m", {"trace_id": "1", "é": 'quo"te\\\n'}, math.inf, {"host": "b", "empty": ""}, NOW + 1),
        Exemplar("m", {}, -0.0, {"host": "a"}, "2026-03-02T00:00:00Z"),
    ]
    assert filled.record_exemplars(given) == [True, True]
    found = filled.exemplars("m")
    assert [(each.name, each.labels, each.series, each.time) for each in found] == [
        ("m", {}, {"host": "a"}, NOW),
        ("m", {"trace_id": "1", "é": 'quo"te\\\n'}, {"host": "b"}, NOW + 1),
    ]
    assert [str(each.value) for each in found] == ["-0.0", "inf"]


def test_selectors_of_a_query(filled: Store) -> None:
    filled.record_exemplars([one(host="a", name=name, trace=name) for name in "mn"] + [one(host="b")])

    def found(query: str) -> list[tuple[str, str]]:
        return [(each.name, each.series["host"]) for each in filled.exemplars(query)]

    assert found('rate(m{host="a"}[5m])') == [("m", "a")]
    assert found('sum by (host) (m) / on (host) max_over_time(n[1h:1m] offset 5d) > bool m{host="b"}') == [
        ("m", "a"),
        ("m", "b"),
        ("n", "a"),
    ]
    assert found("1 + 2") == found("absent") == []
    with pytest.raises(QueryError):
        filled.exemplars("m{")


def test_the_order_is_by_sorted_labels_then_time(store: Store) -> None:
    names = [("m", {"Z": "1"}), ("m", {"a": "1"}), ("k", {"z": "1"}), ("m", {"a": "1", "b": "1"}), ("m", {"a": "é"})]
    for name, labels in names:
        store.gauge(name, 1.0, labels)
    store.record_exemplars(
        [Exemplar(name, {"n": str(n)}, 1.0, labels, NOW + n) for name, labels in names for n in (1, 2)]
    )
    found = [(each.name, each.series, each.labels["n"]) for each in store.exemplars('{__name__=~"m|k"}')]
    # a name in capitals sorts before __name__
    order = [names[0], names[2], names[1], names[3], names[4]]
    assert found == [(name, labels, n) for name, labels in order for n in "12"]


def test_the_range_is_half_open(filled: Store) -> None:
    filled.record_exemplars([one(NOW + n, trace=str(n), host="a") for n in range(5)])
    assert [each.time - NOW for each in filled.exemplars("m", NOW + 1, NOW + 3)] == [1, 2]
    assert [each.time - NOW for each in filled.exemplars("m", NOW + 3)] == [3, 4]
    assert filled.exemplars("m", NOW + 5, NOW) == []


def test_out_of_order_and_twice(filled: Store) -> None:
    assert filled.record_exemplars([one(host="a"), one(host="a"), one(NOW - 1, host="a")]) == [True, False, False]
    assert filled.record_exemplars([one(host="a"), one(NOW, 2.0, "b", host="a"), one(host="b")]) == [False, False, True]
    assert filled.record_exemplars([one(NOW + 2, 1.0, host="a"), one(NOW + 1, host="a")]) == [True, False]
    assert [each.time for each in filled.exemplars('m{host="a"}')] == [NOW, NOW + 2]


def test_one_without_a_time_is_there_once(filled: Store) -> None:
    def seen(time: int | None, trace: str, value: float = 1.0) -> bool:
        return filled.record_exemplars([Exemplar("m", {"t": trace}, value, {"host": "a"}, time, stamped=False)])[0]

    assert [seen(NOW, "a"), seen(NOW + 1, "a"), seen(NOW + 2, "a", 2.0), seen(NOW + 3, "b", 2.0)] == [
        True,
        False,
        True,
        True,
    ]
    assert seen(None, "c")
    assert not seen(None, "c")
    assert not seen(NOW + 4, "d")


@pytest.mark.parametrize(
    "labels",
    [
        {"a": "x" * 128},
        {"trace_id": "x" * 100, "span_id": "y" * 14},
        {"": "x"},
        {"a": "\ud800"},
        {"a": 1},
        {1: "a"},
        None,
        [("a", "b")],
    ],
    ids=str,
)
def test_labels_that_are_none_or_too_long_cost_that_exemplar(filled: Store, labels: Any) -> None:
    found = filled.record_exemplars([Exemplar("m", labels, 1.0, {"host": "a"}, NOW), one(host="a")])
    assert found == [False, True]


def test_128_characters_are_not_too_long(filled: Store) -> None:
    assert filled.record_exemplars([Exemplar("m", {"é": "𝄞" * 127}, 1.0, {"host": "a"}, NOW)]) == [True]


def test_a_series_that_is_not_there_gets_none_and_is_not_made(filled: Store) -> None:
    before = len(filled.series())
    assert filled.record_exemplars([one(host="c"), one(name="nothing"), one(host="a")]) == [False, False, True]
    assert len(filled.series()) == before


@pytest.mark.parametrize(
    "wrong",
    [
        Exemplar("", {}, 1.0),
        Exemplar("m", {}, 1.0, {"__name__": "m"}),
        Exemplar("m", {}, "1"),  # type: ignore[arg-type]
        Exemplar("m", {}, 2**53 + 1),
        Exemplar("m", {}, 1.0, {}, "yesterday"),
        Exemplar("m", {}, 1.0, {}, 2**63),
        "m",
    ],
    ids=str,
)
def test_bad_input_stores_nothing(filled: Store, wrong: Any) -> None:
    with pytest.raises(InvalidInput):
        filled.record_exemplars([one(host="a"), wrong])
    assert filled.exemplars("m") == []


def test_the_newest_are_kept(tmp_path: Path) -> None:
    series = [{"host": str(n)} for n in range(40)]
    with kymograph.connect(tmp_path / "store", sync="off", exemplars=100) as store:
        store.record([Sample("m", 1.0, labels) for labels in series])
        for n in range(0, 300, 5):
            store.record_exemplars([one(NOW + k, **series[k % 40]) for k in range(n, n + 5)])
        found = sorted(each.time - NOW for each in store.exemplars("m"))
        assert 100 <= len(found) <= 112
        assert found == list(range(300))[-len(found) :]


def test_the_newest_are_kept_where_all_are_of_one_time(tmp_path: Path) -> None:
    series = [{"host": str(n)} for n in range(40)]
    with kymograph.connect(tmp_path / "small", sync="off", exemplars=10) as small:
        small.record([Sample("m", 1.0, labels) for labels in series])
        small.record_exemplars([one(NOW, **labels) for labels in series])
        assert len(small.exemplars("m")) == 10
        small.record_exemplars([one(NOW + 1, **labels) for labels in series[:12]])
        assert [each.time - NOW for each in small.exemplars("m")] == [1] * 10


def test_none_are_kept_where_the_bound_is_0() -> None:
    with kymograph.connect("memory:", exemplars=0) as store:
        store.gauge("m", 1.0)
        assert store.record_exemplars([one()]) == [False]
        assert store.exemplars("m") == []
        assert "exemplars" not in store.tables()
    for wrong in (-1, 1.5, "5", None):
        with pytest.raises(InvalidInput):
            kymograph.connect("memory:", exemplars=wrong)


def test_they_survive_and_a_reader_sees_them(folder: Path) -> None:
    with kymograph.connect(folder) as store:
        store.gauge("m", 1.0, {"host": "a"})
        store.record_exemplars([one(host="a")])
        with kymograph.connect(folder, read_only=True) as reader:
            assert short(reader.exemplars("m")) == [("m", {"host": "a"}, "a", 1.0, NOW)]
            store.record_exemplars([one(NOW + 1, trace="b", host="a")])
            assert len(reader.exemplars("m")) == 2
            with pytest.raises(ReadOnly):
                reader.record_exemplars([one(NOW + 2, host="a")])
    with kymograph.connect(folder) as store:
        assert store.record_exemplars([one(host="a"), one(NOW + 1, host="a"), one(NOW + 2, host="a")]) == [
            False,
            False,
            True,
        ]
        store.seal()
        assert [each.time - NOW for each in store.exemplars("m")] == [0, 1, 2]


def test_namespaces_share_none(folder: Path) -> None:
    with kymograph.connect(folder) as store:
        solar = store.create_namespace("solar")
        for each, trace in ((store, "a"), (solar, "b")):
            each.gauge("m", 1.0)
            each.record_exemplars([one(trace=trace)])
        assert [short(each.exemplars("m"))[0][2] for each in (store, solar)] == ["a", "b"]


def test_deleted_with_the_samples(filled: Store) -> None:
    filled.record_exemplars([one(NOW + n, host=host) for host in "ab" for n in range(3)])
    ids = {labels["host"]: int(filled.series_ids([("m", labels)])[0]) for labels in ({"host": "a"}, {"host": "b"})}
    filled.delete("samples", [kymograph.Matcher("series_id", "in", frozenset([ids["a"]]))], NOW, NOW + 2)
    assert [(each.series["host"], each.time - NOW) for each in filled.exemplars("m")] == [
        ("a", 2),
        ("b", 0),
        ("b", 1),
        ("b", 2),
    ]
    filled.delete_metric(ids["b"])
    assert [each.series["host"] for each in filled.exemplars("m")] == ["a"]
    # what is deleted may come again
    assert filled.record_exemplars([one(host="b")]) == [True]


def test_deleted_alone(filled: Store) -> None:
    nan = float("nan")
    assert filled.record_exemplars([one(NOW, nan, host="a"), one(NOW + 1, host="b")]) == [True, True]
    assert filled.delete("exemplars", end=NOW + 1) == 1
    assert filled.record_exemplars([one(NOW, nan, host="a"), one(NOW, nan, host="a"), one(NOW, host="b")]) == [
        True,
        False,
        False,
    ]


def test_deleted_with_a_ring(filled: Store) -> None:
    ring = filled.ring("r")
    filled.gauge("r", 1.0)
    assert filled.record_exemplars([one(name="r")]) == [True]
    filled.delete_metric(ring.id)
    assert filled.exemplars("r") == []


def test_retention_and_sql(folder: Path) -> None:
    with kymograph.connect(folder, sync="off", age="1h") as store:
        store.gauge("m", 1.0, {"host": "a"})
        store.record_exemplars([one(1_000_000, host="a"), one(None, trace="b", host="a")])
        store.seal()
        rows = store.sql("SELECT m.name, m.host, e.labels, e.value FROM exemplars e JOIN metrics m USING (series_id)")
        assert sorted(rows.rows(), key=str) == [
            {"name": "m", "host": "a", "labels": f'{{"trace_id":"{trace}"}}', "value": 1.0} for trace in "ab"
        ]
        store.prune(force=True)
        assert [each.labels for each in store.exemplars("m")] == [{"trace_id": "b"}]


def test_the_name_of_the_table(filled: Store) -> None:
    with pytest.raises(SchemaError):
        filled.create_table("exemplars", fields={"x": "float64"})
    with pytest.raises(InvalidInput):
        filled.write("exemplars", {"time": [NOW], "x": [1.0]})
    filled.record_exemplars([one(host="a")])
    filled.drop_table("exemplars")
    assert filled.exemplars("m") == []
    assert filled.record_exemplars([one(host="a")]) == [True]


def test_a_table_of_that_name_from_before(filled: Store) -> None:
    """Its rows stay its owner's; exemplars are passed over."""
    from kymograph.model.schema import table_schema

    filled.engine.create_table(table_schema("exemplars", ["host"], {"x": "float64"}))
    filled.write("exemplars", {"time": [NOW], "host": ["a"], "x": [1.0]})
    assert filled.record_exemplars([one(host="a")]) == [False]
    assert filled.exemplars("m") == []
    filled.delete("samples")
    assert filled.scan("exemplars").num_rows == 1


def test_they_are_no_metric(filled: Store) -> None:
    filled.record_exemplars([one(host="a")])
    assert not [each for each in filled.series() if each["__name__"].startswith("exemplars")]


@pytest.fixture
def closed(store: Store) -> Store:
    store.close()
    return store


def test_a_closed_store(closed: Store) -> None:
    with pytest.raises(kymograph.KymographError):
        closed.exemplars("m")
    with pytest.raises(kymograph.KymographError):
        closed.record_exemplars([one()])
