"""Namespaces: the same names, nothing shared."""

from __future__ import annotations

from pathlib import Path

import pytest

import kymograph
from kymograph.errors import AlreadyExists, InvalidInput, NotFound, StoreClosed, StoreLocked
from kymograph.store.store import Store


def test_the_same_names_and_nothing_shared(store: Store) -> None:
    solar, cars = store.create_namespace("solar"), store.create_namespace("cars")
    for number, each in enumerate((store, solar, cars)):
        each.write("power", {"time": [1], "meter": ["m"], "watts": [float(number)]})
        each.gauge("temp", number, {"room": "a"}, time=1)
        each.describe("temp", unit=f"u{number}")
    solar.gauge("only_here", 1)
    for number, each in enumerate((store, solar, cars)):
        assert each.sql("SELECT watts FROM power").rows() == [{"watts": float(number)}]
        assert each.promql("temp", time=1).values.tolist() == [number]
        assert each.metrics()[-1]["unit"] == f"u{number}"
    assert len(solar.series()) == 3
    assert len(store.series()) == len(cars.series()) == 2
    cars.drop_table("power")
    assert sorted(store.tables()) == sorted(solar.tables()) == ["power", "samples"]
    assert store.namespaces() == ["cars", "solar"]
    assert store.namespace("solar") is solar


def test_namespaces_come_back_with_their_bounds(folder: Path) -> None:
    with kymograph.connect(folder, sync="off") as store:
        store.create_namespace("solar", cap="50MB", age="1d").gauge("a", 1, time=1)
        store.create_namespace("solar", cap="50MB", age="1d")
        with pytest.raises(AlreadyExists):
            store.create_namespace("solar", cap="60MB")
        store.create_namespace("cars")
    with kymograph.connect(folder, sync="off") as store:
        assert store.namespaces() == ["cars", "solar"]
        solar = store.namespace("solar")
        assert (solar.options.cap, solar.options.age) == (50_000_000, 86_400_000_000)
        assert solar.info()["rows"] == 1
        assert store.info()["rows"] == 0


def test_each_namespace_has_its_own_writer(folder: Path) -> None:
    with (
        kymograph.connect(folder, namespace="a", sync="off") as one,
        kymograph.connect(folder, namespace="b", sync="off") as two,
        kymograph.connect(folder, sync="off") as root,
    ):
        one.gauge("x", 1)
        two.gauge("x", 2)
        assert root.namespaces() == ["a", "b"]
        with pytest.raises(StoreLocked):
            root.namespace("a")
        with kymograph.connect(folder, namespace="a", read_only=True) as reader:
            assert reader.promql("x").values.tolist() == [1]
    with kymograph.connect(folder, sync="off") as root:
        assert root.namespace("b").promql("x").values.tolist() == [2]


@pytest.mark.parametrize("name", ["", "A", "../x", "a/b", ".", "é", "x" * 64, None, 3, "-a", "a\n"])
def test_names_that_are_none(folder: Path, name: object) -> None:
    with kymograph.connect(folder, sync="off") as store:
        with pytest.raises(InvalidInput):
            store.create_namespace(name)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput):
            store.namespace(name)  # type: ignore[arg-type]
        assert store.namespaces() == []
    if name is not None:
        with pytest.raises(InvalidInput):
            kymograph.connect(folder, namespace=name)  # type: ignore[arg-type]


def test_what_is_not_there_and_what_is_closed(store: Store) -> None:
    with pytest.raises(NotFound):
        store.namespace("nothing")
    solar = store.create_namespace("solar")
    with pytest.raises(InvalidInput, match="inside"):
        solar.create_namespace("deeper")
    assert solar.namespaces() == []
    store.close()
    with pytest.raises(StoreClosed):
        solar.gauge("x", 1)
    with pytest.raises(StoreClosed):
        store.namespace("solar")
