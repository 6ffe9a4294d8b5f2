"""From collectors to a real store and back out of it."""

from __future__ import annotations

import struct
import threading
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import kymograph
from kymograph.collect.batch import Batch
from kymograph.collect.gpu import GPU_SCHEMA, POWER_SCHEMA
from kymograph.collect.host import HostCollector
from kymograph.collect.nvml import NvmlCollector
from kymograph.collect.scrape import STALE_BITS, ScrapeCollector
from kymograph.collect.simulate import SimulateCollector
from kymograph.collect.supervisor import Supervisor
from tests.unit.collect.fake_nvml import FakeNvml, full
from tests.unit.collect.pages import serving
from tests.unit.collect.recorder import until


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_everything_collected_is_stored_once(where: str, tmp_path: Path) -> None:
    store = kymograph.connect("memory:" if where == "memory" else tmp_path / "telemetry")
    seen: list[Batch] = []
    enough = threading.Event()

    def watch(batch: Batch) -> None:
        seen.append(batch)
        # what ends later must have been there
        going = any(sample.name == "going" for each in seen for sample in each.samples)
        if going and sum(each.source == "host" for each in seen) >= 3:
            enough.set()

    with serving() as server:
        server.page("# HELP jobs_total Jobs done\n# TYPE jobs_total counter\njobs_total 5\ngoing 1\n")
        supervisor = Supervisor(
            store,
            [
                partial(HostCollector, 100_000),
                partial(SimulateCollector, 12, 100_000),
                partial(NvmlCollector, 100_000, api=FakeNvml(full("GPU-real"))),
                partial(ScrapeCollector, server.url, 100_000, timeout=60.0),
            ],
        )
        supervisor.subscribe(watch)
        supervisor.start()
        assert enough.wait(120)
        server.page("# HELP jobs_total Jobs done\n# TYPE jobs_total counter\njobs_total 6\n")
        until(lambda: any(batch.source.startswith("scrape") and _ended(batch) for batch in list(seen)))
        assert supervisor.stop(60)
    assert {each["state"] for each in supervisor.health()} == {"running"}
    assert supervisor.backlog()["dropped_rows"] == 0
    try:
        _check(store, seen)
    finally:
        store.close()


def _ended(batch: Batch) -> bool:
    return any(_bits(sample.value) == STALE_BITS for sample in batch.samples)


def _bits(value: float) -> int:
    return int.from_bytes(struct.pack("<d", value), "little")


def _check(store: Any, seen: list[Batch]) -> None:
    tables = store.tables()
    assert tables["gpu_metrics"].arrow == GPU_SCHEMA.arrow
    assert tables["gpu_power"].arrow == POWER_SCHEMA.arrow
    shown = [batch.rows["gpu_metrics"] for batch in seen if "gpu_metrics" in batch.rows]
    stored = store.scan("gpu_metrics")
    keys = list(zip(stored["time"].to_pylist(), stored["gpu_uuid"].to_pylist(), strict=True))
    assert len(keys) == len(set(keys))
    assert {(row["time"], row["gpu_uuid"]) for table in shown for row in table.to_pylist()} <= set(keys)
    assert stored["source"].to_pylist().count("simulated") % 12 == 0
    assert store.scan("gpu_power").num_rows == 5

    samples = store.scan("samples")
    expected = [_bits(sample.value) for batch in seen for sample in batch.samples]
    kept = samples["value"].to_numpy().view("u8").tolist()
    # turns under way when recording stops are stored although nobody was shown them
    assert not Counter(expected) - Counter(kept)
    assert kept.count(STALE_BITS) == 1
    known = {metric["name"]: metric for metric in store.metrics()}
    assert (known["jobs_total"]["kind"], known["jobs_total"]["help"]) == ("counter", "Jobs done")
    assert (known["mem_used_bytes"]["kind"], known["mem_used_bytes"]["unit"]) == ("gauge", "bytes")
    assert {"up", "cpu_percent", "scrape_duration_seconds"} <= set(known)
