"""Entry points: kinds of answers, limits, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kymograph.engine.memory import MemoryEngine
from kymograph.errors import LimitExceeded, QueryError
from kymograph.model.schema import SAMPLES, SAMPLES_SCHEMA
from kymograph.promql.engine import query_instant, query_range
from kymograph.promql.limits import PromLimits
from kymograph.promql.result import number
from kymograph.promql.source import Source
from kymograph.promql.xxhash import hash_of, xxh64
from kymograph.store.metrics import Sample
from kymograph.store.store import Store

S = 1_000_000


@pytest.fixture(scope="module")
def source() -> Source:
    engine = MemoryEngine()
    engine.create_table(SAMPLES_SCHEMA)
    Store(engine).record(
        Sample("m_total", float(i), {"host": f"h{h}"}, i * 10 * S) for h in range(20) for i in range(60)
    )
    assert SAMPLES in engine.tables()
    return Source(engine)


def test_kinds(source: Source) -> None:
    vector = query_instant(source, "m_total", 300 * S)
    assert (vector.type, len(vector), vector.values[0], vector.samples) == ("vector", 20, 30.0, 20 * 30)
    assert set(vector.times.tolist()) == {300 * S}
    matrix = query_instant(source, 'm_total{host="h1"}[25s]', 300 * S)
    assert matrix.type == "matrix"
    assert matrix.times.tolist() == [280 * S, 290 * S, 300 * S]
    scalar = query_instant(source, "1 + 1", 5)
    assert (scalar.type, scalar.labels, scalar.values.tolist()) == ("scalar", [{}], [2.0])
    text = query_instant(source, '"hello"', 5)
    assert (text.type, text.text) == ("string", "hello")
    span = query_range(source, "1 + 1", 0, 20, 10)
    assert (span.type, span.labels, span.values.tolist()) == ("matrix", [{}], [2.0, 2.0, 2.0])


def test_ranges_are_sorted_by_labels(source: Source) -> None:
    result = query_range(source, "m_total", 0, 100 * S, 10 * S)
    hosts = [labels["host"] for labels in result.labels]
    assert hosts == sorted(hosts)


def test_the_step_of_a_function_without_window(source: Source) -> None:
    assert query_instant(source, 'rate(m_total{host="h1"})', 300 * S).values.tolist() == [0.1]
    found = query_range(source, 'count_over_time(m_total{host="h1"})', 100 * S, 200 * S, 50 * S)
    assert found.values.tolist() == [5.0, 5.0, 5.0]
    assert query_range(source, "max_over_time(sum(m_total))", 100 * S, 200 * S, 50 * S).values.tolist() == [
        200.0,
        300.0,
        400.0,
    ]


def test_the_look_back_can_be_chosen(source: Source) -> None:
    at = 590 * S + 60 * S
    assert len(query_instant(source, "m_total", at)) == 20
    assert len(query_instant(source, "m_total", at, lookback_us=60 * S)) == 0
    assert len(query_instant(source, "m_total", at, lookback_us=60 * S + 1)) == 20


def test_annotations(source: Source) -> None:
    result = query_instant(source, "sum(quantile_over_time(2, m_total[1m])) + quantile(NaN, m_total)", 300 * S)
    assert result.warnings == [
        "PromQL warning: quantile value should be between 0 and 1, got 2 (1:24)",
        "PromQL warning: quantile value should be between 0 and 1, got NaN (1:52)",
    ]
    assert result.infos == []


@pytest.mark.parametrize(
    ("limits", "what"),
    [
        (PromLimits(series=19), "selects 20 series, the limit is 19"),
        (PromLimits(samples=100), "samples, the limit is 100"),
        (PromLimits(seconds=0.0), "took longer than 0 s"),
    ],
)
def test_limits(source: Source, limits: PromLimits, what: str) -> None:
    with pytest.raises(LimitExceeded, match=what):
        query_instant(source, "sum(rate(m_total[5m]))", 300 * S, limits)


def test_a_result_that_would_be_too_large_is_not_made(source: Source) -> None:
    with pytest.raises(LimitExceeded, match="samples"):
        query_range(source, "1", 0, 10**12, 1)
    with pytest.raises(LimitExceeded, match="samples"):
        query_range(source, "m_total", 0, 10**7, 1)
    with pytest.raises(LimitExceeded, match="samples"):
        query_instant(source, "sum_over_time(vector(1)[1y:1ms])", 0)


def test_a_long_chain_is_no_crash(source: Source) -> None:
    with pytest.raises((LimitExceeded, QueryError)):
        query_instant(source, " + ".join(["1"] * 20_000), 0)


def test_ranges_that_are_none(source: Source) -> None:
    with pytest.raises(QueryError, match="step"):
        query_range(source, "m_total", 0, 10, 0)
    with pytest.raises(QueryError, match="end timestamp must not be before start"):
        query_range(source, "m_total", 10, 0, 1)
    with pytest.raises(QueryError, match='invalid expression type "string" for range query'):
        query_range(source, '"a"', 0, 10, 1)


def test_numbers_as_text() -> None:
    cases = {
        1.0: "1",
        0.1: "0.1",
        1e21: "1000000000000000000000",
        -2.5e-7: "-0.00000025",
        math.inf: "+Inf",
        -math.inf: "-Inf",
    }
    assert {value: number(value) for value in cases} == cases
    assert number(math.nan) == "NaN"
    assert number(-0.0) == "-0"


def test_hash() -> None:
    # the published test values of XXH64 with seed 0
    assert xxh64(b"") == 0xEF46DB3751D8E999
    assert xxh64(b"a") == 0xD24EC4F1A98C6E5B
    assert xxh64(b"abc") == 0x44BC2CF5AD770999
    shares = [hash_of((("__name__", "m"), ("host", f"h{i}"))) / 2**64 for i in range(2000)]
    assert np.histogram(shares, 4, (0, 1))[0].min() > 400


def test_answers_that_grow_with_values_or_pairs_are_bounded(source: Source) -> None:
    with pytest.raises(LimitExceeded, match="samples"):
        query_range(source, 'count_values("v", m_total * time())', 0, 590 * S, S, PromLimits(samples=200_000))
    with pytest.raises(LimitExceeded, match="samples"):
        query_range(source, "m_total * on() group_left vector(1)", 0, 590 * S, S, PromLimits(samples=12_500))
