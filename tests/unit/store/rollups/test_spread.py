"""stddev, var, first and last in SQL are answered from summaries, as exactly as from the rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import kymograph
from kymograph import Retention
from kymograph.model.time import HOUR, MINUTE, SECOND
from kymograph.store.jobs import now_micros
from kymograph.store.store import Store

BASE = now_micros() // HOUR * HOUR - 30 * HOUR
SPREAD = "stddev(v) AS a, stddev_samp(v) AS b, stddev_pop(v) AS c, var(v) AS d, var_samp(v) AS e, var_pop(v) AS f"
ENDS = (
    "first(v, time) AS g, last(v, time) AS h, first_value(v ORDER BY time) AS i, last_value(v ORDER BY time ASC) AS j"
)
BOTH = f"{SPREAD}, {ENDS}, avg(v) AS k, count(*) AS n"


@pytest.fixture
def plain() -> Iterator[Store]:
    with kymograph.connect("memory:") as store:
        yield store


def fill(stores: tuple[Store, ...], *, nulls: bool = False) -> None:
    """Four series of six hours at about 7 s, no two rows at one time: far from zero, small, large, and integers."""
    random = np.random.default_rng(1)
    count = 6 * 3600 // 7
    for place, (host, size, mean) in enumerate(
        [("a", 1.0, 1e9), ("b", 1e-6, 0.0), ("c", 1e12, 3.0), ("d", 40.0, -1e6)]
    ):
        times = BASE + np.arange(count) * 7 * SECOND + place * SECOND + random.integers(0, 1000, count)
        values = mean + random.normal(size=count) * size
        for store in stores:
            rows = {
                "time": times,
                "host": host,
                "v": pa.array(values, mask=np.arange(count) % 5 == 0) if nulls else values,
            }
            store.write("t", {**rows, "n": np.arange(count) * place})
            number = store.series_ids([("m", {"host": host})])
            store.append_samples(np.repeat(number, count), times, values)


def asked(store: Store, text: str, span: Any = None) -> Any:
    return store.sql(text, span or {})


def same(store: Store, plain: Store, text: str, span: Any = None) -> Any:
    found, wanted = asked(store, text, span), asked(plain, text, span)
    one, other = found.arrow(), wanted.arrow()
    assert one.schema == other.schema
    assert one.num_rows == other.num_rows, text
    for name in one.column_names:
        if name in "abcdefk":  # Welford's method itself loses some digits far from zero
            np.testing.assert_allclose(
                one[name].to_numpy(), other[name].to_numpy(), rtol=1e-7, err_msg=f"{name}: {text}"
            )
        else:
            assert one[name].to_pylist() == other[name].to_pylist(), (name, text)
    return found


def statements(source: str, value: str) -> list[str]:
    both = BOTH.replace("(v", f"({value}")
    return [
        f"SELECT {both} FROM {source} WHERE host = 'a'",
        f"SELECT host, {both} FROM {source} GROUP BY host ORDER BY host",
        f"SELECT host, time_bucket('30m', time) AS t, {both} FROM {source} GROUP BY 1, 2 ORDER BY 1, 2",
        f"SELECT time_bucket('1h', time) AS t, {both} FROM {source} GROUP BY 1 HAVING stddev({value}) > 0 ORDER BY 1",
        f"SELECT host, {both} FROM {source} AS q WHERE q.time >= $low AND time < $high GROUP BY 1 ORDER BY var_pop({value})",
    ]


SPAN = {
    "low": np.datetime64(BASE + 37 * MINUTE + 11, "us").item(),
    "high": np.datetime64(BASE + 5 * HOUR + 3 * SECOND, "us").item(),
}


@pytest.mark.parametrize("source", ["metric.m", "t"])
@pytest.mark.parametrize("by", [None, ["host"]])
def test_from_rollups(store: Store, plain: Store, source: str, by: list[str] | None) -> None:
    fill((store, plain))
    table, value = ("t", "v") if source == "t" else ("samples", "value")
    store.create_rollup("fine", table, "1m", by=by)
    store.create_rollup("kept", "fine", "5m", by=by)
    for text in statements(source, value):
        found = same(store, plain, text, SPAN if "$low" in text else None)
        assert (found.tiers, found.approximate) == (["kept", "raw"], False)
    text = f"SELECT stddev({value}), last({value}, time) FROM {source}"
    assert store.sql(text).schema == plain.sql(text).schema
    store.set_retention(table, Retention(age=now_micros() - BASE - 3 * HOUR))
    store.prune(force=True)
    for text in statements(source, value)[:4]:
        found = same(store, plain, text)
        assert (found.tiers, found.approximate) == (["kept", "raw"], False)


@pytest.mark.parametrize("source", ["metric.m", "t"])
def test_nothing_cancels(store: Store, source: str) -> None:
    """All of six hours, and each of it, against two passes in long double."""
    fill((store,))
    store.create_rollup("kept", "samples" if source == "metric.m" else "t", "1m")
    value = "v" if source == "t" else "value"
    rows = store.sql(f"SELECT host, time, {value} AS v FROM {source} ORDER BY 1, 2").arrow()
    values = rows["v"].to_numpy().astype(np.longdouble)
    hosts, hour = rows["host"].to_numpy(), rows["time"].cast(pa.int64()).to_numpy() // HOUR
    for keys, groups in (("", [()]), ("host, ", [(host,) for host in "abcd"])):
        wanted = [values[hosts == group[0]].var() if group else values.var() for group in groups]
        found = store.sql(
            f"SELECT {keys}var_pop({value}) AS f FROM {source} {'GROUP BY host ORDER BY host' if keys else ''}"
        )
        assert found.tiers == ["kept", "raw"]
        np.testing.assert_allclose(found.arrow()["f"].to_numpy(), np.array(wanted, np.float64), rtol=1e-8)
    found = store.sql(
        f"SELECT host, time_bucket('1h', time) AS t, stddev({value}) AS a FROM {source} GROUP BY 1, 2 ORDER BY 1, 2"
    )
    each = [values[(hosts == host) & (hour == one)].std(ddof=1) for host in "abcd" for one in np.unique(hour)]
    np.testing.assert_allclose(found.arrow()["a"].to_numpy(), np.array(each, np.float64), rtol=1e-8)


def test_from_summaries_in_place(store: Store, plain: Store) -> None:
    fill((store, plain))
    store.downsample(now_micros() - BASE - 4 * HOUR, "1m")
    for text in statements("metric.m", "value")[:4]:
        found = same(store, plain, text)
        assert (found.tiers, found.approximate) == (["samples_1m", "raw"], False)


def test_a_sample_on_the_edge_of_a_bucket(store: Store, plain: Store) -> None:
    """It is taken off its summary, which then does not know its last one any more."""
    values = 1e6 + np.sin(np.arange(3600.0))
    for one in (store, plain):
        number = one.series_ids([("m", {})])
        one.append_samples(np.repeat(number, 3600), BASE + np.arange(3600) * SECOND, values)
    store.downsample(now_micros() - BASE - 2 * HOUR, "1m")
    text = "SELECT time_bucket('10m', time) AS t, var_pop(value) AS f, first(value, time) AS g{} FROM metric.m GROUP BY 1 ORDER BY 1"
    assert not same(store, plain, text.format("")).approximate
    assert asked(store, text.format(", last(value, time) AS h")).approximate


def test_few_values_nulls_and_integers(store: Store, plain: Store) -> None:
    fill((store, plain), nulls=True)
    for one in (store, plain):
        one.write("t", {"time": [BASE + 9 * HOUR], "host": ["d"], "v": [4.0], "n": [7]})
        one.write("t", {"time": [BASE + 10 * HOUR], "host": ["d"], "v": pa.array([None], pa.float64()), "n": [7]})
    store.create_rollup("kept", "t", "1m")
    # a null that comes first is the first value to SQL, so the rows say
    text = "SELECT host, time_bucket('1h', time) AS t, {}, count(*) AS n FROM t GROUP BY 1, 2 ORDER BY 1, 2"
    assert same(store, plain, text.format(SPREAD)).tiers == ["kept", "raw"]
    assert same(store, plain, text.format(ENDS)).tiers == ["raw"]
    ints = text.format("last(n, time) AS g, first(n, time) AS h, stddev(n) AS a, var_pop(n) AS b")
    assert same(store, plain, ints).tiers == ["kept", "raw"]


def test_what_needs_more_than_summaries_reads_rows(store: Store, plain: Store) -> None:
    fill((store, plain))
    store.create_rollup("kept", "t", "1m")
    for text in (
        "SELECT last(v, n) AS g FROM t",
        "SELECT first_value(v ORDER BY time DESC) AS g FROM t",
        "SELECT count(DISTINCT host) AS n, stddev(n) AS a FROM t",
        "SELECT stddev(v) FILTER (WHERE n > 3) AS a FROM t",
        "SELECT host, time, last_value(v ORDER BY time) AS g FROM t GROUP BY 1, 2 ORDER BY 1, 2",
        "SELECT var_pop(v * 2) AS a FROM t",
    ):
        assert same(store, plain, text).tiers == ["raw"], text


def test_infinities_have_no_spread(store: Store, plain: Store) -> None:
    inf, nan = np.inf, np.nan
    several = [[inf], [1.0, inf], [inf, 1.0], [nan], [nan, 1.0], [1.0, nan, 2.0], [inf, inf], [-inf, inf, 1.0]]
    for one in (store, plain):
        for place, values in enumerate(several):
            one.write("t", {"time": BASE + np.arange(len(values)) * SECOND, "host": str(place), "v": np.array(values)})
    store.create_rollup("kept", "t", "1m")
    assert same(store, plain, f"SELECT host, {SPREAD} FROM t GROUP BY host ORDER BY host").tiers == ["kept", "raw"]
