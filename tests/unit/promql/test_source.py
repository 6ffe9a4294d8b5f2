"""Series from engines: scalar ones and fields of wide tables, from any number of parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import kymograph
from kymograph.engine.interface import Engine
from kymograph.engine.memory import MemoryEngine
from kymograph.model.time import DAY
from kymograph.promql.engine import query_instant, query_range
from kymograph.promql.limits import Meter, PromLimits
from kymograph.promql.parse import parse_selector
from kymograph.promql.source import STALE, Source
from kymograph.store.metrics import Sample

S = 1_000_000


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[kymograph.Store]:
    if request.param == "local":
        with kymograph.connect(tmp_path / "store") as opened:
            yield opened
    else:
        from kymograph.store.store import Store

        with Store(MemoryEngine()) as opened:
            yield opened


def _rows(engine: Engine, text: str, at: int) -> dict[str, float]:
    result = query_instant(engine, text, at)
    return {
        str(sorted(labels.items())): value for labels, value in zip(result.labels, result.values.tolist(), strict=True)
    }


def test_scalar_series(store: kymograph.Store) -> None:
    store.record([Sample("cpu", float(i), {"host": h}, i * S) for i in range(10) for h in "ab"])
    result = query_range(store.engine, 'cpu{host="b"}', 0, 9 * S, 3 * S)
    assert result.type == "matrix"
    assert result.labels == [{"__name__": "cpu", "host": "b"}]
    times, values = result.samples_of(0)
    assert times.tolist() == [0, 3 * S, 6 * S, 9 * S]
    assert values.tolist() == [0.0, 3.0, 6.0, 9.0]


def test_samples_across_partitions_seals_and_overwrites(store: kymograph.Store) -> None:
    times = [day * DAY + 60 * S * minute for day in range(3) for minute in range(5)]
    store.record([Sample("m", 0.0, {"k": k}, t) for t in reversed(times) for k in "xyz"])
    if hasattr(store.engine, "seal"):
        store.engine.seal()
    store.record([Sample("m", float(t // S), {"k": k}, t) for t in times for k in "zyx"])
    source = Source(store.engine)
    found = source.load(source.select(parse_selector("m").matchers), -1, 3 * DAY, Meter(PromLimits()))
    assert sorted(dict(one)["k"] for one in found.labels) == ["x", "y", "z"]
    assert np.diff(found.offsets).tolist() == [15, 15, 15]
    for row in range(3):
        part = slice(found.offsets[row], found.offsets[row + 1])
        assert found.times[part].tolist() == times
        assert found.values[part].tolist() == [float(t // S) for t in times]


def test_ranges_are_open_at_the_left(store: kymograph.Store) -> None:
    store.record([Sample("m", float(i), {}, i) for i in range(10)])
    source = Source(store.engine)
    found = source.load(source.select(parse_selector("m").matchers), 3, 6, Meter(PromLimits()))
    assert found.times.tolist() == [4, 5, 6]


def test_staleness_keeps_its_bits(store: kymograph.Store) -> None:
    stale = np.array([STALE]).view(np.float64)[0]
    store.record([Sample("m", 1.0, {}, 0), Sample("m", float("nan"), {}, S), Sample("m", stale, {}, 2 * S)])
    source = Source(store.engine)
    assert source.load(source.select(parse_selector("m").matchers), -1, 9 * S, Meter(PromLimits())).stale.tolist() == [
        False,
        False,
        True,
    ]
    assert len(query_instant(source, "m", S)) == 1
    assert len(query_instant(source, "m", 2 * S)) == 0
    assert query_instant(source, "count_over_time(m[10s])", 2 * S).values.tolist() == [2.0]


def test_wide_tables(store: kymograph.Store) -> None:
    store.create_table(
        "gpu",
        labels=["host", "slot"],
        fields={"temp": "float32", "power": "float64", "ecc": "uint64", "ok": "bool", "state": "string"},
    )
    hosts = ["a", "a", "b", None]
    for second in range(5):
        store.write(
            "gpu",
            {
                "time": pa.array([second * S] * 4, pa.timestamp("us", tz="UTC")),
                "host": hosts,
                "slot": ["0", "1", "0", "0"],
                "temp": pa.array([20.5, 30.5, None, 50.5], pa.float32()),
                "power": [100.0 + second, 200.0, 300.0, 400.0],
                "ecc": pa.array([1, 2, 3, 4], pa.uint64()),
                "ok": [True, False, True, None],
                "state": ["P0", "P1", "P2", "P3"],
            },
        )
    engine = store.engine
    assert _rows(engine, "gpu_power", 4 * S) == {
        "[('__name__', 'gpu_power'), ('host', 'a'), ('slot', '0')]": 104.0,
        "[('__name__', 'gpu_power'), ('host', 'a'), ('slot', '1')]": 200.0,
        "[('__name__', 'gpu_power'), ('host', 'b'), ('slot', '0')]": 300.0,
        "[('__name__', 'gpu_power'), ('slot', '0')]": 400.0,
    }
    assert len(query_instant(engine, "gpu_temp", 4 * S)) == 3
    assert query_instant(engine, "sum(gpu_ok)", 4 * S).values.tolist() == [2.0]
    assert query_instant(engine, "max(gpu_ecc)", 4 * S).values.tolist() == [4.0]
    assert len(query_instant(engine, "gpu_state", 4 * S)) == 0
    assert query_instant(engine, 'rate(gpu_power{host="a",slot="0"}[5s])', 4 * S).values.tolist() == [1.0]
    assert len(query_instant(engine, '{__name__=~"gpu_.*",host!="",nothing=""}', 4 * S)) == 2 + 3 + 3 + 3
    assert len(query_instant(engine, 'gpu_power{host=~"a|b",slot!~"1"}', 4 * S)) == 2
    assert query_instant(
        engine, "sum by (slot) (gpu_temp) and on(slot) gpu_power{host='b'}", 4 * S
    ).values.tolist() == [71.0]


def test_scalar_and_wide_series_together(store: kymograph.Store) -> None:
    store.create_table("room", labels=["floor"], fields={"temp": "float64"})
    store.write("room", {"time": pa.array([0], pa.timestamp("us", tz="UTC")), "floor": ["1"], "temp": [21.0]})
    store.gauge("outside_temp", 9.0, time=0)
    assert query_instant(store.engine, '{__name__=~".*_temp"}', S).values.tolist() == [9.0, 21.0]


def test_series_that_appear_later_are_found(store: kymograph.Store) -> None:
    source = Source(store.engine)
    store.gauge("m", 1.0, {"k": "a"}, time=0)
    assert len(query_instant(source, "m", S)) == 1
    store.gauge("m", 2.0, {"k": "b"}, time=0)
    assert len(query_instant(source, "m", S)) == 2


def test_an_empty_store(store: kymograph.Store) -> None:
    assert len(query_instant(store.engine, "nothing", 0)) == 0
    assert len(query_range(store.engine, "rate(nothing[5m])", 0, 10 * S, S)) == 0
    assert query_instant(store.engine, "absent(nothing)", 0).values.tolist() == [1.0]


def test_a_label_that_comes_after_the_series_were_selected(store: kymograph.Store) -> None:
    """Rows that have it are of other series than those selected, whatever these share with them."""
    store.write("cpu", {"time": [1 * S, 2 * S], "host": ["a", "a"], "usage": [1.0, 2.0]})
    source = Source(store.engine)
    selection = source.select(parse_selector("cpu_usage").matchers)
    store.add_columns("cpu", ["region"])
    store.write("cpu", {"time": [1 * S, 3 * S], "host": ["a", "a"], "region": ["eu", "eu"], "usage": [7.0, 8.0]})
    found = source.load(selection, 0, 9 * S, Meter(PromLimits()))
    assert (found.times.tolist(), found.values.tolist()) == ([1 * S, 2 * S], [1.0, 2.0])
    again = source.load(source.select(parse_selector("cpu_usage").matchers), 0, 9 * S, Meter(PromLimits()))
    assert sorted(again.values.tolist()) == [1.0, 2.0, 7.0, 8.0]
    assert len(again.labels) == 2
