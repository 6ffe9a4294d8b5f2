"""Rollups: what they hold, what is refused, who else reads them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kymograph
from kymograph import Retention
from kymograph.errors import AlreadyExists, InvalidInput, KymographError, NotFound, ReadOnly, SchemaError
from kymograph.model.summary import STATISTICS
from kymograph.model.time import DAY, HOUR, MINUTE, SECOND
from kymograph.promql import beside
from kymograph.store.store import Store
from tests.unit.store.rollups.ramps import BASE, ramp, rows


def test_a_row_per_bucket_and_series(store: Store) -> None:
    ramp(store)
    told = store.create_rollup("m_1m")
    assert told["rows"] == 10
    assert told["by"] == ["series_id"]
    assert told["waiting"] == 0
    third = rows(store, "m_1m")[2]
    start = BASE + 2 * MINUTE
    values = [12.0, 13.0, 14.0, 15.0, 16.0, 17.0]
    assert {name: third[name] for name in STATISTICS} == {
        "count": 6,
        "sum": sum(values),
        "min": 12.0,
        "max": 17.0,
        "first": 12.0,
        "last": 17.0,
        "first_time": start,
        "last_time": start + 50 * SECOND,
        "m2": sum((value - 14.5) ** 2 for value in values),
        "positive": sum(values),
        "negative": 0.0,
        "increase": 5.0,
        "integral_positive": sum(values[:-1]) * 10,
        "integral_negative": 0.0,
    }


def test_by_labels_series_share_rows(store: Store) -> None:
    for host in ("a", "b", None):
        labels = {"disk": "x"} if host is None else {"host": host, "disk": "x"}
        for step in range(12):
            store.gauge("m", float(step), labels, time=BASE + step * 10 * SECOND)
    store.create_rollup("by_disk", "samples", "1m", by=["disk"])
    store.create_rollup("by_host", "samples", "1m", by=["host"])
    first, second = rows(store, "by_disk")
    assert (first["name"], first["disk"], first["count"]) == ("m", "x", 18)
    # from its last sample in the bucket before, each series has risen by 1 + 5
    assert (first["increase"], second["increase"]) == (15.0, 18.0)
    assert second["integral_positive"] == 3 * 10 * (5 + 6 + 7 + 8 + 9 + 10)
    assert {row["host"] for row in rows(store, "by_host")} == {"a", "b", None}


def test_fields_of_a_table(store: Store) -> None:
    columns = {
        "time": [BASE + number * 20 * SECOND for number in range(6)],
        "host": ["a", "b", "a", "a", None, "a"],
        "load": [1.5, 2.5, None, -4.0, 9.0, math.nan],
        "up": [True, False, True, True, True, None],
        "note": ["x"] * 6,
    }
    store.create_table("t", ["host", "note"], {"load": "float32", "up": "bool"})
    store.write("t", columns)
    store.create_rollup("t_1m", "t", "1m", by=["host"])
    found = {(row["host"], (row["time"].minute)): row for row in rows(store, "t_1m")}
    assert found["a", 0]["rows"] == 2
    assert found["a", 0]["load_count"] == 1
    assert found["a", 0]["up_sum"] == 2.0
    assert found["a", 1]["rows"] == 2
    assert found["a", 1]["load_min"] == -4.0
    assert math.isnan(found["a", 1]["load_sum"])
    assert found["a", 1]["up_count"] == 1
    assert found[None, 1]["load_last"] == 9.0
    store.create_rollup("t_2m", "t_1m", "2m", fields=["load"])
    assert {row["host"]: row["rows"] for row in rows(store, "t_2m")} == {"a": 4, "b": 1, None: 1}
    assert "up_sum" not in store.tables()["t_2m"].columns


def test_sql_rollup(store: Store) -> None:
    ramp(store)
    ramp(store, host="b")
    text = "WITH m AS (SELECT * FROM metric.m) SELECT host, time_bucket('5m', time) AS t, median(value) AS mid FROM m GROUP BY 1, 2"
    store.create_rollup("mids", query=text)
    assert [(row["host"], row["mid"]) for row in rows(store, "mids")] == [
        ("a", 14.5),
        ("b", 14.5),
        ("a", 44.5),
        ("b", 44.5),
    ]
    for step in range(40):
        store.gauge("m", -1.0, {"host": "b"}, time=BASE + step * SECOND + 1)
    store.delete("samples", {"series_id": 1}, BASE + 5 * MINUTE)
    store.refresh_rollup("mids")
    assert [(row["host"], row["mid"]) for row in rows(store, "mids")] == [("a", 14.5), ("b", -1.0), ("b", 44.5)]


def test_buckets_of_months_and_weeks(store: Store) -> None:
    for day in range(70):
        store.gauge("m", float(day), time=BASE + day * DAY - 70 * DAY)
    for width in ("1 month", "1 week"):
        name = "per_" + width.split()[1]
        text = f"SELECT time_bucket('{width}', time) AS t, count(*) AS n, sum(value) AS s FROM metric.m GROUP BY 1"
        store.create_rollup(name, query=text)
        assert (
            store.sql(f"SELECT time, n, s FROM {name} ORDER BY time").rows()
            == store.sql(text.replace(" AS t,", " AS time,") + " ORDER BY 1").rows()
        )


def test_staleness_markers_count_as_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket of nothing else has a row without values, which PromQL does not see."""
    stale = np.array([0x7FF0000000000002]).view(np.float64)[0]
    for second, value in ((0, 1.0), (30, 2.0), (90, 3.0), (120, stale), (181, stale), (182, 4.0)):
        store.gauge("m", value, {"host": "a"}, time=BASE + second * SECOND)
    for name, source, every, by in (
        ("m_1m", "samples", "1m", None),
        ("m_2m", "m_1m", "2m", None),
        ("h_1m", "samples", "1m", ["host"]),
        ("h_2m", "m_1m", "2m", ["host"]),
    ):
        store.create_rollup(name, source, every, by)
        wanted = [(2, 2, 3.0), (1, 1, 3.0), (1, None, None), (2, 1, 4.0)]
        if every == "2m":
            wanted = [(3, 3, 6.0), (3, 1, 4.0)]
        assert [(row["rows"], row["count"], row["sum"]) for row in rows(store, name)] == wanted
        assert not math.isnan(rows(store, name)[1]["max"])
    for name in ("_SAMPLES_PER_STRETCH", "_COLUMNS_PER_SAMPLE"):
        monkeypatch.setattr(beside, name, 0)
    for function, wanted in (("count", 4.0), ("sum", 10.0), ("last", 4.0), ("min", 1.0)):
        found = store.promql(f"{function}_over_time(m[1h])", time=BASE + 10 * MINUTE)
        assert found.values.tolist() == [wanted]
        assert found.tiers[0] in ("m_1m", "m_2m")


