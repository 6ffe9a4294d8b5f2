"""SQL over samples and metrics gives with rollups and with downsampled samples what it gives from the samples themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kymograph
from kymograph import Retention
from kymograph.model.time import HOUR, MINUTE, SECOND
from kymograph.sql.result import Result
from kymograph.store.jobs import now_micros
from kymograph.store.store import Store

STALE = np.array([0x7FF0000000000002]).view(np.float64)[0]
SERIES = [
    ("m", {"host": "a"}),
    ("m", {"host": "b", "disk": "x"}),
    ("m", {"host": "b"}),
    ("total", {"host": "a", "value": "v", "name": "n"}),
    ("m.other", {"count": "c"}),
]
BASE = now_micros() // HOUR * HOUR - 30 * HOUR
SPAN = 6 * 3600
MEASURES = "count(*) AS c, sum(value) AS s, avg(value) AS m, min(value) AS lo, max(value) AS hi, count(value) AS v"
SELECTS = [
    ("", "metric.m", ""),
    ("host, disk,", "metric.m", "GROUP BY 1, 2 ORDER BY 1, 2"),
    ("host, time_bucket('{width}', time) AS t,", "metric.m AS q", "GROUP BY 1, 2 ORDER BY 1, 2"),
    ("time_bucket('{width}', time) AS t,", "metric.total", "GROUP BY 1 ORDER BY 1"),
    ("label_value, name,", "metric.total", "GROUP BY 1, 2 ORDER BY 1, 2"),
    ("count,", 'metric."m.other"', "GROUP BY 1"),
    ("series_id, time_bucket('{width}', time) AS t,", "samples", "GROUP BY 1, 2 ORDER BY 1, 2"),
    ("", "samples", ""),
]
FILTERS = ["", "host = 'b'", "host IN ('a', 'b') AND disk = 'x'", "host = 'nobody'"]


def statements(random: Any, widths: list[str], edges: int) -> list[tuple[str, dict[str, Any]]]:
    """Every SELECT with every width, over ranges that begin and end on multiples of `edges` s."""
    found = []
    for keys, source, group in SELECTS:
        for width in widths if "{width}" in keys else widths[:1]:
            low, high = sorted(BASE // SECOND + int(n) // edges * edges for n in random.integers(0, SPAN, 2))
            until = "time <= $high" if edges == 1 else "time < $high"
            where = [["", "time >= $low", "time >= $low AND time < $high", until][random.integers(4)]]
            if "metric.m" in source and '"' not in source:
                where.append(FILTERS[random.integers(len(FILTERS))])
            if source == "samples":
                where.append(["", "series_id = 2", "series_id IN (1, 3, 99)"][random.integers(3)])
            where = [one for one in where if one]
            text = f"SELECT {keys.format(width=width)} {MEASURES} FROM {source}"
            text += f" WHERE {' AND '.join(where)}" if where else ""
            times = {"low": np.datetime64(low, "s").item(), "high": np.datetime64(high, "s").item()}
            found.append((f"{text} {group}", {name: times[name] for name in times if f"${name}" in text}))
    return found


def equal(found: Result, wanted: Result) -> bool:
    one, other = found.arrow(), wanted.arrow()
    if one.schema != other.schema or one.num_rows != other.num_rows:
        return False
    for name in one.column_names:
        left, right = one[name], other[name]
        if name in ("s", "m"):
            # sums of floats were put together in another order
            if not left.is_valid().equals(right.is_valid()):
                return False
            if not np.allclose(left.fill_null(0.0), right.fill_null(0.0), rtol=1e-9, atol=1e-6, equal_nan=True):
                return False
        elif left.to_pylist() != right.to_pylist() and str(left.to_pylist()) != str(right.to_pylist()):
            return False
    return True


def write(stores: tuple[Store, ...], random: Any, count: int, *, odd: bool, since: int = 0, until: int = SPAN) -> None:
    """Random samples on whole seconds, the third metric a counter with resets; `odd`: NaN and staleness markers, too."""
    series = random.integers(0, len(SERIES), count)
    times = BASE + random.integers(since, until, count) * SECOND
    values = random.integers(-400, 400, count) / 4
    values[series == 3] = np.arange((series == 3).sum()) % 97
    if odd:
        values[random.random(count) < 0.001] = STALE
        values[random.random(count) < 0.001] = np.nan
    for store in stores:
        ids = np.array(store.series_ids(SERIES))
        store.append_samples(ids[series], times, values)


def agree(store: Store, plain: Store, asked: list[tuple[str, dict[str, Any]]]) -> set[str]:
    """Compare, and return what was read."""
    read: set[str] = set()
    for text, values in asked:
        found, wanted = store.sql(text, values), plain.sql(text, values)
        assert equal(found, wanted), (text, values, found.tiers, found.rows()[:9], wanted.rows()[:9])
        assert not found.approximate, (text, values, found.tiers)
        read.update(found.tiers)
    return read


@pytest.fixture(params=range(2))
def random(request: pytest.FixtureRequest) -> Any:
    return np.random.default_rng(request.param)


@pytest.fixture
def plain() -> Any:
    with kymograph.connect("memory:") as store:
        yield store


def test_with_and_without_rollups(random: Any, plain: Store, tmp_path: Path) -> None:
    """Late samples, deletions and markers; what was touched is read from the samples until it is made anew."""
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        both = (store, plain)
        write(both, random, 3000, odd=True)
        store.create_rollup("s1", "samples", "1m")
        store.create_rollup("s5", "s1", "5m")
        store.create_rollup("h1", "samples", "1m", by=["host", "disk"])
        store.create_rollup("h10", "h1" if random.random() < 0.5 else "s5", "10m", by=["host"])
        read = agree(store, plain, statements(random, ["10m", "90s"], 1))
        write(both, random, 40, odd=False)
        for one in both:
            one.delete("samples", {"series_id": 2}, BASE + HOUR, BASE + 2 * HOUR)
        read |= agree(store, plain, statements(random, ["10m"], 30))
        store.refresh_rollup("h10")
        store.refresh_rollup("s5")
        read |= agree(store, plain, statements(random, ["10m", "15m"], 300))
        assert {"raw", "s5"} < read


def test_retention_has_removed_the_samples(random: Any, plain: Store, tmp_path: Path) -> None:
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        write((store, plain), random, 3000, odd=False)
        store.create_rollup("s1", "samples", "1m")
        store.create_rollup("h5", "samples", "5m", by=["host", "disk"])
        store.set_retention("samples", Retention(age=now_micros() - BASE - 3 * HOUR))
        store.prune(force=True)
        assert store.sql("SELECT min(time) AS t FROM samples").rows()[0]["t"].timestamp() >= BASE / SECOND + 3 * 3600
        read = agree(store, plain, statements(random, ["1m", "5m", "1h"], 60))
        assert {"raw", "s1", "h5"} <= read
        # few buckets, too, and what the rollups cannot tell exactly is said to be so
        few = {"low": np.datetime64(BASE + 7 * MINUTE, "us").item(), "high": np.datetime64(BASE + HOUR, "us").item()}
        text = f"SELECT {MEASURES} FROM metric.m WHERE time >= $low AND time < $high"
        assert equal(store.sql(text, few), plain.sql(text, few))
        few["low"] = np.datetime64(BASE + 7 * MINUTE + 1, "us").item()
        assert store.sql(text, few).approximate


def test_downsampled_in_place(random: Any, plain: Store, tmp_path: Path) -> None:
    """All of it, some of it, twice, and with late samples before and after these are merged."""
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        both = (store, plain)
        write(both, random, 3000, odd=False)
        ages = [now_micros() - BASE - hours * HOUR for hours in (2, 3, 4)]
        store.downsample(ages[1], "1m", "m")
        store.downsample(ages[0], "5m", labels={"host": "a"})
        read = counted(store, plain, random)
        store.create_rollup("s1", "samples", "1m")
        store.downsample(ages[2], "1m")
        read |= counted(store, plain, random)
        assert {"samples_1m", "samples_5m", "raw"} <= read
        fresh = np.arange(24)
        for one in both:
            ids = np.array(one.series_ids(SERIES))
            one.append_samples(ids[fresh % 5], BASE + fresh * 7 * MINUTE + 1, fresh.astype(float))
        with kymograph.connect(tmp_path / "s", read_only=True) as reader:
            counted(reader, plain, random)
        store.run_rollups()
        counted(store, plain, random)


def counted(store: Store, plain: Store, random: Any) -> set[str]:
    """Counts and sums are exact; extremes are, unless the last sample of a bucket is the one."""
    read: set[str] = set()
    for text, values in statements(random, ["5m", "1h"], 300):
        found, wanted = store.sql(text, values), plain.sql(text, values)
        if found.approximate:
            text = text.replace("min(value) AS lo, max(value) AS hi, ", "")
            found, wanted = store.sql(text, values), plain.sql(text, values)
        assert not found.approximate, (text, values, found.tiers)
        assert equal(found, wanted), (text, values, found.tiers, found.rows()[:9], wanted.rows()[:9])
        read.update(found.tiers)
    return read
