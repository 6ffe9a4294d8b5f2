"""Many threads at once: the same table, the same new column, the same new series."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import kymograph
from kymograph.errors import NotFound, SchemaError, StoreClosed
from kymograph.store.metrics import Sample
from kymograph.store.rings.metric import RingMetrics
from kymograph.store.rings.rings import Target
from kymograph.store.store import Store

THREADS = 8


def together(work: Callable[[int], None]) -> list[BaseException]:
    """Run `work(0…7)` at the same time; returns what went wrong."""
    start = threading.Barrier(THREADS)
    problems: list[BaseException] = []

    def run(number: int) -> None:
        start.wait()
        try:
            work(number)
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
        assert not thread.is_alive()
    return problems


def test_creating_the_same_table(store: Store) -> None:
    for attempt in range(5):
        assert not together(
            lambda n, a=attempt: store.write(f"t{a}", {"time": [n], "host": [str(n)], "v": [float(n)]})  # type: ignore[misc]
        )
        assert sorted(store.scan(f"t{attempt}")["v"].to_pylist()) == list(range(THREADS))


def test_extending_the_same_table(store: Store) -> None:
    store.write("t", {"time": [-1], "host": ["x"], "shared": [0]})

    def work(number: int) -> None:
        for step in range(5):
            columns = {"shared": [number], f"own{number}_{step}": [number], f"every{step}": [float(number)]}
            store.write("t", {"time": [step], "host": [str(number)], **columns})

    assert not together(work)
    rows = store.scan("t")
    assert rows.num_rows == 1 + THREADS * 5
    assert set(store.tables()["t"].columns) == {
        "time",
        "host",
        "shared",
        *(f"every{step}" for step in range(5)),
        *(f"own{number}_{step}" for number in range(THREADS) for step in range(5)),
    }
    for number in range(THREADS):
        own = store.scan("t", {"host": str(number)})
        assert [own[f"own{number}_{step}"][step].as_py() for step in range(5)] == [number] * 5


def test_columns_that_contradict_each_other(store: Store) -> None:
    store.write("t", {"time": [-1], "host": ["x"]})

    def work(number: int) -> None:
        value: object = "text" if number % 2 else number
        store.write("t", {"time": [number], "host": ["x"], "v": [value]})

    problems = together(work)
    assert len(problems) == THREADS // 2
    assert all(isinstance(problem, SchemaError) for problem in problems)
    assert store.scan("t").num_rows == 1 + THREADS // 2


def test_labels_that_come_beside_fields(store: Store) -> None:
    store.write("t", {"time": [-1], "host": ["x"]})

    def work(number: int) -> None:
        for step in range(5):
            store.add_columns("t", [f"every{step}", f"own{number % 4}"])
            columns = {f"every{step}": [str(number)], f"field{number}": [float(step)], "shared": [step]}
            store.write("t", {"time": [step], "host": ["x"], **columns})

    assert not together(work)
    schema = store.tables()["t"]
    assert set(schema.labels) == {"host", *(f"every{n}" for n in range(5)), *(f"own{n}" for n in range(4))}
    assert dict(schema.fields).keys() == {"shared", *(f"field{number}" for number in range(THREADS))}
    rows = store.scan("t")
    assert rows.num_rows == 1 + THREADS * 5
    for number in range(THREADS):
        for step in range(5):
            own = store.scan("t", {f"every{step}": str(number)})
            assert own[f"field{number}"].to_pylist() == [float(step)]


def test_first_writes_of_the_same_series(store: Store) -> None:
    def work(number: int) -> None:
        for step in range(20):
            store.gauge(f"m{step % 4}", number, {"host": str(step)}, time=number * 100 + step, unit="u")
            store.record([Sample(f"r{step % 4}", float(number), {"host": str(step)}, number * 100 + step)])

    assert not together(work)
    assert store.scan("samples").num_rows == THREADS * 40
    assert len(store.engine.series()) == 40
    assert [metric["series"] for metric in store.metrics()] == [5] * 8


def test_writing_while_the_table_is_dropped(store: Store) -> None:
    def work(number: int) -> None:
        for step in range(10):
            if number == 0:
                try:
                    store.drop_table("t")
                except NotFound:
                    continue
            else:
                store.write("t", {"time": [step], "host": [str(number)], "v": [step]})

    assert not together(work)
    store.write("t", {"time": [0], "host": ["end"], "v": [0]})
    assert store.scan("t", {"host": "end"}).num_rows == 1


def test_closing_while_others_write(store: Store) -> None:
    def work(number: int) -> None:
        if number == 0:
            store.close()
            return
        try:
            for step in range(100_000):
                store.gauge("g", step, {"n": str(number)}, time=step)
        except StoreClosed:
            return
        raise AssertionError("the store was never closed")

    assert not together(work)


def test_a_ring_that_another_makes_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another writer makes the ring, and writes, between this one's look at the rings and its look at the samples."""
    sampled, others = RingMetrics.sampled, [5]

    def write(store: Store, second: int) -> None:
        target = Target(name="m", step=10**6, slots=11)
        store.write_rings("gauge", [target], np.array([0]), np.array([second * 10**6]), np.array([1.0]))

    with kymograph.connect("memory:") as store:

        def late(self: RingMetrics, ids: Any) -> set[int]:
            while others:
                write(store, others.pop())
            return sampled(self, ids)

        monkeypatch.setattr(RingMetrics, "sampled", late)
        write(store, 6)
        assert store.scan("samples").num_rows == 2
