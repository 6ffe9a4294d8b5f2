"""A second row of one (series, time): within a batch, across batches, out of order, for the three policies."""

from __future__ import annotations

from typing import Any

import pytest

from kymograph.engine.interface import Engine
from kymograph.errors import DuplicateRows
from kymograph.model.schema import Duplicates, TableSchema, table_schema
from tests.contract.base import Suite
from tests.rows import ordered, rows_of, scanned


def schema_of(policy: Duplicates) -> TableSchema:
    return table_schema("t", ["l"], {"f": "int64", "g": "string"}, policy, "1h")


def columns(*rows: tuple[int, str | None, int | None]) -> dict[str, Any]:
    return {
        "time": [t for t, _, _ in rows],
        "l": [label for _, label, _ in rows],
        "f": [value for _, _, value in rows],
        "g": [None if value is None else f"g{value}" for _, _, value in rows],
    }


def found(engine: Engine) -> list[tuple[int, str | None, int | None]]:
    rows = scanned(engine, "t")
    assert all(row[3] == (None if row[2] is None else f"g{row[2]}") for row in rows), "a row is mixed from two"
    return [row[:3] for row in rows]


class DuplicateRowsOf(Suite):
    """The three policies."""

    def test_within_one_batch(self, engine: Engine) -> None:
        for policy, winner in (("overwrite", 3), ("ignore", 1)):
            self.create(engine, schema_of(policy))  # type: ignore[arg-type]
            accepted = self.append(
                engine, "t", columns((5, "a", 1), (4, "a", 9), (5, "a", 2), (5, "b", 8), (5, "a", 3))
            )
            assert accepted == 5
            assert found(engine) == [(4, "a", 9), (5, "a", winner), (5, "b", 8)]
            assert engine.statistics("t").rows == 3
            engine.drop_table("t")

    def test_across_batches(self, engine: Engine) -> None:
        for policy, winner in (("overwrite", 30), ("ignore", 10)):
            self.create(engine, schema_of(policy))  # type: ignore[arg-type]
            for value in (10, 20, 30):
                self.append(engine, "t", columns((5, "a", value), (value, "a", value), (5, "b", value)))
            assert found(engine) == [(5, "a", winner), (5, "b", winner), (10, "a", 10), (20, "a", 20), (30, "a", 30)]
            assert engine.statistics("t").rows == 5
            engine.drop_table("t")

    def test_a_null_overwrites_too(self, engine: Engine) -> None:
        self.create(engine, schema_of("overwrite"))
        self.append(engine, "t", columns((1, "a", 1)))
        self.append(engine, "t", columns((1, "a", None)))
        assert found(engine) == [(1, "a", None)]

    def test_a_null_label_is_a_series(self, engine: Engine) -> None:
        self.create(engine, schema_of("overwrite"))
        self.append(engine, "t", columns((1, None, 1), (1, "", 2), (1, None, 3)))
        self.append(engine, "t", columns((1, "", 4)))
        assert found(engine) == [(1, None, 3), (1, "", 4)]

    def test_out_of_order_batches(self, engine: Engine) -> None:
        self.create(engine, schema_of("overwrite"))
        hour = 3600 * 10**6
        order = [7, 3, 9, 1, 3, 8, 0, 2, 7, 5, 4, 6, 1]
        expected = {}
        for place, step in enumerate(order):
            rows = [(step * hour // 2 + k * 60 * 10**6, "ab"[k % 2], place * 100 + k) for k in range(20)]
            self.append(engine, "t", columns(*rows[::-1]))
            expected |= {(t, label): value for t, label, value in rows}
        assert found(engine) == sorted((t, label, value) for (t, label), value in expected.items())
        assert engine.statistics("t").rows == len(expected)

    def test_reject_refuses_the_whole_batch(self, engine: Engine) -> None:
        self.create(engine, schema_of("reject"))
        self.append(engine, "t", columns((1, "a", 1), (2, "a", 2), (1, None, 3)))
        before = found(engine)
        for bad in (
            columns((9, "a", 0), (2, "a", 0)),
            columns((9, "a", 0), (9, "a", 0)),
            columns((1, None, 0)),
            columns((9, "b", 0), (8, "b", 0), (9, "b", 1)),
        ):
            with pytest.raises(DuplicateRows):
                self.append(engine, "t", bad)
            assert found(engine) == before
        self.append(engine, "t", columns((2, "b", 4), (1, "", 5), (9, "a", 6)))
        assert len(found(engine)) == 6
        assert engine.statistics("t").rows == 6

    def test_reject_lets_a_deleted_row_come_again(self, engine: Engine) -> None:
        self.create(engine, schema_of("reject"))
        self.append(engine, "t", columns((1, "a", 1), (2, "a", 2)))
        assert engine.delete("t", start=1, end=2) == 1
        self.append(engine, "t", columns((1, "a", 7)))
        assert found(engine) == [(1, "a", 7), (2, "a", 2)]

    def test_ignore_lets_a_deleted_row_come_again(self, engine: Engine) -> None:
        self.create(engine, schema_of("ignore"))
        self.append(engine, "t", columns((1, "a", 1)))
        engine.delete("t")
        self.append(engine, "t", columns((1, "a", 7)))
        self.append(engine, "t", columns((1, "a", 8)))
        assert found(engine) == [(1, "a", 7)]

    def test_latest_is_the_row_that_won(self, engine: Engine) -> None:
        for policy, winner in (("overwrite", 30), ("ignore", 10)):
            self.create(engine, schema_of(policy))  # type: ignore[arg-type]
            for value in (10, 20, 30):
                self.append(engine, "t", columns((5, "a", value), (5, "a", value), (value - 100, "a", value)))
            assert [row[:3] for row in rows_of(engine.latest("t"))] == [(5, "a", winner)]
            engine.drop_table("t")

    def test_a_running_scan_keeps_its_winners(self, engine: Engine) -> None:
        for policy in ("overwrite", "ignore"):
            self.create(engine, schema_of(policy))  # type: ignore[arg-type]
            for value in (1, 2, 3):
                self.append(
                    engine, "t", columns(*((t, label, value) for t in range(value, 50, value) for label in "ab"))
                )
            before = found(engine)
            untouched, begun = engine.scan("t"), [part() for part in engine.scan("t").parts]
            first = [next(iterator, None) for iterator in begun]
            self.settle(engine)
            self.append(engine, "t", columns((5, "a", 9), (6, "z", 9)))
            engine.delete("t", start=20, end=30)
            self.settle(engine)
            rest = [batch for iterator in begun for batch in iterator]
            for batches in ([*filter(None, first), *rest], list(untouched.batches())):
                rows = ordered(row for batch in batches for row in rows_of(batch))
                assert [row[:3] for row in rows] == before
            engine.drop_table("t")

    def test_a_policy_can_change(self, engine: Engine) -> None:
        self.create(engine, schema_of("overwrite"))
        self.append(engine, "t", columns((1, "a", 0)))
        self.append(engine, "t", columns((1, "a", 1)))
        engine.alter_table(schema_of("ignore"))
        assert found(engine) == [(1, "a", 1)]
        self.append(engine, "t", columns((1, "a", 2)))
        assert found(engine) == [(1, "a", 1)]
        engine.alter_table(schema_of("overwrite"))
        assert found(engine) == [(1, "a", 1)]
        self.append(engine, "t", columns((1, "a", 3)))
        assert found(engine) == [(1, "a", 3)]
        engine.alter_table(schema_of("reject"))
        with pytest.raises(DuplicateRows):
            self.append(engine, "t", columns((1, "a", 4)))
        assert found(engine) == [(1, "a", 3)]
