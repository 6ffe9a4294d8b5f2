"""What a scan selects: every operator, both edges, any columns; and what it keeps while others write."""

from __future__ import annotations

import pyarrow as pa
import pytest

from kymograph.engine.interface import Engine
from kymograph.errors import NotFound, SchemaError
from kymograph.model.matcher import Matcher
from kymograph.model.schema import table_schema
from tests.contract.base import SIMPLE, Suite
from tests.contract.values import scanned_values
from tests.rows import checked, ordered, rows_of, scanned

HOSTS = ["a", "ab", "b", "", None, "a\nb", "ü"]


def named(matcher: Matcher) -> str:
    """The same in every process; the order of a set is not."""
    values = sorted(map(repr, matcher.value)) if isinstance(matcher.value, frozenset) else repr(matcher.value)
    return f"{matcher.label} {matcher.operator} {values}"


class Scans(Suite):
    """Selections."""

    @pytest.fixture
    def filled(self, engine: Engine) -> Engine:
        self.create(engine)
        for unit in ("x", "y"):
            self.put(engine, {(host, unit, time): time * 1.0 for host in HOSTS for time in (-10, 0, 10)})
        return engine

    @pytest.mark.parametrize(
        "matcher",
        [
            Matcher("host", "=", "a"), Matcher("host", "=", ""), Matcher("host", "=", "nowhere"),
            Matcher("host", "!=", "a"), Matcher("host", "!=", ""), Matcher("host", "!=", "nowhere"),
            Matcher("host", "=~", "a"), Matcher("host", "=~", "a.*"), Matcher("host", "=~", ""),
            Matcher("host", "=~", ".*"), Matcher("host", "=~", ".+"), Matcher("host", "=~", "b|ü"),
            Matcher("host", "!~", "a.*"), Matcher("host", "!~", ".*"), Matcher("host", "!~", ""),
            Matcher("host", "in", frozenset({"a", "ü", "zz"})), Matcher("host", "in", frozenset({"", "b"})),
            Matcher("host", "in", frozenset({None})), Matcher("host", "in", frozenset()),
        ],
        ids=named,
    )  # fmt: skip
    def test_every_operator(self, filled: Engine, matcher: Matcher) -> None:
        expected = [h for h in HOSTS if matcher.matches(h)]
        found = scanned_values(filled, [matcher, Matcher("unit", "=", "y")], 0, 10)
        assert found == ordered((0, host, "y", 0.0) for host in expected)

    def test_matchers_are_all_to_hold(self, filled: Engine) -> None:
        both = [Matcher("host", "=~", "a.*"), Matcher("host", "!=", "ab"), Matcher("unit", "in", frozenset({"x", "z"}))]
        assert {row[1:3] for row in scanned(filled, "t", both)} == {("a", "x"), ("a\nb", "x")}
        assert scanned(filled, "t", [*both, Matcher("unit", "=", "y")]) == []

    def test_a_label_need_not_be_asked_for_to_be_matched(self, filled: Engine) -> None:
        table = filled.scan("t", [Matcher("host", "=", "ü")], columns=["value"]).table()
        assert sorted(table["value"].to_pylist()) == [-10.0, -10.0, 0.0, 0.0, 10.0, 10.0]

    @pytest.mark.parametrize(
        ("start", "end", "times"),
        [
            (None, None, [-10, 0, 10]), (0, None, [0, 10]), (1, None, [10]), (10, None, [10]), (11, None, []),
            (None, 0, [-10]), (None, 1, [-10, 0]), (None, -10, []), (None, 11, [-10, 0, 10]), (0, 0, []), (5, 5, []),
            (10, 0, []), (-10, 10, [-10, 0]), (-10, 11, [-10, 0, 10]), (-9, 10, [0]), (-(2**63), 2**63 - 1, [-10, 0, 10]),
        ],
    )  # fmt: skip
    def test_edges(self, filled: Engine, start: int | None, end: int | None, times: list[int]) -> None:
        found = scanned(filled, "t", [Matcher("host", "=", "b"), Matcher("unit", "=", "x")], start, end)
        assert [row[0] for row in found] == times

    def test_edges_of_partitions(self, engine: Engine) -> None:
        schema = self.create(engine, table_schema("t", [], {"f": "int64"}, partition="1m"))
        minute = schema.partition
        times = [edge * minute + off for edge in (-2, -1, 0, 1, 2) for off in (-1, 0, 1)]
        self.append(engine, "t", {"time": times, "f": times})
        for start in (-2 * minute, -minute, 0, minute):
            expected = [(t, t) for t in times if start <= t < start + minute]
            assert scanned(engine, "t", start=start, end=start + minute) == expected
        assert engine.statistics("t").partitions == 6

    @pytest.mark.parametrize(
        "columns",
        [
            ["time"], ["value"], ["host"], ["unit", "host"], ["value", "time"], ["count", "unit", "time", "host", "value"],
            list(SIMPLE.columns), ("host", "value"),
        ],
        ids=str,
    )  # fmt: skip
    def test_columns_in_the_asked_order(self, filled: Engine, columns: list[str]) -> None:
        scan = filled.scan("t", columns=columns)
        assert scan.schema.names == list(columns)
        table = checked(SIMPLE, scan)
        assert table.schema == pa.schema([SIMPLE.arrow.field(name) for name in columns])
        whole = rows_of(filled.scan("t").table())
        places = [SIMPLE.columns.index(name) for name in columns]
        assert ordered(rows_of(table)) == ordered(tuple(row[p] for p in places) for row in whole)

    def test_no_columns_still_count(self, filled: Engine) -> None:
        scan = filled.scan("t", [Matcher("host", "=", "ü")], columns=[])
        assert len(scan.schema) == 0
        assert sum(batch.num_rows for batch in scan.batches()) == 6

    def test_an_empty_selection_has_the_schema(self, filled: Engine) -> None:
        table = filled.scan("t", start=1000, columns=["host", "value"]).table()
        assert table.num_rows == 0
        assert table.schema == pa.schema([SIMPLE.arrow.field("host"), SIMPLE.arrow.field("value")])

    def test_a_part_taken_alone(self, filled: Engine) -> None:
        parts = filled.scan("t").parts
        rows = [row for part in reversed(parts) for batch in part() for row in rows_of(batch)]
        assert ordered(rows) == scanned(filled, "t")

    def test_rows_is_a_bound(self, filled: Engine) -> None:
        assert filled.scan("t").rows >= 42
        assert filled.scan("t", start=5).rows >= 14

    def test_what_is_unknown(self, filled: Engine) -> None:
        with pytest.raises(NotFound, match="nowhere"):
            filled.scan("nowhere")
        for columns in (["nothing"], ["time", "Host"]):
            with pytest.raises(SchemaError, match=columns[-1]):
                filled.scan("t", columns=columns)
        for label in ("nothing", "value", "time"):
            with pytest.raises(SchemaError, match=label):
                filled.scan("t", [Matcher(label, "=", "a")])
            with pytest.raises(SchemaError, match=label):
                filled.delete("t", [Matcher(label, "=", "a")])
            with pytest.raises(SchemaError, match=label):
                filled.latest("t", [Matcher(label, "=", "a")])

    def test_a_scan_keeps_what_it_started_with(self, filled: Engine) -> None:
        before = scanned(filled, "t")
        scans = [filled.scan("t") for _ in range(6)]
        assert ordered(rows_of(scans[0].table())) == before
        self.put(filled, {("a", "x", 0): 99.0, ("new", "x", 5): 1.0})
        assert ordered(rows_of(scans[1].table())) == before
        filled.alter_table(SIMPLE.extended([("more", pa.bool_())]))
        filled.delete("t", [Matcher("unit", "=", "y")])
        assert ordered(rows_of(scans[2].table())) == before
        self.after_write(filled)
        assert ordered(rows_of(scans[3].table())) == before
        filled.drop_table("t")
        assert ordered(rows_of(scans[4].table())) == before
        filled.close()
        assert ordered(rows_of(scans[5].table())) == before

    def test_a_running_part_finishes(self, filled: Engine) -> None:
        before = scanned(filled, "t")
        running = [part() for part in filled.scan("t").parts]
        first = [next(iterator) for iterator in running]
        filled.delete("t")
        self.put(filled, {("z", "z", 1): 1.0})
        filled.close()
        rest = [batch for iterator in running for batch in iterator]
        assert ordered(row for batch in [*first, *rest] for row in rows_of(batch)) == before

    def test_results_belong_to_the_caller(self, filled: Engine) -> None:
        table, latest = filled.scan("t").table(), filled.latest("t")
        kept = rows_of(table), rows_of(latest)
        filled.delete("t")
        for time in range(20):
            self.put(filled, {("a", "x", time): -1.0})
        filled.close()
        assert (rows_of(table), rows_of(latest)) == kept
