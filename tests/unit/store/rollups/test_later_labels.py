"""Rollups of a table that is given labels: those by all labels follow, those by some of them stay as they are."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kymograph
from kymograph import Retention
from kymograph.engine.interface import Scan
from kymograph.engine.memory import MemoryEngine
from kymograph.errors import AlreadyExists, QueryError
from kymograph.model.batch import conform, to_table
from kymograph.model.schema import table_schema
from kymograph.model.time import HOUR, MINUTE, SECOND
from kymograph.store.jobs import now_micros
from kymograph.store.rollups.compute import compute
from kymograph.store.rollups.definition import defined
from kymograph.store.store import Store

BASE = 1_790_000_000 * SECOND // HOUR * HOUR
STEP = 10 * SECOND


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    target = "memory:" if request.param == "memory" else tmp_path / "store"
    with kymograph.connect(target, sync="off") as opened:
        yield opened


def climb(store: Store, start: int, minutes: int, by: float = 1.0, **labels: Any) -> None:
    """A counter that grows by `by` every 10 s."""
    times = BASE + start * MINUTE + np.arange(minutes * 6) * STEP
    store.write("t", {"time": times, "host": "a", **labels, "v": np.arange(len(times)) * by})


def summed(store: Store, table: str) -> dict[tuple[Any, ...], tuple[int, float]]:
    """(minute, labels) to (rows, increase)."""
    schema = store.tables()[table]
    found = store.scan(table).to_pydict()
    times = [int(time.timestamp()) * SECOND - BASE for time in found["time"]]
    keys = zip(times, *(found[label] for label in schema.labels), strict=True)
    return {
        (key[0] // MINUTE, *key[1:]): (rows, increase)
        for key, rows, increase in zip(keys, found["rows"], found["v_increase"], strict=True)
    }


def test_a_rollup_by_every_series_follows(store: Store) -> None:
    climb(store, 0, 4)
    store.create_rollup("t_1m", "t", "1m")
    store.create_rollup("t_2m", "t_1m", "2m")
    before = summed(store, "t_1m")
    assert before == {(minute, "a"): (6, 5.0) for minute in range(4)}
    store.add_columns("t", ["region"])
    climb(store, 2, 4, 10.0, region="eu")  # late for some buckets, new for others
    store.run_rollups()
    assert store.tables()["t_1m"].labels == store.tables()["t_2m"].labels == ("host", "region")
    assert [told["by"] for told in store.rollups()] == [["host", "region"]] * 2
    expected = {(minute, "a", None): (6, 5.0) for minute in range(4)}
    expected |= {(minute, "a", "eu"): (6, 50.0) for minute in range(2, 6)}
    assert summed(store, "t_1m") == expected
    assert summed(store, "t_2m") == {
        (minute, "a", region): (12, 10 * by + by)
        for region, by, minutes in ((None, 1.0, (0, 2)), ("eu", 10.0, (2, 4)))
        for minute in minutes
    }
    # made once more, from the beginning
    assert store.refresh_rollup("t_2m") >= 0
    assert summed(store, "t_1m") == expected


def test_a_rollup_by_some_labels_stays(store: Store) -> None:
    store.create_table("t", ["host", "gpu"], {"v": "float64"})
    climb(store, 0, 4, gpu="0")
    store.create_rollup("t_1m", "t", "1m", by=["host"])
    store.add_columns("t", ["region"])
    climb(store, 2, 2, 10.0, gpu="0", region="eu")
    store.run_rollups()
    assert store.tables()["t_1m"].labels == ("host",)
    # increases of the two series are reckoned for each, the step from the bucket before among them
    assert summed(store, "t_1m") == {(0, "a"): (6, 5.0), (1, "a"): (6, 6.0 - 6.0 + 5.0 + 1.0), (2, "a"): (12, 56.0), (3, "a"): (12, 66.0)}  # fmt: skip


def test_asking_for_it_again(store: Store) -> None:
    climb(store, 0, 4)
    first = [store.create_rollup("every", "t", "1m"), store.create_rollup("named", "t", "1m", by=["host"])]
    store.add_columns("t", ["region"])
    again = [store.create_rollup("every", "t", "1m"), store.create_rollup("named", "t", "1m", by=["host"])]
    assert [told["by"] for told in (*first, *again)] == [["host"], ["host"], ["host", "region"], ["host", "region"]]
    assert store.create_rollup("named", "t", "1m", by=["host", "region"]) == again[1]
    for other in ({"every": "2m"}, {"every": "1m", "by": ["region"]}, {"every": "1m", "by": []}):
        with pytest.raises(AlreadyExists):
            store.create_rollup("named", "t", **other)  # type: ignore[arg-type]
    assert store.create_rollup("new", "t", "1m", by=["host"])["by"] == ["host"]


def test_queries_before_and_after_it_follows(store: Store) -> None:
    climb(store, 0, 60)
    store.create_rollup("t_1m", "t", "1m")
    store.delete("t_1m", start=BASE + 50 * MINUTE)  # nobody has made these yet
    questions: list[Any] = [
        ("sql", "SELECT host, count(*) AS n, sum(v) AS s, max(v) AS m FROM t GROUP BY host"),
        (
            "sql",
            f"SELECT host, sum(v) AS s FROM t WHERE time < to_timestamp_micros({BASE + 40 * MINUTE}) GROUP BY host",
        ),
        ("promql", "sum by (host, region) (increase(t_v[30m]))"),
        ("promql", "max_over_time(t_v[1h])"),
        ("promql", 'count_over_time(t_v{region=""}[1h])'),
    ]

    def asked() -> list[Any]:
        found = []
        for kind, text in questions:
            if kind == "sql":
                found.append(store.sql(text).rows())
            else:
                told = store.promql(text, time=BASE + 60 * MINUTE)
                found.append(
                    sorted((sorted(dict(one).items()), v) for one, v in zip(told.labels, told.values, strict=True))
                )
        return found

    by_region = "SELECT region, count(*) AS n, sum(v) AS s FROM t GROUP BY region ORDER BY region NULLS FIRST"
    with pytest.raises(QueryError, match="region"):
        store.sql(by_region)
    store.add_columns("t", ["region"])
    climb(store, 0, 60, 10.0, region="eu")
    before = asked()
    assert len(before[3]) == 2
    assert before[3][1][1] == 3590.0 or before[3][0][1] == 3590.0
    store.run_rollups()
    store.refresh_rollup("t_1m", BASE, BASE + HOUR)
    assert asked() == before
    assert "t_1m" in store.promql("max_over_time(t_v[1h])", time=BASE + 60 * MINUTE).tiers
    found = store.sql(by_region)
    assert [tuple(row.values()) for row in found.rows()] == [(None, 360, 64620.0), ("eu", 360, 646200.0)]
    assert "t_1m" in found.tiers


def test_what_only_the_rollup_has_stays_readable_meanwhile(store: Store) -> None:
    """The rows are gone, and the rollup has not been made since the label came."""
    now = now_micros()
    climb(store, 0, 60)
    store.write("t", {"time": [now], "host": ["a"], "v": [0.0]})
    store.create_rollup("t_1m", "t", "1m")
    store.set_retention("t", kymograph.Retention(age="1d"))
    store.engine.prune(now=now, force=True)  # type: ignore[attr-defined]
    asked = "sum_over_time(t_v[1h])"
    before = store.promql(asked, time=BASE + 60 * MINUTE - 1)
    assert (before.values.tolist(), before.tiers) == ([64620.0], ["t_1m"])
    store.add_columns("t", ["region"])
    for _ in range(2):
        after = store.promql(asked, time=BASE + 60 * MINUTE - 1)
        assert (after.values.tolist(), [dict(one) for one in after.labels]) == ([64620.0], [{"host": "a"}])
        store.write("t", {"time": [now], "host": ["a"], "region": ["eu"], "v": [0.0]})
        assert store.rollups()[0]["by"] == ["host"]


def test_labels_come_while_rollups_are_made(store: Store) -> None:
    """Series never mix, whenever the label comes."""
    store.create_table("t", ["host"], {"v": "float64"})
    store.create_rollup("t_1m", "t", "1m")
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            store.run_rollups()

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        try:
            for number in range(6):
                if number:
                    store.add_columns("t", [f"l{number}"])
                labels = {f"l{number}": "x"} if number else {}
                climb(store, number, 6, float(number + 1), **labels)
        finally:
            done.set()
        working.result()
    store.run_rollups()
    found = summed(store, "t_1m")
    assert len(found) == 36
    for (minute, _, *labels), (rows, increase) in found.items():
        number = next((place for place, value in enumerate(labels, 1) if value), 0)
        assert 0 <= minute - number < 6
        assert (rows, increase) == (6, 5.0 * (number + 1))


def test_a_label_between_the_schema_and_the_rows() -> None:
    """Rows that were read with more labels than the schema told are of series that cannot be told apart."""

    class Widening(MemoryEngine):
        """Gets a label, and a row with it, when its rows are about to be read."""

        def scan(self, table: str, *args: Any, **kwargs: Any) -> Scan:
            schema = self.tables()[table]
            if not schema.later:
                wider = schema.extended(labels=["region"])
                self.alter_table(wider)
                data = {"time": [BASE + 1], "host": ["a"], "gpu": ["0"], "region": ["eu"], "v": [9.0]}
                self.append(table, conform(to_table(data), wider))
            return super().scan(table, *args, **kwargs)

    for by, labels in ((None, ["host", "gpu", "region"]), (["host"], ["host"]), ([], [])):
        engine = Widening()
        engine.create_table(table_schema("t", ["host", "gpu"], {"v": "float64"}))
        rollup = defined("r", "t", "1m", by, None, (None, None), engine.tables(), {})
        assert compute(engine, rollup, None, BASE, BASE + MINUTE) is None
        rollup = dataclasses.replace(rollup, labels=tuple(labels))
        found = compute(engine, rollup, None, BASE, BASE + MINUTE)
        assert found is not None
        assert found["rows"].to_pylist() == [1]


def test_one_who_reads_beside_it(tmp_path: Path) -> None:
    with kymograph.connect(tmp_path, sync="off") as store:
        climb(store, 0, 30)
        store.create_rollup("t_1m", "t", "1m")
        with kymograph.connect(tmp_path, read_only=True) as reader:
            assert len(reader.promql("max_over_time(t_v[1h])", time=BASE + HOUR).values) == 1
            store.write_lines(f"t,host=a,region=eu v=7,w=1 {(BASE + MINUTE) * 1000}")
            for _ in range(2):
                found = reader.promql("max_over_time(t_v[1h])", time=BASE + HOUR)
                assert {dict(one).get("region"): v for one, v in zip(found.labels, found.values, strict=True)} == {
                    None: 179.0, "eu": 7.0,
                }  # fmt: skip
                rows = reader.sql("SELECT region, max(v) AS v FROM t GROUP BY region ORDER BY v").rows()
                assert rows == [{"region": "eu", "v": 7.0}, {"region": None, "v": 179.0}]
                store.run_rollups()


@pytest.mark.parametrize("by", [["host"], None])
def test_what_no_rollup_tells_apart_is_approximate_where_rows_are_gone(store: Store, by: list[str] | None) -> None:
    """A rollup by some labels stays as it is when the table is given another, which queries may group by."""
    times = BASE + np.arange(240) * MINUTE
    store.write("t", {"time": times[:120], "host": "a", "gpu": "0", "v": 1.0})
    store.create_rollup("kept", "t", "1m", by=by)
    store.add_columns("t", ["room"])
    store.write("t", {"time": times[120:], "host": "a", "gpu": "0", "room": "x", "v": 1.0})
    store.run_rollups()
    text = "SELECT room, count(*) AS n FROM t GROUP BY 1 ORDER BY 1"
    wanted = [{"room": "x", "n": 120}, {"room": None, "n": 120}]
    assert store.sql(text).rows() == wanted
    assert not store.sql(text).approximate
    store.set_retention("t", Retention(age=now_micros() - BASE - HOUR))
    store.prune(force=True)
    found = store.sql(text)
    assert found.approximate == (by is not None)
    assert (found.rows() == wanted) == (by is None)
    assert bool(store.explain(text)["warnings"]) == (by is not None)
    # what it does tell apart, and what is younger than all that has gone
    assert store.sql("SELECT host, count(*) AS n FROM t GROUP BY 1").rows() == [{"host": "a", "n": 240}]
    since = {"since": np.datetime64(BASE + 2 * HOUR, "us").item()}
    assert not store.sql("SELECT room, count(*) AS n FROM t WHERE time >= $since GROUP BY 1", since).approximate
