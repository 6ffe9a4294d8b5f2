"""This machine, through psutil."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, NamedTuple

import psutil
import pytest

from kymograph.collect.batch import Batch
from kymograph.collect.host import METRICS, HostCollector


@pytest.fixture(scope="module")
def turn() -> Batch:
    collector = HostCollector(host="here")
    collector.collect(0)
    deadline = time.monotonic() + 0.15
    while time.monotonic() < deadline:
        sum(range(1000))
    batch = collector.collect(1_000_000)
    collector.close()
    return batch


def test_every_metric_the_machine_has_is_there(turn: Batch) -> None:
    names = {sample.name for sample in turn.samples}
    wanted = {"cpu_percent", "cpu_core_percent", "mem_used_percent", "load1", "load5", "load15", "disk_used_percent"}
    assert wanted | {"processes", "uptime_seconds"} <= names
    assert names <= set(METRICS) == set(turn.describe)
    assert turn.describe["net_bytes_sent"] == {
        "kind": "counter",
        "unit": "bytes",
        "help": "Bytes sent by a network interface",
    }


def test_values_are_plausible(turn: Batch) -> None:
    for sample in turn.samples:
        assert sample.value >= 0 or sample.name == "temperature_celsius", sample
        if sample.name.endswith("_percent"):
            assert sample.value <= 100, sample
        assert (sample.time, sample.kind) == (1_000_000, METRICS[sample.name][0])
        assert sample.labels["host"] == "here"
        assert set(sample.labels) <= {"host", "device"}
    busy = next(sample.value for sample in turn.samples if sample.name == "cpu_percent")
    assert 0 < busy <= 100


def test_no_series_is_there_twice_and_no_metric_mixes_wholes_and_parts(turn: Batch) -> None:
    series = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in turn.samples]
    assert len(series) == len(set(series))
    for name in METRICS:
        assert len({"device" in sample.labels for sample in turn.samples if sample.name == name}) <= 1


def test_cores_and_memory_agree_with_the_system(turn: Batch) -> None:
    cores = [sample for sample in turn.samples if sample.name == "cpu_core_percent"]
    assert len(cores) == psutil.cpu_count()
    total = next(sample.value for sample in turn.samples if sample.name == "mem_total_bytes")
    assert total == psutil.virtual_memory().total
    interfaces = {sample.labels["device"] for sample in turn.samples if sample.name == "net_bytes_sent"}
    assert "lo" not in interfaces


def test_a_part_that_fails_takes_no_other_with_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise PermissionError("/proc/diskstats")

    monkeypatch.setattr(psutil, "disk_io_counters", fail)
    monkeypatch.setattr(psutil, "cpu_times", fail)
    collector = HostCollector()
    for now in (0, 1):
        names = {sample.name for sample in collector.collect(now).samples}
        assert "mem_used_percent" in names
        assert "disk_used_percent" in names
        assert not {"disk_reads", "cpu_percent"} & names
    assert caplog.text.count("without disks") == 1


def test_what_a_container_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(psutil, "sensors_temperatures", raising=False)
    monkeypatch.setattr(psutil, "disk_io_counters", lambda perdisk: None)
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: [])
    samples = HostCollector().collect(0).samples
    assert [sample.labels["device"] for sample in samples if sample.name == "disk_used_percent"] == ["/"]
    assert not [sample for sample in samples if sample.name == "temperature_celsius"]


def test_sensors_of_one_name_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    sensor = SimpleNamespace
    chips = {
        "coretemp": [sensor(label="Core 0", current=50.0), sensor(label="Core 0", current=51.0)],
        "acpitz": [sensor(label="", current=-3.0), sensor(label="", current=None)],
    }
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: chips, raising=False)
    found = {
        sample.labels["device"]: sample.value
        for sample in HostCollector().collect(0).samples
        if sample.name == "temperature_celsius"
    }
    assert found == {"coretemp/Core 0": 50.0, "coretemp/Core 0 1": 51.0, "acpitz/0": -3.0}


class Core(NamedTuple):
    user: float
    idle: float
    guest: float


def test_shares_of_cores_that_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    def shares(*cores: Core) -> list[float]:
        monkeypatch.setattr(psutil, "cpu_times", lambda percpu: list(cores))
        return [sample.value for sample in collector.collect(0).samples if sample.name.startswith("cpu")]

    collector = HostCollector()
    assert shares(Core(1, 1, 1), Core(0, 1, 0)) == []
    # guest time is part of user time, and must not count twice
    assert shares(Core(2, 2, 2), Core(0, 2, 0)) == [33.33, 50.0, 0.0]
    assert shares(Core(3, 2, 2)) == []
    assert shares(Core(4, 2, 2)) == [100.0, 100.0]
    # a counter that goes back, as some virtual machines show, is no negative share
    assert shares(Core(3, 4, 2)) == [0.0, 0.0]
    assert shares(Core(3, 4, 2)) == []