def test_drop_and_create_again(store: Store) -> None:
    ramp(store)
    store.create_rollup("m_1m")
    assert store.create_rollup("m_1m")["rows"] == 10
    assert store.create_rollup("m_1m", keep=Retention(age="100y"))["rows"] == 10
    assert store.tables()["m_1m"].retention == Retention(age="100y")
    store.create_rollup("m_1m")  # says nothing about it
    assert store.tables()["m_1m"].retention == Retention(age="100y")
    store.create_rollup("m_5m", "m_1m", "5m")
    with pytest.raises(InvalidInput, match="m_5m"):
        store.drop_rollup("m_1m")
    with pytest.raises(InvalidInput, match="rollup"):
        store.drop_table("m_1m")
    with pytest.raises(InvalidInput, match="m_1m"):
        store.drop_table("samples")
    store.drop_rollup("m_5m")
    store.drop_rollup("m_1m")
    assert list(store.tables()) == ["samples"]
    store.create_rollup("m_1m", "samples", "2m")
    assert len(rows(store, "m_1m")) == 5


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"name": "no name"}, SchemaError),
        ({"name": "samples"}, AlreadyExists),
        ({"name": "m_1m", "every": "2m"}, AlreadyExists),
        ({"name": "x", "source": "nowhere"}, NotFound),
        ({"name": "x", "every": "0s"}, InvalidInput),
        ({"name": "x", "every": "10ms"}, InvalidInput),
        ({"name": "x", "every": "often"}, InvalidInput),
        ({"name": "x", "every": None}, InvalidInput),
        ({"name": "x", "source": "m_1m", "every": "90s"}, InvalidInput),
        ({"name": "x", "source": "m_1m", "every": "1m"}, InvalidInput),
        ({"name": "x", "by": "host"}, InvalidInput),
        ({"name": "x", "by": ["host", "host"]}, InvalidInput),
        ({"name": "x", "fields": ["value"]}, SchemaError),
        ({"name": "x", "start_offset": "1m"}, InvalidInput),
        ({"name": "x", "keep": "1d"}, KymographError),
        ({"name": "x", "query": "SELECT 1"}, InvalidInput),
        (
            {"name": "x", "query": "SELECT time_bucket('1m', time) AS t, count(*) AS n FROM nowhere GROUP BY 1"},
            NotFound,
        ),
        ({"name": "x", "query": "DROP TABLE samples"}, InvalidInput),
        (
            {"name": "x", "query": "SELECT time_bucket($w, time) AS t, count(*) AS n FROM samples GROUP BY 1"},
            InvalidInput,
        ),
    ],
)
def test_what_is_refused(store: Store, arguments: dict[str, Any], error: type[Exception]) -> None:
    ramp(store)
    store.create_rollup("m_1m")
    with pytest.raises(error):
        store.create_rollup(**arguments)
    assert sorted(store.tables()) == ["m_1m", "samples"]
    assert len(store.rollups()) == 1


def test_a_reader_beside_the_writer(tmp_path: Path) -> None:
    with kymograph.connect(tmp_path / "s") as store:
        ramp(store, 120)
        store.create_rollup("m_1m")
        wanted = store.promql("avg_over_time(m[1h])", time=BASE + 2 * HOUR)
        with kymograph.connect(tmp_path / "s", read_only=True) as reader:
            assert reader.rollups() == store.rollups()
            found = reader.promql("avg_over_time(m[1h])", time=BASE + 2 * HOUR)
            assert (found.values.tolist(), found.tiers) == (wanted.values.tolist(), wanted.tiers)
            assert "m_1m" in found.tiers
            store.gauge("m", 1e6, {"host": "a"}, time=BASE + 90 * MINUTE + 1)
            found = reader.promql("max_over_time(m[1h])", time=BASE + 2 * HOUR)
            assert found.values.tolist() == [1e6]
            with pytest.raises(ReadOnly):
                reader.create_rollup("x")
