"""Labels that come after a table was made: rows from before have null for them, and stay the same series."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from kymograph.engine.interface import Engine
from kymograph.errors import DuplicateRows, SchemaError
from kymograph.model.matcher import Matcher
from kymograph.model.schema import SAMPLES_SCHEMA, TableSchema, table_schema
from kymograph.model.time import DAY, HOUR
from kymograph.options import Retention
from tests.contract.base import SIMPLE, Suite
from tests.rows import batch_of, columns_of, ordered, rows_of, scanned

NARROW = table_schema("t", ["host"], {"n": "int64"})
WIDE = NARROW.extended(labels=["region"])
NAMES = ("time", "host", "region", "n")


def found(engine: Engine, *args: Any) -> list[tuple[Any, ...]]:
    """Rows as (time, host, region, n)."""
    return scanned(engine, "t", *args, columns=NAMES)


class LaterLabels(Suite):
    """What `alter_table` makes of labels."""

    def write(self, engine: Engine, *rows: tuple[Any, ...]) -> None:
        """Rows of (time, host, region, n), in one batch."""
        self.append(engine, "t", columns_of(NAMES, rows))

    def narrow(self, engine: Engine, *rows: tuple[Any, ...]) -> None:
        """Rows of (time, host, n), made for the schema without the later label."""
        made_for = replace(NARROW, duplicates=engine.tables()["t"].duplicates)
        engine.append("t", batch_of(made_for, columns_of(("time", "host", "n"), rows)))
        self.after_write(engine)

    def test_rows_from_before_have_null(self, engine: Engine) -> None:
        self.create(engine, NARROW)
        self.narrow(engine, (1, "a", 1), (2, None, 2), (3, "", 3))
        engine.alter_table(WIDE)
        assert engine.tables()["t"] == WIDE
        assert (WIDE.labels, WIDE.later, WIDE.required) == (("host", "region"), 1, ("host",))
        before = [(1, "a", None, 1), (2, None, None, 2), (3, "", None, 3)]
        assert found(engine) == before
        self.write(engine, (1, "a", "x", 4), (9, "b", "", 5), (9, None, "x", 6))
        assert found(engine) == ordered([*before, (1, "a", "x", 4), (9, "b", "", 5), (9, None, "x", 6)])
        assert engine.statistics("t").series == 6
        latest = engine.latest("t")
        assert latest.schema == WIDE.arrow
        assert ordered(rows_of(latest)) == found(engine)

    def test_matchers_take_null_for_what_is_missing(self, engine: Engine) -> None:
        self.create(engine, NARROW)
        self.narrow(engine, (1, "a", 1), (DAY, "b", 2))
        engine.alter_table(WIDE)
        self.write(engine, (1, "a", "x", 3), (2, "a", "", 4))
        old, new, empty = [(1, "a", None, 1), (DAY, "b", None, 2)], (1, "a", "x", 3), (2, "a", "", 4)
        for matcher, rows in (
            (Matcher("region", "=", ""), [*old, empty]),
            (Matcher("region", "=", "x"), [new]),
            (Matcher("region", "=", "no"), []),
            (Matcher("region", "!=", "x"), [*old, empty]),
            (Matcher("region", "!=", ""), [new]),
            (Matcher("region", "=~", "x|"), [*old, new, empty]),
            (Matcher("region", "=~", ".+"), [new]),
            (Matcher("region", "!~", ".+"), [*old, empty]),
            (Matcher("region", "in", frozenset({"x", "y"})), [new]),
            (Matcher("region", "in", frozenset({None})), [*old, empty]),
        ):
            assert found(engine, [matcher]) == ordered(rows), matcher
            assert ordered(rows_of(engine.latest("t", [matcher]))) == ordered(rows), matcher
        assert found(engine, [Matcher("host", "=", "a"), Matcher("region", "=", "")], 0, 2) == [(1, "a", None, 1)]

    @pytest.mark.parametrize("policy", ["overwrite", "ignore", "reject"])
    def test_a_row_without_it_is_of_the_old_series(self, engine: Engine, policy: Any) -> None:
        self.create(engine, replace(NARROW, duplicates=policy))
        self.narrow(engine, (1, "a", 1), (2, "a", 1))
        self.narrow(engine, (3, "b", 1))
        engine.alter_table(replace(WIDE, duplicates=policy))
        self.write(engine, (1, "a", "x", 7), (2, "a", "x", 7), (2, "a", "", 7))
        new = [(1, "a", "x", 7), (2, "a", "x", 7), (2, "a", "", 7)]
        for write in (lambda: self.write(engine, (2, "a", None, 9)), lambda: self.narrow(engine, (3, "b", 9))):
            if policy == "reject":
                with pytest.raises(DuplicateRows):
                    write()
            else:
                write()
        last = 9 if policy == "overwrite" else 1
        expected = [(1, "a", None, 1), (2, "a", None, last), (3, "b", None, last), *new]
        assert found(engine) == ordered(expected)
        self.settle(engine)
        assert found(engine) == ordered(expected)
        assert engine.statistics("t").rows == 6
        assert engine.statistics("t").series == 4

    def test_deleting_by_it(self, engine: Engine) -> None:
        self.create(engine, NARROW)
        for step in range(4):
            self.narrow(engine, (step * DAY, "a", step), (step * DAY, "b", step))
        engine.alter_table(WIDE)
        for step in range(2, 6):
            self.write(engine, (step * DAY, "a", "x", step), (step * DAY, "a", "y", step))
        assert engine.delete("t", [Matcher("region", "=", "x")], 3 * DAY, 5 * DAY) == 2
        assert engine.delete("t", [Matcher("region", "=", "")], None, 2 * DAY) == 4
        assert engine.delete("t", [Matcher("region", "=", ""), Matcher("host", "=", "b")]) == 2
        left = [(2 * DAY, "a", None, 2), (3 * DAY, "a", None, 3), (2 * DAY, "a", "x", 2), (5 * DAY, "a", "x", 5)]
        left += [(step * DAY, "a", "y", step) for step in range(2, 6)]
        assert found(engine) == ordered(left)
        assert ordered(row[:3] for row in rows_of(engine.latest("t"))) == [
            (3 * DAY, "a", None), (5 * DAY, "a", "x"), (5 * DAY, "a", "y"),
        ]  # fmt: skip
        assert engine.delete("t", [Matcher("region", "=", "y")], 5 * DAY) == 1
        assert (4 * DAY, "a", "y") in [row[:3] for row in rows_of(engine.latest("t"))]

    def test_several_and_fields_among_them(self, engine: Engine) -> None:
        self.create(engine, NARROW)
        self.narrow(engine, (1, "a", 1))
        batches = [batch_of(NARROW, {"time": [2], "host": ["a"], "n": [2]})]
        schema = NARROW
        for step, more in enumerate(
            ({"labels": ["l1"]}, {"fields": [("f1", pa.bool_())]}, {"labels": ["l2", "l3"], "fields": [("f2", pa.int8())]})
        ):  # fmt: skip
            schema = schema.extended(**more)  # type: ignore[arg-type]
            engine.alter_table(schema)
            assert engine.tables()["t"] == schema
            batches.append(batch_of(schema, {"time": [step + 3], "host": ["a"], "l1": ["x"], "n": [step + 3]}))
        for batch in batches:  # made for what the table was once
            engine.append("t", batch)
            self.after_write(engine)
        names = ["time", "host", "l1", "l2", "l3", "n", "f1", "f2"]
        assert list(schema.columns) == names
        assert scanned(engine, "t") == [
            (time, "a", "x" if time > 2 else None, None, None, time, None, None) for time in range(1, 6)
        ]
        self.settle(engine)
        data = {name: ["v"] for name in ("host", "l1", "l2", "l3")} | {"time": [1], "n": [1], "f1": [True], "f2": [-1]}
        self.append(engine, "t", data)
        assert scanned(engine, "t")[1] == (1, "v", "v", "v", "v", 1, True, -1)

    def test_a_table_that_had_none(self, engine: Engine) -> None:
        bare = table_schema("t", [], {"n": "int64"})
        self.create(engine, bare)
        self.append(engine, "t", {"time": [1, 2], "n": [1, 2]})
        engine.alter_table(bare.extended(labels=["host"]))
        self.append(engine, "t", {"time": [1, 2, 2], "host": ["a", "a", None], "n": [3, 4, 5]})
        assert scanned(engine, "t") == [(1, None, 1), (1, "a", 3), (2, None, 5), (2, "a", 4)]
        self.settle(engine)
        assert scanned(engine, "t", [Matcher("host", "=", "a")], 2) == [(2, "a", 4)]
        assert engine.delete("t", [Matcher("host", "=", "")]) == 2
        assert scanned(engine, "t") == [(1, "a", 3), (2, "a", 4)]

    @pytest.mark.parametrize(
        "other",
        [
            replace(WIDE, labels=("region", "host")), replace(WIDE, labels=("region",)), replace(WIDE, later=0),
            replace(WIDE, labels=("host", "other")), replace(WIDE, labels=("host",), later=0),
            replace(WIDE, labels=("host", "region", "more")), replace(WIDE, labels=("host", "region", "more"), later=1),
            replace(WIDE, labels=("host", "more", "region"), later=2),
        ],
        ids=lambda schema: f"{schema.labels}, {schema.later} later",
    )  # fmt: skip
    def test_labels_neither_go_nor_move(self, engine: Engine, other: TableSchema) -> None:
        self.create(engine, NARROW)
        engine.alter_table(WIDE)
        self.write(engine, (1, "a", "x", 1))
        with pytest.raises(SchemaError, match="t"):
            engine.alter_table(other)
        assert engine.tables()["t"] == WIDE
        assert found(engine) == [(1, "a", "x", 1)]

    def test_what_has_no_later_labels(self, engine: Engine) -> None:
        self.create(engine, SAMPLES_SCHEMA)
        self.create(engine, NARROW)
        for make in (
            lambda: SAMPLES_SCHEMA.extended(labels=["host"]),
            lambda: NARROW.extended(labels=["n"]),  # a field already
            lambda: NARROW.extended(labels=["host"]),
            lambda: NARROW.extended(labels=["time"]),
            lambda: WIDE.extended([("region", pa.int8())]),
        ):
            with pytest.raises(SchemaError):
                engine.alter_table(make())

    def test_a_batch_of_another_schema_is_refused(self, engine: Engine) -> None:
        self.create(engine, NARROW)
        engine.alter_table(WIDE)
        data = {"time": [1], "host": ["a"], "region": ["x"], "more": ["y"], "n": [1]}
        for wrong in (
            WIDE.extended(labels=["more"]),
            table_schema("t", ["region", "host"], {"n": "int64"}),
            table_schema("t", ["region"], {"n": "int64"}),
            table_schema("t", [], {"n": "int64"}),
            table_schema("t", ["host"], {"region": "string", "n": "int64"}),
        ):
            with pytest.raises(SchemaError):
                engine.append("t", batch_of(wrong, data))
        assert scanned(engine, "t") == []

    def test_a_running_scan_keeps_its_columns(self, engine: Engine) -> None:
        self.create(engine, NARROW)
        for step in range(3):
            self.narrow(engine, (step, "a", step), (step, "b", step))
        self.narrow(engine, (1, "a", 9))
        before = scanned(engine, "t")
        scans = [engine.scan("t"), engine.scan("t", [Matcher("host", "=", "a")])]
        running = [part() for part in engine.scan("t").parts]
        engine.alter_table(WIDE)
        self.write(engine, (0, "a", "x", 5), (1, "a", None, 6))
        assert len(found(engine)) == 7  # the same blocks, by their new labels
        self.settle(engine)
        assert ordered(rows_of(scans[0].table())) == before
        assert ordered(rows_of(scans[1].table())) == [row for row in before if row[1] == "a"]
        assert ordered(row for part in running for batch in part for row in rows_of(batch)) == before
        assert len(found(engine)) == 7

    def test_latest_follows(self, engine: Engine) -> None:
        self.create(engine, NARROW)
        self.narrow(engine, (5, "a", 5), (7, "b", 7))
        engine.alter_table(WIDE)
        self.write(engine, (3, "a", None, 3), (3, "a", "x", 4), (9, "b", None, 9))
        assert ordered(rows_of(engine.latest("t"))) == [(3, "a", "x", 4), (5, "a", None, 5), (9, "b", None, 9)]
        assert engine.delete("t", [Matcher("region", "=", "")], 5) == 3
        assert ordered(rows_of(engine.latest("t"))) == [(3, "a", None, 3), (3, "a", "x", 4)]

    def test_two_add_the_same_at_once(self, engine: Engine) -> None:
        self.create(engine, NARROW)
        barrier = threading.Barrier(6)

        def add(number: int) -> str:
            barrier.wait()
            wanted = WIDE if number % 3 else NARROW.extended([("more", pa.int8())])
            try:
                engine.alter_table(wanted)
            except SchemaError:
                return "refused"
            return "label" if number % 3 else "field"

        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(add, range(6)))
        # whoever came first has it; those who wanted the same have it too, the others did not see it and are told
        first = "label" if engine.tables()["t"] == WIDE else "field"
        assert sorted(set(answers)) == sorted({first, "refused"})
        assert answers.count(first) == (4 if first == "label" else 2)

    def test_beside_writers_and_readers(self, engine: Engine) -> None:
        self.create(engine, NARROW)
        done = threading.Event()

        def write(writer: int) -> None:
            for step in range(24):
                self.narrow(engine, (step * HOUR, f"w{writer}", step))

        def alter() -> None:
            for step in range(4):
                engine.alter_table(engine.tables()["t"].extended(labels=[f"l{step}"]))
                data = {"time": [step * HOUR], "host": ["alter"], f"l{step}": ["x"], "n": [step]}
                self.append(engine, "t", data)

        def read() -> None:
            while not done.is_set():
                table = engine.scan("t", columns=["time", "host"]).table()
                keys = [row for row in rows_of(table) if row[1] != "alter"]
                assert len(set(keys)) == len(keys)
                assert len({row[1] for row in rows_of(engine.latest("t")) if row[1] != "alter"}) <= 3

        with ThreadPoolExecutor(6) as pool:
            reader = pool.submit(read)
            try:
                for future in [*(pool.submit(write, writer) for writer in range(3)), pool.submit(alter)]:
                    future.result()
            finally:
                done.set()
            reader.result()
        assert engine.tables()["t"].labels == ("host", "l0", "l1", "l2", "l3")
        expected = [
            (step * HOUR, f"w{writer}", None, None, None, None, step) for writer in range(3) for step in range(24)
        ]
        expected += [(s * HOUR, "alter", *("x" if s == place else None for place in range(4)), s) for s in range(4)]
        assert scanned(engine, "t") == ordered(expected)
        assert engine.statistics("t").series == 7


class LaterLabelBounds(Suite):
    """Retention over rows with and without a later label."""

    def test_age(self, engine: Any) -> None:
        self.create(engine, replace(SIMPLE, retention=Retention(age="2d"), partition=HOUR))
        now = 100 * DAY
        self.put(engine, {("a", "x", now - step * DAY): float(step) for step in range(5)})
        engine.alter_table(engine.tables()["t"].extended(labels=["region"]))
        times = [now - step * DAY for step in range(5)]
        self.append(engine, "t", {"time": times, "host": "a", "unit": "x", "region": "r", "value": 1.0})
        assert engine.prune(now=now, force=True, dry_run=True).rows == 4
        assert engine.prune(now=now, force=True).rows == 4
        rows = scanned(engine, "t", columns=["time", "region"])
        assert rows == ordered((time, region) for time in times[:3] for region in (None, "r"))
