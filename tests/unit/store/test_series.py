"""Series in bulk: ids and arrays in, limits on how many, and listings by selector."""

from __future__ import annotations

import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import kymograph
from kymograph.errors import InvalidInput, LimitExceeded, QueryError, TimeError
from kymograph.model.time import DAY, HOUR
from kymograph.options import Retention
from kymograph.store.jobs import now_micros
from kymograph.store.metrics import Sample
from kymograph.store.store import Store

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
MINUTE = 60_000_000


def test_ids_are_those_of_the_labels_in_any_order(store: Store) -> None:
    first = store.series_ids([("cpu", {"a": "1", "b": "2"}), ("cpu", {}), ("mem", {"a": "1"})])
    assert first.dtype == np.int64
    again = store.series_ids([("mem", {"a": "1", "z": ""}), ("cpu", {"b": "2", "a": "1"}), ("cpu", {"c": ""})])
    assert again.tolist() == first[[2, 0, 1]].tolist()
    assert len(store.engine.series()) == 3
    assert store.series_ids([]).tolist() == []


def test_samples_as_arrays_keep_their_bits(store: Store) -> None:
    ids = store.series_ids([("a", {}), ("b", {"x": "ü"})])
    values = np.array([STALE, -0.0, np.inf, 5e-324])
    assert store.append_samples(ids[[0, 0, 1, 1]], np.array([1, 2, -3, 4]), values) == 4
    rows = store.scan("samples")
    assert rows["time"].cast(pa.int64()).to_pylist() == [-3, 1, 2, 4]
    bits = values[[2, 0, 1, 3]].view(np.int64).tolist()
    assert rows["value"].combine_chunks().view(pa.int64()).to_pylist() == bits
    assert store.append_samples(ids[:0], np.zeros(0, np.int64), np.zeros(0)) == 0


@pytest.mark.parametrize(
    ("ids", "times", "values", "error"),
    [
        ([1], [1, 2], [1.0], InvalidInput),
        ([99], [1], [1.0], InvalidInput),
        ([-1], [1], [1.0], InvalidInput),
        ([1], [2**63 - 1], [1.0], TimeError),
        ([1.0], [1], [1.0], InvalidInput),
        ([1], [1], ["x"], InvalidInput),
        ([[1]], [[1]], [[1.0]], InvalidInput),
        (np.array([1], np.uint64), [1], [1.0], InvalidInput),
    ],
    ids=repr,
)
def test_arrays_that_do_not_fit_are_refused_whole(store: Store, ids: Any, times: Any, values: Any, error: Any) -> None:
    assert store.series_ids([("a", {})]).tolist() == [1]
    with pytest.raises(error):
        store.append_samples(ids, times, values)
    assert store.info()["rows"] == 0


def test_a_bad_name_registers_nothing(store: Store) -> None:
    with pytest.raises(InvalidInput):
        store.series_ids([("good", {}), ("", {})])
    with pytest.raises(InvalidInput):
        store.series_ids([("good", {}), ("bad", {"a": 1})])  # type: ignore[dict-item]
    assert store.series() == []


def test_first_writes_from_many_threads_make_each_series_once(store: Store) -> None:
    barrier = threading.Barrier(8)

    def write(offset: int) -> list[int]:
        barrier.wait()
        names = [("m", {"n": str((n + offset) % 50)}) for n in range(50)]
        ids = store.series_ids(names)
        store.append_samples(ids, np.full(50, offset), np.arange(50.0))
        return [int(number) for _, number in sorted(zip([labels["n"] for _, labels in names], ids, strict=True))]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(write, range(8)))
    assert all(answer == answers[0] for answer in answers)
    assert len(store.series()) == 50
    assert store.info()["rows"] == 400


