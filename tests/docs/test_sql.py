"""docs/sql.md: its examples run, and it names every function of ours."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator

import pytest

import kymograph
from kymograph.sql import gapfill, rewrite, ring_functions
from kymograph.store.store import Store
from tests.docs.pages import page

SQL = page("docs/sql.md")
START = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
GPUS = ["GPU-1", "GPU-2"]


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with kymograph.connect("memory:") as made:
        times = [START + dt.timedelta(seconds=10 * i) for i in range(120) if not 40 <= i < 60]
        for gpu in GPUS:
            n = len(times)
            made.write(
                "gpu_metrics",
                {
                    "time": times,
                    "gpu_uuid": gpu,
                    "gpu_temp": [40.0 + (30.0 if i > n // 2 else 0.0) for i in range(n)],
                    "power_usage": [300.0 + i for i in range(n)],
                    "gpu_utilization": [90.0] * n,
                    "energy_mj": [3_000_000 * i for i in range(n)],
                    "ecc_sbe_volatile": [i // 50 for i in range(n)],
                    "ecc_dbe_volatile": [0] * n,
                    "throttle_reasons": [8 if i == n - 1 else 0 for i in range(n)],
                },
            )
            made.write("gpu_scores", {"time": [times[-1]], "gpu_uuid": gpu, "score": [97.0]})
        for i in range(3):
            made.gauge("cpu_percent", 10.0 + i, labels={"host": "demo"}, time=times[i])
        yield made


@pytest.mark.parametrize("statement", SQL.blocks("sql"))
def test_examples_run(store: Store, statement: str) -> None:
    params = {"gpu": "GPU-1", "gpus": GPUS, "start": START, "end": START + dt.timedelta(minutes=20)}
    used = {name: value for name, value in params.items() if re.search(rf"\${name}\b", statement)}
    assert store.sql(statement, used).rows()


def test_functions() -> None:
    documented = {found[1] for heading in SQL.headings() if (found := re.match(r"(\w+)\(", heading))}
    assert documented == rewrite._NAMES | rewrite.GAPFILL | ring_functions.NAMES
    assert documented >= gapfill._BUCKET | gapfill._FILLS
