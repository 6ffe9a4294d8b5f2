"""An instant query is answered from kept newest rows, and must not differ from one that reads the samples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

import kymograph
from kymograph.model.schema import SAMPLES, SAMPLES_SCHEMA
from kymograph.store.store import Store
from tests.rows import batch_of

SERIES, SECOND = 20, 1_000_000
STALE = np.uint64(0x7FF0_0000_0000_0002).view(np.float64)


@pytest.fixture(scope="module", params=["memory:", "hot", "sealed", "mixed"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Series that begin, end, go stale, hold nulls, are late and are overwritten, in every state of an engine."""
    store = kymograph.connect("memory:" if request.param == "memory:" else tmp_path_factory.mktemp("newest"))
    ids = store.engine.register_series([("m", {"i": str(i)}) for i in range(SERIES)])
    store.engine.create_table(SAMPLES_SCHEMA)
    rng = np.random.default_rng(11)
    for number in range(12):
        series = rng.integers(0, SERIES, 60)
        times = rng.integers(0, 40, 60) * 30 + rng.integers(0, 20, SERIES)[series] * 10 * (number % 3)
        values = rng.choice([1.0, 2.5, STALE, np.nan, -0.0], 60, p=[0.4, 0.2, 0.2, 0.1, 0.1])
        rows = {
            "time": times * SECOND,
            "series_id": np.array(ids)[series],
            "value": pa.array(values, from_pandas=False),
        }
        if number == 7:
            rows["value"] = pa.nulls(60, pa.float64())
        store.engine.append(SAMPLES, batch_of(SAMPLES_SCHEMA, rows))
        if request.param == "sealed" or (request.param == "mixed" and number == 6):
            store.seal()
        if number == 9:
            store.delete(SAMPLES, {"series_id": ids[3]}, start=300 * SECOND)
            store.delete(SAMPLES, {"series_id": ids[4]})
    yield store
    store.close()


@pytest.mark.parametrize("query", ["m", 'm{i=~"1."}', 'm{i="3"}', "timestamp(m)", "m offset 2m", "m @ 700"])
def test_it_is_what_the_samples_say(store: Store, query: str) -> None:
    seen = 0
    for second in range(-10, 1900, 211):
        at = second * SECOND
        one = store.promql(query, time=at)
        two = store.promql_range(query, start=at, end=at + 1, step=1)
        first = {}
        for place, labels in enumerate(two.labels):
            times, values = two.samples_of(place)
            if times[0] == at:
                first[tuple(sorted(labels.items()))] = values.view(np.int64)[0]
        found = {
            tuple(sorted(labels.items())): one.values.view(np.int64)[place] for place, labels in enumerate(one.labels)
        }
        assert found == first, second
        seen += len(found)
    assert seen > 5