def test_limits_on_series_name_the_metric_and_take_nothing(tmp_path: Path) -> None:
    with kymograph.connect(tmp_path, max_series=3, sync="off") as store:
        store.series_ids([("cpu", {"host": "a"}), ("cpu", {"host": "b"})])
        with pytest.raises(LimitExceeded, match="metric disk would add 2 series: there are 2 series, the limit is 3"):
            store.record(
                [Sample("cpu", 1, {"host": "a"}), Sample("disk", 1, {"d": "1"}), Sample("disk", 2, {"d": "2"})]
            )
        assert len(store.series()) == 2
        assert store.info()["rows"] == 0
        store.gauge("disk", 1)
        with pytest.raises(LimitExceeded, match="max_series"):
            store.gauge("more", 1)
        store.gauge("disk", 2)
    with kymograph.connect(tmp_path, max_series=3, sync="off") as store:
        store.gauge("cpu", 1, {"host": "b"})
        with pytest.raises(LimitExceeded):
            store.gauge("more", 1)


def test_limit_on_new_series_counts_what_is_new(tmp_path: Path) -> None:
    with kymograph.connect(tmp_path, sync="off") as store:
        store.series_ids([("old", {"n": str(n)}) for n in range(10)])
    with kymograph.connect(tmp_path, max_new_series=2, sync="off") as store:
        store.series_ids([("old", {"n": str(n)}) for n in range(10)])
        store.series_ids([("new", {"n": str(n)}) for n in range(2)])
        with pytest.raises(LimitExceeded, match="metric new would add 1 series: 2 series are new in the last hour"):
            store.series_ids([("new", {"n": "2"})])
        assert len(store.series()) == 12


def test_descriptions_come_many_at_a_time(store: Store) -> None:
    store.describe_many({"a": {"kind": "counter", "help": "é"}, "b": {"unit": "bytes"}})
    store.describe_many({"a": {"kind": None, "unit": "s"}})
    about = {one.pop("name"): one for one in store.metrics()}
    assert about["a"] == {"kind": "counter", "unit": "s", "help": "é", "series": 0}
    assert about["b"] == {"kind": "untyped", "unit": "bytes", "help": "", "series": 0}
    with pytest.raises(InvalidInput):
        store.describe_many({"c": {"kind": "gauge"}, "d": {"kind": "strange"}})
    assert [one["name"] for one in store.metrics()] == ["a", "b"]


@pytest.fixture
def listed(store: Store) -> Store:
    store.record(
        [
            Sample("up", 1, {"job": "a", "instance": "x"}, 10 * MINUTE),
            Sample("up", 1, {"job": "b"}, 20 * MINUTE),
            Sample("温度", 1, {"room": "küche"}, 30 * MINUTE),
        ]
    )
    store.write(
        "gpu", {"time": [5 * MINUTE, 6 * MINUTE], "uuid": ["g1", "g2"], "temp": [1.0, 2.0], "note": [None, None]}
    )
    return store


def test_series_by_selector(listed: Store) -> None:
    first = {"__name__": "up", "job": "a", "instance": "x"}
    assert listed.series('up{job="a"}') == [first]
    assert listed.series(['up{job="a"}', "up", "up"]) == [first, {"__name__": "up", "job": "b"}]
    assert listed.series('{room=~"k.che"}') == [{"__name__": "温度", "room": "küche"}]
    assert listed.series("gpu_temp") == [
        {"__name__": "gpu_temp", "uuid": "g1"}, {"__name__": "gpu_temp", "uuid": "g2"},
    ]  # fmt: skip
    assert len(listed.series()) == 5
    assert listed.series('{job="none"}') == []
    for bad in ("rate(up[5m])", "up[5m]", "up offset 1m", "{", ""):
        with pytest.raises(QueryError):
            listed.series(bad)
    with pytest.raises(InvalidInput):
        listed.series([1])  # type: ignore[list-item]


def test_series_that_cannot_be_in_the_range_are_left_out(listed: Store) -> None:
    names = lambda **range: [(s["__name__"], s.get("job")) for s in listed.series(**range)]  # noqa: E731
    assert names(start=15 * MINUTE) == [("up", "b"), ("温度", None)]
    assert names(end=7 * MINUTE) == [("gpu_temp", None)] * 2
    assert names(start=31 * MINUTE) == []
    assert names(start=0, end=5 * MINUTE) == []


