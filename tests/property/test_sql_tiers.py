"""SQL over a table with rollups gives what it gives without: random rows, ranges, groups and widths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import kymograph
from kymograph.model.time import HOUR, SECOND
from kymograph.store.jobs import now_micros

GROUPS = [
    ("", ""),
    ("g,", "GROUP BY g ORDER BY g"),
    ("g, time_bucket('{width}', time) AS t,", "GROUP BY 1, 2 ORDER BY 1, 2"),
    ("h, time_bucket('{width}', time) AS t,", "GROUP BY 1, 2 ORDER BY 1, 2"),
]
MEASURES = "count(*) AS c, sum(a) AS s, avg(a) AS m, min(b) AS lo, max(a) AS hi, count(a) AS ca, sum(b) AS sb"
WHERE = [
    "",
    "WHERE time >= to_timestamp_micros({start}) AND time <= to_timestamp_micros({end})",
    "WHERE g IN ('x', 'y') AND time > to_timestamp_micros({start})",
]


def equal(found: pa.Table, wanted: pa.Table) -> bool:
    if found.schema != wanted.schema or found.num_rows != wanted.num_rows:
        return False
    for name in found.column_names:
        one, other = found[name], wanted[name]
        if one.equals(other):
            continue
        if not pa.types.is_floating(one.type) or not one.is_valid().equals(other.is_valid()):
            return False
        # sums of floats were put together in another order
        if not np.allclose(one.fill_null(0.0), other.fill_null(0.0), rtol=1e-11, atol=1e-9):
            return False
    return True


@pytest.mark.parametrize("seed", range(3))
def test_with_and_without_rollups(seed: int) -> None:
    random = np.random.default_rng(seed)
    base, count = now_micros() // HOUR * HOUR - 12 * HOUR, 1500
    rows: dict[str, Any] = {
        "time": base + random.choice(6 * 3600, count, replace=False) * SECOND + random.integers(0, 3, count),
        "g": random.choice(["x", "y", ""], count),
        "h": random.choice(["p", "q"], count),
        "a": pa.array(random.integers(-50, 50, count) / 4, mask=random.random(count) < 0.1),
        "b": random.integers(-100, 100, count),
    }
    late = {"time": [base + 777 * SECOND + 1], "g": ["x"], "h": ["p"], "a": [9.0], "b": [1]}
    read = set()
    with kymograph.connect("memory:") as store, kymograph.connect("memory:") as plain:
        for one in (store, plain):
            one.write("t", rows)
        store.create_rollup("m1", "t", "1m", by=["g", "h"] if seed % 2 else ["g"])
        store.create_rollup("m5", "m1", "5m")
        for one in (store, plain):
            one.write("t", late)
        if seed == 1:
            store.refresh_rollup("m5")
        for keys, group in GROUPS:
            for width in ("5m", "1h", "90s"):
                for where in WHERE:
                    start, end = (base + int(random.integers(*span)) * SECOND for span in ((0, 3600), (7200, 20000)))
                    text = f"SELECT {keys.format(width=width)} {MEASURES} FROM t {where.format(start=start, end=end)} {group}"
                    found = store.sql(text)
                    assert equal(found.arrow(), plain.sql(text).arrow()), (text, found.tiers)
                    assert not found.approximate
                    read.update(found.tiers)
    assert {"m5", "raw"} <= read
