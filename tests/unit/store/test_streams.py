"""Streams through the store: processing, SQL and PromQL, the cap, folders that outlive processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kymograph
from kymograph.errors import InvalidInput
from kymograph.streams import Stretch, copy, decimate, mean_filter, median_filter, process, resample
from tests.folders import size_of

START = 1_772_409_600_000_000


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    target = "memory:" if request.param == "memory" else tmp_path / "store"
    with kymograph.connect(target, sync="off") as store:
        yield store


def wave(store: Any, count: int = 5000, gap: int = 2000, layout: str = "int16_2") -> Any:
    """A stream with a gap after `gap` rows, 1 kHz."""
    stream = store.stream("/meter/1/raw", layout)
    rows = np.empty(count, stream.layout.rows)
    rows["timestamp"] = START + np.arange(count) * 1000 + np.where(np.arange(count) >= gap, 10**6, 0)
    rows["data"] = np.random.default_rng(3).integers(-1000, 1000, rows["data"].shape)
    stream.insert(rows[:gap])
    stream.insert(rows[gap:])
    return stream


@pytest.mark.parametrize("rows", [30, 10**6])
def test_filters_do_not_depend_on_the_pieces(store: Any, rows: int) -> None:
    stream = wave(store)
    given = stream.read()
    for name, function, kernel in (("mean", mean_filter, np.mean), ("median", median_filter, np.median)):
        made = store.stream(f"/made/{name}", "float64_2")
        function(stream, made, 5, rows=rows)
        assert made.intervals() == stream.intervals()
        found = made.read()
        assert found["timestamp"].tolist() == given["timestamp"].tolist()
        for at in (0, 1, 2, 1000, 1998, 1999, 2000, 2001, 4999):
            low, high = (0, 2000) if at < 2000 else (2000, 5000)
            window = given["data"][max(low, at - 2) : min(high, at + 3)]
            assert found["data"][at] == pytest.approx(kernel(window, axis=0), abs=1e-9)


@pytest.mark.parametrize("rows", [100, 10**6])
def test_decimation_and_resampling(store: Any, rows: int) -> None:
    stream = wave(store)
    given = stream.read()
    slow = store.stream("/made/slow", "float64_6")
    decimate(stream, slow, 16, rows=rows)
    found = slow.read()
    assert len(found) == 125 + 188
    assert found["data"][125].tolist() == [
        *given["data"][2000:2016].mean(axis=0), *given["data"][2000:2016].min(axis=0), *given["data"][2000:2016].max(axis=0),
    ]  # fmt: skip
    assert found["data"][-1][:2].tolist() == given["data"][4992:].mean(axis=0).tolist()
    assert slow.intervals() == stream.intervals()
    fine = store.stream("/made/fine", "float64_2")
    resample(stream, fine, 250, rows=rows)
    found = fine.read()
    assert len(found) == 1999 * 4 + 1 + 2999 * 4 + 1
    assert found["data"][2].tolist() == ((given["data"][0] + given["data"][1].astype(float)) / 2).tolist()
    assert (found["timestamp"] % 250 == 0).all()


def test_work_resumes_and_may_be_repeated(store: Any) -> None:
    stream = wave(store)
    made = store.stream("/made/copy", "int16_2")
    calls: list[int] = []

    def failing(stretch: Stretch) -> Any:
        calls.append(len(stretch.own))
        if len(calls) == 4:
            raise RuntimeError("power cut")
        return stretch.own

    with pytest.raises(RuntimeError):
        process(stream, made, failing, rows=300)
    assert made.count() == 900
    copy(stream, made, rows=300)
    assert made.read().tobytes() == stream.read().tobytes()
    assert made.intervals() == stream.intervals()
    assert not len(copy(stream, made))
    stream.insert([[START + 10**8, 1, 2]])
    assert copy(stream, made).duration == 1
    assert not len(copy(made, stream))
    made.remove(START, START + 500_000)
    assert copy(stream, made, start=START, end=START + 100_000).duration == 100_000
    assert made.count() == stream.count() - 400


def test_work_that_cannot_be_done(store: Any) -> None:
    stream = wave(store)
    narrow = store.stream("/made/narrow", "float32_1")
    for function in (
        lambda: mean_filter(stream, narrow, 5), lambda: median_filter(stream, narrow, 4), lambda: resample(stream, narrow, 0),
        lambda: decimate(stream, narrow, 1), lambda: copy(stream, narrow), lambda: process(stream, narrow, lambda s: s.own, rows=0),
        lambda: process(stream, narrow, lambda s: (s.own[:0], 10**9)),
        lambda: process(stream, narrow, lambda s: ([], 0), rows=10),
    ):  # fmt: skip
        with pytest.raises(InvalidInput):
            function()
    assert narrow.count() == 0


def test_sql_sees_streams(store: Any) -> None:
    stream = wave(store)
    stream.describe(1, name="Volt age")
    given = stream.read()
    found = store.sql('SELECT count(*) AS n, sum("Volt age") AS s, min(time) AS t FROM stream."/meter/1/raw"').rows()[0]
    assert (found["n"], found["s"]) == (5000, int(given["data"][:, 1].sum()))
    narrowed = store.sql(
        'SELECT c0 FROM stream."/meter/1/raw" WHERE time >= to_timestamp_micros($low) AND time < to_timestamp_micros($high) '
        "ORDER BY time",
        low=START + 10_000,
        high=START + 15_000,
    )
    assert [row["c0"] for row in narrowed.rows()] == given["data"][10:15, 0].tolist()
    level = store.sql('SELECT "Volt age_max" AS m, c0_mean FROM stream."/meter/1/raw~decim-64" ORDER BY time').rows()
    assert [row["m"] for row in level] == store.stream("/meter/1/raw~decim-64").read()["max"][:, 1].tolist()
    joined = store.sql(
        'SELECT count(*) AS n FROM stream."/meter/1/raw" a JOIN stream."/meter/1/raw" b ON a.time = b.time'
    ).rows()
    assert joined[0]["n"] == 5000
    with pytest.raises(kymograph.KymographError, match="did you mean"):
        store.sql('SELECT * FROM stream."/meter/1/rew"')


def test_promql_sees_streams(store: Any) -> None:
    stream = wave(store)
    given = stream.read()
    now = START + 1_500_000
    value = store.promql("meter_1_raw_c1", time=now)
    assert value.labels == [{"__name__": "meter_1_raw_c1", "stream": "/meter/1/raw"}]
    assert value.values.tolist() == [float(given["data"][1500, 1])]
    high = store.promql('max_over_time({__name__=~"meter_.*c1", stream="/meter/1/raw"}[1s])', time=now)
    assert high.values.tolist() == [given["data"][501:1501, 1].max()]
    store.write("meter_1_raw", {"time": [now], "c1": [5.0]})
    both = store.promql('{__name__=~"meter_1_raw.*_c1"}', time=now)
    assert sorted(len(labels) for labels in both.labels) == [1, 2]


def test_the_cap_counts_streams(tmp_path: Path) -> None:
    with kymograph.connect(tmp_path / "store", cap="8MB", sync="off") as store:
        stream = store.stream("/meter/1/raw", "uint16_6")
        dice = np.random.default_rng(1)
        for at in range(12):
            rows = np.empty(110_000, stream.layout.rows)
            rows["timestamp"] = (at * 110_000 + np.arange(110_000)) * 125
            rows["data"] = dice.integers(0, 2**16, rows["data"].shape)
            stream.insert(rows, end=(at + 1) * 110_000 * 125)
            size = size_of(tmp_path / "store")
            assert size <= 8_000_000
        left = stream.intervals()
        # the oldest went, whole blocks of them, and are not covered any more
        assert len(left) == 1
        assert left.ends[0] == 12 * 110_000 * 125
        assert 0 < stream.count() < 12 * 110_000
        assert stream.read()["timestamp"][0] == left.starts[0]


def test_a_stream_outlives_its_process(tmp_path: Path) -> None:
    with kymograph.connect(tmp_path / "store", sync="off") as store:
        stream = wave(store)
        stream.set_metadata({"a": 1})
        before = stream.read().tobytes(), stream.read(max_rows=50).rows.tobytes()
    with kymograph.connect(tmp_path / "store", sync="off") as store:
        stream = store.stream("/meter/1/raw")
        assert (stream.read().tobytes(), stream.read(max_rows=50).rows.tobytes()) == before
        assert stream.metadata == {"a": 1}
        assert stream.insert([[START + 10**9, 1, 2]]) == 1