def test_series_are_in_the_ranges_that_hold_their_samples(store: Store) -> None:
    """Also where they are silent amid older and newer samples, and where samples are sealed or in rings."""
    random = np.random.default_rng(5)
    times = {}
    for number in range(24):
        ids = store.series_ids([("m", {"n": str(number)})])
        some = np.sort(
            random.choice([MINUTE, 60 * MINUTE, 1440 * MINUTE]) * random.integers(-50, 50, random.integers(1, 6))
        )
        store.append_samples(np.repeat(ids, len(some)), some, np.zeros(len(some)))
        times[str(number)] = some
        if number == 12:
            store.seal()
    store.ring("m", slots=10, labels={"n": "ring"})
    for second in range(15):
        store.gauge("m", 1.0, {"n": "ring"}, time=second * 1_000_000)
    times["ring"] = np.arange(5, 15) * 1_000_000
    moments = np.concatenate([*times.values(), [0]])
    for start, end in [*random.choice(moments, (60, 2)).tolist(), (None, 0), (1, None), (6_000_000, 9_000_000)]:
        low, high = moments.min() if start is None else start, moments.max() + 1 if end is None else end
        there = {n for n, some in times.items() if ((some >= low) & (some < high)).any()}
        assert set(store.label_values("n", "m", start=start, end=end)) == there, (start, end)


@pytest.mark.parametrize("gone", ["nothing", "downsampled", "kept in rollups"])
def test_series_whose_samples_are_gone(tmp_path: Path, gone: str) -> None:
    """What a query finds in summaries is listed, by the store that writes and by one that reads."""
    base = now_micros() // HOUR * HOUR - 2 * DAY
    age = now_micros() - base - 8 * HOUR
    with kymograph.connect(tmp_path / "store", sync="off") as store:
        for name, first in (("early", 0), ("late", 5 * HOUR)):
            ids = store.series_ids([(name, {})])
            times = base + first + np.arange(60) * MINUTE
            store.append_samples(np.repeat(ids, 60), times, np.ones(60))
        store.write("t", {"time": base + np.arange(600) * MINUTE, "host": "a", "v": np.arange(600.0)})
        if gone == "downsampled":
            store.downsample(age, "5m")
        for table in ("samples", "t") if gone == "kept in rollups" else ():
            store.create_rollup(f"{table}_5m", table, "5m")
            store.set_retention(table, Retention(age=age))
            store.prune(force=True)
        assert (store.scan("samples").num_rows == 120) == (gone == "nothing")
        with kymograph.connect(tmp_path / "store", read_only=True) as reader:
            for one in (store, reader):
                for start, end, there in (
                    (10, 20, {"early", "t_v"}),
                    (120, 240, {"t_v"}),
                    (120, 360, {"late", "t_v"}),
                    (-120, -10, set()),
                    (720, 780, set()),
                ):
                    found = one.label_values(
                        "__name__", '{__name__=~"early|late|t_v"}', start=base + start * MINUTE, end=base + end * MINUTE
                    )
                    assert set(found) == there, (start, end)


def test_streams_are_in_ranges_like_tables(store: Store) -> None:
    stream = store.stream("/meter/1/raw", layout="float32_1")
    stream.insert(np.array([[10.0 * MINUTE, 1.0], [11.0 * MINUTE, 2.0]]))
    for start, end, there in ((None, None, 1), (9, 12, 1), (11, None, 1), (12, None, 0), (None, 10, 0), (None, 11, 1)):
        span = {"start": start and start * MINUTE, "end": end and end * MINUTE}
        assert len(store.series("meter_1_raw_c0", **span)) == there, span


def test_label_names_and_values(listed: Store) -> None:
    assert listed.label_names() == ["__name__", "instance", "job", "room", "uuid"]
    assert listed.label_names("up") == ["__name__", "instance", "job"]
    assert listed.label_values("job") == ["a", "b"]
    assert listed.label_values("job", 'up{instance=""}') == ["b"]
    assert listed.label_values("__name__", start=15 * MINUTE) == ["up", "温度"]
    assert listed.label_values("nothing") == []
