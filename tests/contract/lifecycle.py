"""Series, documents, closing, and many threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kymograph.engine.interface import Engine
from kymograph.errors import StoreClosed
from kymograph.model.schema import table_schema
from tests.contract.base import SIMPLE, Suite
from tests.rows import batch_of, rows_of, scanned

COUNTED = table_schema("counted", ["writer"], {"number": "int64"}, partition="1m")


class Lifecycle(Suite):
    """What an engine keeps beside rows, and its end."""

    def test_same_labels_same_id(self, engine: Engine) -> None:
        labels = [{"host": "a"}, {"host": "b"}, {}, {"host": "a", "größe": "🜚"}, {"host": "a"}]
        first = engine.register_series([("cpu", one) for one in labels])
        assert len(first) == 5
        assert first[0] == first[4]
        assert len(set(first)) == 4
        assert engine.register_series([("cpu", {"größe": "🜚", "host": "a"}), ("cpu", {"host": "b"})]) == [
            first[3],
            first[1],
        ]
        other = engine.register_series([("cpu2", {"host": "a"})])
        assert other[0] not in first
        assert engine.register_series([]) == []
        expected = {n: ("cpu", one) for n, one in zip(first, labels, strict=True)} | {other[0]: ("cpu2", {"host": "a"})}
        assert {n: (name, dict(found)) for n, (name, found) in engine.series().items()} == expected
        assert all(isinstance(n, int) and n >= 0 for n in expected)

    def test_series_is_a_snapshot(self, engine: Engine) -> None:
        engine.register_series([("cpu", {"host": "a"})])
        before = engine.series()
        engine.register_series([("cpu", {"host": "b"})])
        assert len(before) == 1
        assert len(engine.series()) == 2

    def test_labels_that_join_to_the_same_text_are_different(self, engine: Engine) -> None:
        labels = [
            {"a": "b,c=d"},
            {"a": "b", "c": "d"},
            {"a": 'b"', "c": "d"},
            {"a\0": "b"},
            {"a": "\0b"},
            {"a": ""},
            {},
        ]
        assert len(set(engine.register_series([("m", one) for one in labels]))) == len(labels)

    def test_series_from_many_threads(self, engine: Engine) -> None:
        labels = [{"host": str(n % 40)} for n in range(120)]
        barrier = threading.Barrier(8)

        def register(offset: int) -> dict[str, int]:
            barrier.wait()
            mine = labels[offset:] + labels[:offset]
            found: dict[str, int] = {}
            for start in range(0, len(mine), 10):
                some = mine[start : start + 10]
                found |= {
                    one["host"]: n
                    for one, n in zip(some, engine.register_series([("m", one) for one in some]), strict=True)
                }
            return found

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(register, range(0, 120, 15)))
        assert all(answer == answers[0] for answer in answers)
        assert len(set(answers[0].values())) == 40
        assert len(engine.series()) == 40

    @pytest.mark.parametrize(
        "value", [0, False, "", [], {}, 1.5, -(2**53), "é🜚\0", [None, {"a": [1, "b"]}], {"": None, "ключ": 1}], ids=repr
    )
    def test_documents(self, engine: Engine, value: Any) -> None:
        assert engine.get_document("kind", "key") is None
        engine.put_document("kind", "key", value)
        engine.put_document("kind", "schlüssel/2", "other")
        engine.put_document("other", "key", 1)
        assert engine.get_document("kind", "key") == value
        assert type(engine.get_document("kind", "key")) is type(value)
        assert dict(engine.documents("kind")) == {"key": value, "schlüssel/2": "other"}
        engine.put_document("kind", "key", "replaced")
        assert engine.get_document("kind", "key") == "replaced"
        engine.put_document("kind", "key", None)
        engine.put_document("kind", "never", None)
        assert engine.get_document("kind", "key") is None
        assert dict(engine.documents("kind")) == {"schlüssel/2": "other"}
        assert dict(engine.documents("nothing")) == {}

    def test_documents_are_copies(self, engine: Engine) -> None:
        value = {"list": [1]}
        engine.put_document("kind", "key", value)
        value["list"].append(2)
        engine.get_document("kind", "key")["list"].append(3)
        engine.documents("kind")["key"]["list"].append(4)
        assert engine.get_document("kind", "key") == {"list": [1]}

    def test_after_close_every_call_says_so(self, engine: Engine) -> None:
        self.create(engine)
        batch = batch_of(SIMPLE, {"time": [1], "host": ["a"], "unit": ["x"]})
        engine.close()
        engine.close()
        calls: list[Callable[[], Any]] = [
            engine.tables, engine.series, lambda: engine.create_table(SIMPLE), lambda: engine.alter_table(SIMPLE),
            lambda: engine.drop_table("t"), lambda: engine.append("t", batch), lambda: engine.scan("t"),
            lambda: engine.delete("t"), lambda: engine.latest("t"), lambda: engine.statistics("t"),
            lambda: engine.register_series([("m", {})]), lambda: engine.get_document("k", "k"),
            lambda: engine.put_document("k", "k", 1), lambda: engine.documents("k"),
        ]  # fmt: skip
        for name, arguments in (("usage", {}), ("prune", {"now": 0}), ("seal", {}), ("compact", {}), ("check", {})):
            if hasattr(engine, name):
                calls.append(lambda name=name, arguments=arguments: getattr(engine, name)(**arguments))  # type: ignore[misc]
        for call in calls:
            with pytest.raises(StoreClosed):
                call()


class Threads(Suite):
    """Eight writers and readers beside them."""

    writers, batches, rows = 8, 12, 25

    def test_writers_and_readers(self, engine: Engine) -> None:
        self.create(engine, COUNTED)
        acknowledged = np.zeros(self.writers, np.int64)
        done = threading.Event()

        def write(writer: int) -> None:
            for number in range(self.batches):
                first = number * self.rows
                numbers = np.arange(first, first + self.rows)
                data = {"time": numbers * 10**6, "writer": f"w{writer}", "number": numbers}
                assert self.append(engine, "counted", data) == self.rows
                acknowledged[writer] = first + self.rows

        def read() -> int:
            scans = 0
            while not done.is_set() or scans == 0:
                before = acknowledged.copy()
                table = engine.scan("counted").table()
                counts = self.prefixes(table)
                assert all(counts.get(f"w{w}", 0) >= before[w] for w in range(self.writers)), (
                    "acknowledged rows are missing"
                )
                latest = {row[1]: row[2] for row in rows_of(engine.latest("counted"))}
                assert all(latest.get(f"w{w}", -1) >= before[w] - 1 for w in range(self.writers))
                assert engine.statistics("counted").rows >= before.sum()
                scans += 1
            return scans

        with ThreadPoolExecutor(self.writers + 2) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            writers = [pool.submit(write, writer) for writer in range(self.writers)]
            try:
                for future in writers:
                    future.result()
            finally:
                done.set()
            assert all(reader.result() > 0 for reader in readers)
        total = self.batches * self.rows
        assert self.prefixes(engine.scan("counted").table()) == {f"w{w}": total for w in range(self.writers)}
        assert engine.statistics("counted").rows == total * self.writers

    def prefixes(self, table: pa.Table) -> dict[str, int]:
        """Rows per writer; each must hold a prefix of what it writes, in whole batches, no row twice."""
        counts: dict[str, int] = {}
        numbers: dict[str, list[int]] = {}
        for writer, number in zip(table["writer"].to_pylist(), table["number"].to_pylist(), strict=True):
            numbers.setdefault(writer, []).append(number)
        for writer, found in numbers.items():
            assert sorted(found) == list(range(len(found))), f"{writer}: not a prefix"
            assert len(found) % self.rows == 0, f"{writer}: half a batch"
            counts[writer] = len(found)
        return counts

    def test_one_series_from_many_threads(self, engine: Engine) -> None:
        self.create(engine)
        barrier = threading.Barrier(8)

        def write(value: int) -> None:
            barrier.wait()
            for t in range(10):
                self.put(engine, {("a", "x", t): float(value)})

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(8)))
        rows = scanned(engine, "t")
        assert [row[0] for row in rows] == list(range(10))
        assert engine.statistics("t").rows == 10

    def test_deletes_beside_writes(self, engine: Engine) -> None:
        self.create(engine, COUNTED)

        def write(writer: int) -> None:
            for number in range(20):
                self.append(engine, "counted", {"time": [number], "writer": [f"w{writer}"], "number": [number]})

        def delete(_: int) -> int:
            return sum(engine.delete("counted", start=0, end=10) for _ in range(10))

        with ThreadPoolExecutor(6) as pool:
            removed = pool.map(delete, range(2))
            list(pool.map(write, range(4)))
            gone = sum(removed)
        left = scanned(engine, "counted")
        assert gone + len(left) == 80
        assert engine.statistics("counted").rows == len(left)
        assert len([row for row in left if row[0] >= 10]) == 40

    def test_tables_from_many_threads(self, engine: Engine) -> None:
        barrier = threading.Barrier(8)

        def create(writer: int) -> None:
            barrier.wait()
            engine.create_table(SIMPLE)
            engine.create_table(table_schema(f"t{writer}", [], {"f": "int8"}))
            self.append(engine, f"t{writer}", {"time": [1], "f": [writer]})

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(create, range(8)))
        assert set(engine.tables()) == {"t", *(f"t{n}" for n in range(8))}
        assert [scanned(engine, f"t{n}") for n in range(8)] == [[(1, n)] for n in range(8)]
