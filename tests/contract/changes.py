"""Tables come, grow and go; rows are deleted and pruned; the latest row of every series follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from kymograph.engine.interface import Engine
from kymograph.errors import AlreadyExists, KymographError, NotFound, SchemaError
from kymograph.model.matcher import Matcher
from kymograph.model.schema import TableSchema, table_schema
from kymograph.model.time import DAY, HOUR
from kymograph.options import Retention
from tests.contract.base import SIMPLE, Suite
from tests.contract.values import scanned_values
from tests.rows import batch_of, ordered, rows_of, scanned


class Changes(Suite):
    """Everything but writing rows."""

    def test_tables_by_name(self, engine: Engine) -> None:
        assert dict(engine.tables()) == {}
        other = table_schema("gpu.metrics-1", ["l"], {"f": "int8"}, "reject", "1h", Retention(age="90d", bytes="1GB"))
        self.create(engine)
        self.create(engine, other)
        assert dict(engine.tables()) == {"t": SIMPLE, "gpu.metrics-1": other}

    def test_creating_again(self, engine: Engine) -> None:
        self.create(engine)
        self.put(engine, {("a", "x", 1): 1.0})
        self.create(engine, table_schema("t", ["host", "unit"], {"value": "float64", "count": "int64"}))
        assert len(scanned(engine, "t")) == 1
        for other in (replace(SIMPLE, duplicates="ignore"), SIMPLE.extended([("x", pa.int8())])):
            with pytest.raises(AlreadyExists, match="t"):
                engine.create_table(other)
        assert engine.tables()["t"] == SIMPLE

    def test_names_that_differ_by_case(self, engine: Engine) -> None:
        for name in ("t", "T"):
            self.create(engine, replace(SIMPLE, name=name))
            self.put(engine, {(name, "x", 1): 1.0}, name)
        assert [scanned(engine, name)[0][1] for name in ("t", "T")] == ["t", "T"]

    def test_unknown_tables(self, engine: Engine) -> None:
        self.create(engine)
        batch = batch_of(SIMPLE, {"time": [1], "host": ["a"], "unit": ["x"]})
        calls: list[Any] = [
            lambda: engine.append("no", batch), lambda: engine.scan("no"), lambda: engine.delete("no"),
            lambda: engine.latest("no"), lambda: engine.statistics("no"), lambda: engine.drop_table("no"),
            lambda: engine.alter_table(replace(SIMPLE, name="no")),
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(NotFound, match="no"):
                call()

    def test_fields_are_added(self, engine: Engine) -> None:
        self.create(engine)
        self.put(engine, {("a", "x", 1): 1.0})
        old = batch_of(SIMPLE, {"time": [2], "host": ["a"], "unit": ["x"], "value": [2.0]})
        wider = SIMPLE.extended([("flag", pa.bool_()), ("text", pa.string())])
        engine.alter_table(wider)
        assert engine.tables()["t"] == wider
        self.append(engine, "t", {"time": [3], "host": ["a"], "unit": ["x"], "flag": [True], "text": ["é"]})
        engine.append("t", old)  # made before the fields were there
        self.after_write(engine)
        engine.alter_table(wider.extended([("n", pa.uint64())]))
        self.append(engine, "t", {"time": [1], "host": ["b"], "unit": ["x"], "n": [2**64 - 1]})
        found = engine.scan("t", columns=["time", "host", "flag", "text", "n"])
        assert ordered(rows_of(found.table())) == [
            (1, "a", None, None, None), (1, "b", None, None, 2**64 - 1), (2, "a", None, None, None),
            (3, "a", True, "é", None),
        ]  # fmt: skip
        assert engine.latest("t").schema == engine.tables()["t"].arrow
        assert {row[:2] for row in rows_of(engine.latest("t"))} == {(3, "a"), (1, "b")}

    @pytest.mark.parametrize(
        "other",
        [
            replace(SIMPLE, labels=("host",)), replace(SIMPLE, labels=("host", "unit", "more")),
            replace(SIMPLE, labels=("unit", "host")), replace(SIMPLE, partition=HOUR),
            replace(SIMPLE, fields=SIMPLE.fields[:1]), replace(SIMPLE, fields=(("value", pa.float32()), SIMPLE.fields[1])),
        ],
        ids=lambda schema: str(schema.columns),
    )  # fmt: skip
    def test_nothing_else_of_the_columns_changes(self, engine: Engine, other: TableSchema) -> None:
        self.create(engine)
        self.put(engine, {("a", "x", 1): 1.0})
        with pytest.raises(SchemaError, match="t"):
            engine.alter_table(other)
        assert engine.tables()["t"] == SIMPLE
        assert scanned_values(engine) == [(1, "a", "x", 1.0)]

    def test_a_batch_of_another_schema_is_refused(self, engine: Engine) -> None:
        self.create(engine)
        data = {"time": [1], "host": ["a"], "unit": ["x"], "value": [1.0], "more": [1.0]}
        for wrong in (
            batch_of(SIMPLE.extended([("more", pa.float64())]), data),
            batch_of(table_schema("t", ["host"], {"value": "float64"}), data),
            batch_of(table_schema("t", ["host", "unit"], {"value": "float32"}), data),
        ):
            with pytest.raises(KymographError):
                engine.append("t", wrong)
        assert scanned(engine, "t") == []

    def test_dropping(self, engine: Engine) -> None:
        self.create(engine)
        self.put(engine, {("a", "x", 1): 1.0})
        engine.drop_table("t")
        assert "t" not in engine.tables()
        with pytest.raises(NotFound):
            engine.scan("t")
        other = self.create(engine, table_schema("t", ["l"], {"f": "string"}))
        assert scanned(engine, "t") == []
        assert engine.latest("t").num_rows == 0
        self.append(engine, "t", {"time": [1], "l": ["a"], "f": ["x"]})
        assert scanned(engine, "t") == [(1, "a", "x")]
        assert engine.tables()["t"] == other

    def test_deleting_by_label_and_range(self, engine: Engine) -> None:
        self.create(engine)
        rows = {(host, unit, t): 1.0 * t for host in ("a", "b", None) for unit in "xy" for t in (0, HOUR, DAY, 2 * DAY)}
        for host in ("a", "b", None):
            self.put(engine, {key: value for key, value in rows.items() if key[0] == host})
        for matchers, start, end in (
            ([Matcher("host", "=", "a"), Matcher("unit", "=", "x")], HOUR, 2 * DAY),
            ([Matcher("host", "=", "a"), Matcher("unit", "=", "x")], HOUR, 2 * DAY),  # nothing is left to go
            ([Matcher("host", "=", "")], None, 1),
            ([], DAY, DAY + 1),
            ([Matcher("unit", "=~", "y|z")], 2 * DAY, None),
            ([], 5, 5),
            ([], DAY, 0),
        ):
            gone = [
                key for key in rows
                if (start is None or key[2] >= start) and (end is None or key[2] < end)
                and all(m.matches(key[0] if m.label == "host" else key[1]) for m in matchers)
            ]  # fmt: skip
            assert engine.delete("t", matchers, start, end) == len(gone)
            self.after_write(engine)
            for key in gone:
                del rows[key]
            assert scanned_values(engine) == ordered((t, host, unit, value) for (host, unit, t), value in rows.items())
            assert engine.statistics("t").rows == len(rows)
        assert engine.delete("t") == len(rows)
        assert scanned(engine, "t") == []
        found = engine.statistics("t")
        assert (found.rows, found.series, found.oldest, found.newest, found.partitions) == (0, 0, None, None, 0)

    def test_what_was_deleted_can_be_written_again(self, engine: Engine) -> None:
        self.create(engine)
        self.put(engine, {("a", "x", t): 1.0 for t in range(10)})
        engine.delete("t", start=3, end=6)
        self.put(engine, {("a", "x", 4): 2.0})
        assert [(row[0], row[3]) for row in scanned_values(engine)] == [
            (t, 2.0 if t == 4 else 1.0) for t in (0, 1, 2, 4, 6, 7, 8, 9)
        ]

    def test_latest_of_every_series(self, engine: Engine) -> None:
        self.create(engine)
        assert engine.latest("t").num_rows == 0
        self.put(
            engine, {("a", "x", 5): 5.0, ("a", "x", 9): 9.0, ("b", "x", 1): 1.0, (None, "", 7): 7.0, ("", None, 7): 8.0}
        )
        self.put(engine, {("a", "x", 7): 7.0, ("b", "x", -4): -4.0})  # late
        self.check_latest(
            engine, {("a", "x"): (9, 9.0), ("b", "x"): (1, 1.0), (None, ""): (7, 7.0), ("", None): (7, 8.0)}
        )
        self.put(engine, {("a", "x", 9): 90.0, ("b", "x", DAY): 2.0})
        self.check_latest(
            engine, {("a", "x"): (9, 90.0), ("b", "x"): (DAY, 2.0), (None, ""): (7, 7.0), ("", None): (7, 8.0)}
        )
        one = engine.latest("t", [Matcher("host", "=~", "a|b"), Matcher("unit", "!=", "")])
        assert {row[:3] for row in rows_of(one)} == {(9, "a", "x"), (DAY, "b", "x")}
        assert engine.latest("t", [Matcher("host", "=", "")]).num_rows == 2

    def test_latest_after_deleting(self, engine: Engine) -> None:
        self.create(engine)
        for t in (1, DAY, 2 * DAY, 3 * DAY):
            self.put(engine, {("a", "x", t): float(t), ("b", "x", t): float(t)})
        engine.delete("t", [Matcher("host", "=", "a")], 2 * DAY)
        self.check_latest(engine, {("a", "x"): (DAY, float(DAY)), ("b", "x"): (3 * DAY, 3.0 * DAY)})
        self.put(engine, {("a", "x", DAY + 1): 7.0})
        self.check_latest(engine, {("a", "x"): (DAY + 1, 7.0), ("b", "x"): (3 * DAY, 3.0 * DAY)})
        engine.delete("t", [Matcher("host", "=", "a")])
        self.check_latest(engine, {("b", "x"): (3 * DAY, 3.0 * DAY)})
        self.put(engine, {("a", "x", 0): 1.0})
        self.check_latest(engine, {("a", "x"): (0, 1.0), ("b", "x"): (3 * DAY, 3.0 * DAY)})

    def check_latest(self, engine: Engine, expected: dict[tuple[Any, Any], tuple[int, float]]) -> None:
        table = engine.latest("t")
        assert table.schema == SIMPLE.arrow
        keys = rows_of(table.select(["host", "unit", "time"]))
        values = table["value"].to_pylist()
        assert len(keys) == len(expected)
        assert {key[:2]: (key[2], value) for key, value in zip(keys, values, strict=True)} == expected

    def test_statistics_count_each_row_once(self, engine: Engine) -> None:
        self.create(engine)
        for _ in range(3):
            self.put(engine, {("a", "x", t * HOUR): 1.0 for t in range(-30, 30)} | {("b", "x", 0): 1.0})
        found = engine.statistics("t")
        assert (found.rows, found.series, found.oldest, found.newest) == (61, 2, -30 * HOUR, 29 * HOUR)
        assert found.partitions == 4
        assert found.rows >= found.hot_rows - 2 * 61  # hot rows may count what sealing will merge
        self.put(engine, {("c", "x", 5 * DAY): 1.0})
        assert engine.statistics("t").partitions == 5


class Bounds(Suite):
    """Age, applied by engines that bound themselves."""

    def test_age_takes_what_is_older_and_nothing_else(self, engine: Any) -> None:
        self.create(engine, replace(SIMPLE, retention=Retention(age="2d"), partition=HOUR))
        self.create(engine, replace(SIMPLE, name="kept"))
        now = 100 * DAY
        rows = {("a", "x", now - 2 * DAY + step * HOUR): 1.0 for step in range(-48, 49)} | {("old", "x", DAY): 1.0}
        self.put(engine, rows)
        self.put(engine, rows, "kept")
        dry = engine.prune(now=now, dry_run=True, force=True)
        assert (dry.dry_run, dry.rows) == (True, 49)
        assert {v.table for v in dry.victims} == {"t"}
        for victim in dry.victims:
            assert victim.start < victim.end <= now - 2 * DAY
            assert victim.partition == SIMPLE_HOURS.partition_of(victim.start)
        assert len(scanned(engine, "t")) == len(rows)
        report = engine.prune(now=now, force=True)
        assert (report.dry_run, report.rows) == (False, 49)
        left = sorted(t for _, _, t in rows if t >= now - 2 * DAY)
        assert [row[0] for row in scanned(engine, "t")] == left
        assert len(scanned(engine, "kept")) == len(rows)
        assert [row[:2] for row in rows_of(engine.latest("t"))] == [(now, "a")]
        found = engine.statistics("t")
        assert (found.rows, found.series, found.oldest) == (len(left), 1, left[0])
        assert engine.prune(now=now, force=True).rows == 0

    def test_age_at_the_microsecond(self, engine: Any) -> None:
        self.create(engine, replace(SIMPLE, retention=Retention(age="1h"), partition=HOUR))
        now = 10 * HOUR
        self.put(engine, {("a", "x", 9 * HOUR + step): 1.0 for step in (-2, -1, 0, 1)})
        assert engine.prune(now=now, force=True).rows == 2
        assert [row[0] for row in scanned(engine, "t")] == [9 * HOUR, 9 * HOUR + 1]

    def test_usage_is_a_number_of_bytes(self, engine: Any) -> None:
        self.create(engine)
        self.put(engine, {("a", "x", t): 1.0 for t in range(1000)})
        assert engine.usage() > 0


SIMPLE_HOURS = replace(SIMPLE, partition=HOUR)
