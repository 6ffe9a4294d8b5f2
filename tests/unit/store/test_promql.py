"""PromQL through the store agrees with SQL and with what was written."""

from __future__ import annotations

from pathlib import Path

import pytest

import kymograph
from kymograph.errors import QueryError, StoreClosed

SECOND = 1_000_000


@pytest.mark.parametrize("place", ["memory:", "folder"])
def test_the_same_answer_from_every_door(tmp_path: Path, place: str) -> None:
    with kymograph.connect(place if place == "memory:" else tmp_path / place) as store:
        for i in range(100):
            store.counter("bytes_total", i * 3.0, {"host": "a"}, time=i * SECOND)
            store.gauge("temperature", 20 + i % 7, {"host": "a"}, time=i * SECOND)
        store.seal()
        found = store.promql("avg_over_time(temperature[50s])", time=99 * SECOND)
        asked = store.sql("SELECT avg(value) AS mean FROM metric.temperature WHERE time > $t", t="1970-01-01T00:00:49Z")
        assert found.labels == [{"host": "a"}]
        assert found.values.tolist() == [asked.rows()[0]["mean"]]
        assert store.promql("rate(bytes_total[60s])", time="1970-01-01T00:01:30Z").values.tolist() == [3.0]
        steps = store.promql_range("bytes_total", start=0, end=90 * SECOND, step="30s")
        assert steps.samples_of(0)[0].tolist() == [0, 30 * SECOND, 60 * SECOND, 90 * SECOND]
        assert steps.samples_of(0)[1].tolist() == [0.0, 90.0, 180.0, 270.0]
        store.gauge("temperature", 1.0, {"host": "new"}, time=99 * SECOND)
        assert len(store.promql("temperature", time=99 * SECOND)) == 2
        with pytest.raises(QueryError):
            store.promql("sum(")
        with pytest.raises(QueryError):
            store.promql_range("temperature", start=0, end=1, step=0)
    with pytest.raises(StoreClosed):
        store.promql("temperature")
