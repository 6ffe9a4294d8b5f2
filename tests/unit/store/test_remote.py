"""Remote write and read in Python: the same store over several openings, and several messages in one step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import kymograph
from kymograph.errors import InvalidInput, KymographError, LimitExceeded, StoreClosed
from kymograph.promql.limits import PromLimits
from kymograph.store.remote.taking import Taken
from kymograph.wire import snappy
from kymograph.wire.remote.decoder import V1, V2
from tests.unit.wire import messages
from tests.unit.wire.messages import write_v1, write_v2

NOW = 1_772_409_600_000


def one(name: str, n: int, value: float = 1.0, time: int = NOW) -> tuple[dict[str, str], list[tuple[int, float]]]:
    return {"__name__": name, "n": str(n)}, [(time, value)]


def values(store: kymograph.Store, query: str, time: int = NOW) -> dict[str, float]:
    found = store.promql(query, time=time * 1000)
    return {labels.get("n", ""): value for labels, value in zip(found.labels, found.values.tolist(), strict=True)}


def test_series_keep_their_ids_over_openings_and_doors(tmp_path: Path) -> None:
    for opening in range(3):
        with kymograph.connect(tmp_path, sync="normal") as store:
            time = NOW + 1000 * opening
            assert store.take_remote_write(write_v1([one("up", n, float(opening), time) for n in range(5)])) == Taken(5)
            assert store.take_remote_write(write_v2([one("up", 5, 7.0, time)]), V2) == Taken(1)
            store.gauge("up", 9.0, {"n": "0"}, time=time * 1000 + 1)
            assert len(store.series("up")) == 6
    with kymograph.connect(tmp_path, read_only=True) as store:
        assert values(store, "up", NOW + 2001) == {"0": 9.0, "1": 2.0, "2": 2.0, "3": 2.0, "4": 2.0, "5": 7.0}


def test_several_messages_are_stored_together_and_judged_alone() -> None:
    with kymograph.connect("memory:", max_series=4) as store:
        bodies = [
            write_v1([one("a", 1), one("a", 2)]),
            b"\x0a\x01",
            write_v1([one("b", n) for n in range(9)]),
            write_v1([one("a", 1, 5.0), one("a", 3)]),
            b"",
        ]
        found = store.take_remote_writes([(snappy.pack(body), V1) for body in bodies] + [(b"\xff", V1)])
        kinds = [type(each) for each in found]
        assert kinds[0] is kinds[3] is kinds[4] is Taken
        assert isinstance(found[1], InvalidInput)
        assert isinstance(found[2], LimitExceeded)
        assert isinstance(found[5], KymographError)
        assert values(store, "a") == {"1": 5.0, "2": 1.0, "3": 1.0}  # the later message wins
        assert values(store, "b") == {}


def test_many_new_series_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was learned is forgotten when it is too much, and nothing but time is lost."""
    monkeypatch.setattr("kymograph.store.remote.taking._MEMORY", 100_000)
    with kymograph.connect("memory:") as store:
        for batch in range(20):
            rows = [one("wide", n, float(batch), NOW + batch) for n in range(50 * batch, 50 * batch + 100)]
            assert store.take_remote_write(write_v1(rows)).samples == 100
        assert len(store.series("wide")) == 1050


def test_a_dropped_table_comes_back() -> None:
    with kymograph.connect("memory:") as store:
        for value in (1.0, 2.0):
            store.take_remote_write(write_v1([one("up", 1, value)]))
            assert values(store, "up") == {"1": value}
            store.drop_table("samples")


def test_closed() -> None:
    store = kymograph.connect("memory:")
    store.close()
    with pytest.raises(StoreClosed):
        store.take_remote_write(write_v1([one("up", 1)]))
    with pytest.raises(StoreClosed):
        store.take_remote_writes([(snappy.pack(b""), V1)])
    with pytest.raises(StoreClosed):
        store.remote_read(b"")


def test_what_is_read_is_what_was_written() -> None:
    rng = np.random.default_rng(2)
    bits = rng.integers(0, 2**64, 500, dtype=np.uint64)
    special = np.array([0.0, -0.0, np.inf, -np.inf, 5e-324, 1e308])
    numbers = np.concatenate([bits.view(np.float64), special])
    times = np.unique(rng.integers(-(2**51), 2**51, len(numbers)))[: len(numbers)]
    series = {"__name__": "any", "text": 'ä\n"\\'}
    with kymograph.connect("memory:") as store:
        ids = store.series_ids([("any", {"text": series["text"]})])
        store.append_samples(np.repeat(ids, len(times)), times * 1000, numbers[: len(times)])
        request = messages.V1["ReadRequest"]()
        query = request.queries.add(start_timestamp_ms=-(2**60), end_timestamp_ms=2**60)
        query.matchers.add(type=0, name="__name__", value="any")
        message = store.remote_read(request.SerializeToString())
        (result,) = messages.V1["ReadResponse"].FromString(message).results
        (found,) = result.timeseries
        assert {label.name: label.value for label in found.labels} == series
        assert [sample.timestamp for sample in found.samples] == times.tolist()
        back = np.array([sample.value for sample in found.samples])
        assert np.array_equal(back.view(np.uint64), numbers[: len(times)].view(np.uint64))
        with pytest.raises(LimitExceeded):
            store.remote_read(request.SerializeToString(), PromLimits(samples=10))
