"""NVIDIA GPUs: every field, every way it can be missing, and GPUs and drivers that disappear."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pynvml
import pytest

from kymograph.collect import nvml
from kymograph.collect.batch import Batch
from kymograph.collect.gpu import GPU_FIELDS, GPU_SCHEMA, POWER_SCHEMA
from kymograph.collect.nvml import NvmlCollector
from kymograph.errors import MissingDependency
from tests.unit.collect.fake_nvml import FakeGpu, FakeNvml, full

NOW = 1_795_000_000_000_000
ERRORS = {
    name: getattr(pynvml, f"NVML_ERROR_{name}") for name in ("NOT_SUPPORTED", "UNKNOWN", "GPU_IS_LOST", "TIMEOUT")
}


def collector(*gpus: FakeGpu, interval: int = 1_000_000) -> tuple[NvmlCollector, FakeNvml]:
    api = FakeNvml(*gpus)
    return NvmlCollector(interval, host="box", api=api), api


def rows(batch: Batch, table: str = "gpu_metrics") -> list[dict[str, Any]]:
    data = batch.rows.get(table)
    return [] if data is None else data.to_pylist()


def test_a_gpu_that_supports_everything() -> None:
    recorder, _ = collector(full("GPU-1"))
    recorder.collect(NOW - 1)
    batch = recorder.collect(NOW)
    (row,) = rows(batch)
    assert row.pop("collection_latency_ms") >= 0
    assert batch.rows["gpu_metrics"].schema == GPU_SCHEMA.arrow
    assert row.pop("time").timestamp() * 10**6 == NOW
    for name, value in {"sm_active": 0.88, "sm_occupancy": 0.4, "tensor_active": 0.52, "dram_active": 0.33}.items():
        assert row.pop(name) == pytest.approx(value)
    assert row == {
        "gpu_uuid": "GPU-1",
        "hostname": "box",
        "pci_bus_id": "00000000:01:00.0",
        "name": "NVIDIA Fake 9000",
        "source": "nvml",
        "device_index": 0,
        "gpu_temp": 61.0,
        "memory_temp": 72.0,
        "fan_speed": 45.0,
        "power_usage": 301.5,
        "power_limit": 450.0,
        "energy_mj": 123_456_789_012,
        "sm_clock_mhz": 1980,
        "mem_clock_mhz": 2619,
        "base_clock_mhz": 1590,
        "max_clock_mhz": 2100,
        "boost_active": True,
        "gpu_utilization": 97.0,
        "mem_copy_utilization": 41.0,
        "fb_used_bytes": 20 * 2**30,
        "fb_free_bytes": 60 * 2**30,
        "fb_total_bytes": 80 * 2**30,
        "memory_utilization": 25.0,
        "throttle_reasons": 0x24,
        "ecc_sbe_volatile": 3,
        "ecc_dbe_volatile": 1,
        "ecc_sbe_aggregate": 30,
        "ecc_dbe_aggregate": 10,
        "retired_pages_dbe": 2,
        "pcie_tx_bytes_per_sec": 1_500_000,
        "pcie_rx_bytes_per_sec": 2_500_000,
    }


def test_a_gpu_that_supports_nothing_still_has_a_row() -> None:
    gpu = FakeGpu("GPU-1")
    recorder, _ = collector(gpu)
    batch = recorder.collect(NOW)
    (row,) = rows(batch)
    assert batch.problem == ""
    assert {name for name in GPU_FIELDS if row[name] is not None} == {"device_index", "collection_latency_ms"}
    assert set(batch.rows) == {"gpu_metrics"}
    # what it will never answer is not asked twice
    gpu.asked.clear()
    recorder.collect(NOW + 1)
    assert gpu.asked == []


@pytest.mark.parametrize("error", ["NOT_SUPPORTED", "UNKNOWN", "TIMEOUT"])
def test_each_field_is_missing_by_itself(error: str) -> None:
    template = full("GPU-1")
    for key in template.values:
        if key == ("nvmlDeviceGetDefaultApplicationsClock", pynvml.NVML_CLOCK_SM):
            continue
        gpu = full("GPU-1")
        gpu.values[key] = pynvml.NVMLError(ERRORS[error])
        recorder, _ = collector(gpu)
        recorder.collect(NOW)
        (row,) = rows(recorder.collect(NOW + 1))
        missing = {name for name in GPU_FIELDS if row[name] is None}
        assert len(missing) <= 4, key
        power = key == "nvmlDeviceGetPowerUsage"
        assert missing or power, key


def test_fallbacks() -> None:
    gpu = full("GPU-1")
    gpu.fields.clear()
    del gpu.values["nvmlDeviceGetCurrentClocksEventReasons"]
    gpu.values["nvmlDeviceGetCurrentClocksThrottleReasons"] = 1
    del gpu.values["nvmlDeviceGetDefaultApplicationsClock", pynvml.NVML_CLOCK_SM]
    gpu.values["nvmlDeviceGetClock", pynvml.NVML_CLOCK_SM, pynvml.NVML_CLOCK_ID_APP_CLOCK_DEFAULT] = 2000
    memory = gpu.values.pop(("nvmlDeviceGetMemoryInfo", pynvml.nvmlMemory_v2))
    gpu.values["nvmlDeviceGetMemoryInfo",] = memory
    recorder, _ = collector(gpu)
    (row,) = rows(recorder.collect(NOW))
    assert row["power_usage"] == 290.0
    assert row["memory_temp"] is None
    assert row["throttle_reasons"] == 1
    assert (row["base_clock_mhz"], row["boost_active"]) == (2000, False)
    assert row["memory_utilization"] == 25.0


def test_values_that_mean_none() -> None:
    gpu = full("GPU-1")
    gpu.values["nvmlDeviceGetTotalEnergyConsumption"] = 2**64 - 1
    gpu.values["nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_MEM] = 2**32 - 1
    gpu.fields[pynvml.NVML_FI_DEV_MEMORY_TEMP] = 0
    recorder, _ = collector(gpu)
    (row,) = rows(recorder.collect(NOW))
    assert (row["energy_mj"], row["mem_clock_mhz"], row["memory_temp"]) == (None, None, None)


def test_names_as_bytes_and_names_that_are_not_text() -> None:
    gpu = full("GPU-1")
    gpu.values["nvmlDeviceGetUUID"] = b"GPU-bytes"
    gpu.values["nvmlDeviceGetName"] = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")
    recorder, _ = collector(gpu)
    (row,) = rows(recorder.collect(NOW))
    assert (row["gpu_uuid"], row["name"]) == ("GPU-bytes", "")


def test_every_power_sample_is_recorded_once() -> None:
    gpu = full("GPU-1")
    recorder, _ = collector(gpu, full("GPU-2"))
    first = recorder.collect(NOW).rows["gpu_power"]
    assert first.schema == POWER_SCHEMA.arrow
    assert first.num_rows == 10
    assert first["power"].to_pylist()[:5] == [300.0, 301.0, 302.0, 303.0, 304.0]
    assert first["time"].cast(pa.int64()).to_pylist()[:2] == [NOW, NOW + 20_000]
    assert set(recorder.collect(NOW + 1).rows) == {"gpu_metrics"}
    assert gpu.power is not None
    gpu.power.append((NOW + 100_000, 77_000))
    assert [(row["gpu_uuid"], row["power"]) for row in rows(recorder.collect(NOW + 2), "gpu_power")] == [
        ("GPU-1", 77.0)
    ]
    gpu.power.clear()
    assert set(recorder.collect(NOW + 3).rows) == {"gpu_metrics"}


def test_profiling_needs_two_looks_and_survives_a_failed_one() -> None:
    gpu = full("GPU-1")
    gpu.gpm = {2: 50.0, 3: float("nan")}
    recorder, api = collector(gpu)
    (row,) = rows(recorder.collect(NOW))
    assert row["sm_active"] is None
    (row,) = rows(recorder.collect(NOW))
    assert (row["sm_active"], row["sm_occupancy"], row["tensor_active"]) == (0.5, None, None)
    assert api.open_samples == 2
    recorder.close()
    assert (api.open_samples, api.shutdowns) == (0, 1)


def test_pcie_traffic_is_measured_in_turns() -> None:
    gpus = [full(f"GPU-{each}") for each in range(20)]
    recorder, _ = collector(*gpus)
    counts = []
    for turn in range(8):
        batch = recorder.collect(NOW + turn)
        counts.append(sum(row["pcie_tx_bytes_per_sec"] is not None for row in rows(batch)))
    # 40 ms each: a quarter of a second allows six
    assert set(counts) <= {6, 7}
    per_gpu = [sum(name == "nvmlDeviceGetPcieThroughput" for name, *_ in gpu.asked) for gpu in gpus]
    assert max(per_gpu) - min(per_gpu) <= 2
    quick, _ = collector(full("GPU-1"), interval=100_000)
    seen = [rows(quick.collect(NOW + turn))[0]["pcie_tx_bytes_per_sec"] is not None for turn in range(16)]
    assert 8 <= sum(seen) <= 11


@pytest.mark.parametrize("error", ["GPU_IS_LOST", "UNKNOWN"])
def test_a_lost_gpu_leaves_the_others_alone_and_comes_back(error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(nvml.time, "monotonic", lambda: clock[0])
    gone = full("GPU-1")
    recorder, api = collector(gone, full("GPU-2"))
    assert len(rows(recorder.collect(NOW))) == 2
    gone.lost = ERRORS[error]
    batch = recorder.collect(NOW + 1)
    assert [row["gpu_uuid"] for row in rows(batch)] == ["GPU-2"]
    assert batch.problem.startswith("GPU-1: ")
    clock[0] += 29
    assert recorder.collect(NOW + 2).problem
    assert api.inits == 1
    clock[0] += 2
    batch = recorder.collect(NOW + 3)
    assert api.inits == 2
    assert [row["gpu_uuid"] for row in rows(batch)] == ["GPU-2"]
    assert "GPU-1: " in batch.problem
    gone.lost = 0
    clock[0] += 600
    assert gone.power is not None
    gone.power.append((NOW + 500_000, 1000))
    batch = recorder.collect(NOW + 4)
    assert batch.problem == ""
    assert [row["gpu_uuid"] for row in rows(batch)] == ["GPU-1", "GPU-2"]
    # samples recorded before it was lost are not recorded again
    assert [row["power"] for row in rows(batch, "gpu_power")] == [1.0]
    assert api.open_samples == 4


def test_a_gpu_that_is_unplugged_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(nvml.time, "monotonic", lambda: clock[0])
    recorder, api = collector(full("GPU-1"), full("GPU-2"))
    recorder.collect(NOW)
    unplugged = api.gpus.pop()
    unplugged.lost = ERRORS["GPU_IS_LOST"]
    recorder.collect(NOW + 1)
    clock[0] += 31
    batch = recorder.collect(NOW + 2)
    assert batch.problem == "GPU-2: not found by the driver"
    assert len(rows(batch)) == 1


def test_one_of_two_cannot_be_opened() -> None:
    bad = full("GPU-1")
    bad.lost = ERRORS["UNKNOWN"]
    recorder, _ = collector(bad, full("GPU-2"))
    batch = recorder.collect(NOW)
    assert [row["device_index"] for row in rows(batch)] == [1]
    assert batch.problem.startswith("GPU 0: ")


@pytest.mark.parametrize(
    "error", ["LIBRARY_NOT_FOUND", "DRIVER_NOT_LOADED", "NO_PERMISSION", "LIB_RM_VERSION_MISMATCH"]
)
def test_no_driver_is_no_failure(error: str) -> None:
    recorder, api = collector(full("GPU-1"))
    api.fail_init = getattr(pynvml, f"NVML_ERROR_{error}")
    with pytest.raises(MissingDependency, match="no NVIDIA driver"):
        recorder.collect(NOW)
    api.fail_init = 0
    assert len(rows(recorder.collect(NOW))) == 1


def test_a_driver_without_gpus() -> None:
    recorder, api = collector()
    with pytest.raises(MissingDependency, match="finds no GPU"):
        recorder.collect(NOW)
    assert api.inits == api.shutdowns == 1


def test_a_driver_that_is_unloaded_and_comes_back() -> None:
    recorder, api = collector(full("GPU-1"))
    recorder.collect(NOW)
    api.dead = pynvml.NVML_ERROR_UNINITIALIZED
    with pytest.raises(MissingDependency):
        recorder.collect(NOW + 1)
    with pytest.raises(MissingDependency):
        recorder.collect(NOW + 2)
    api.dead = 0
    assert len(rows(recorder.collect(NOW + 3))) == 1
    assert api.inits == api.shutdowns + 1


def test_the_bindings_are_loaded_only_when_asked_for() -> None:
    """On a machine without them everything else must work."""
    code = "import sys; import kymograph.collect.nvml, kymograph.collect.supervisor; print('pynvml' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


def test_the_real_driver() -> None:
    recorder = NvmlCollector(host="here")
    now = time.time_ns() // 1000
    try:
        recorder.collect(now)
    except MissingDependency as absent:
        recorder.close()
        pytest.skip(str(absent))
    time.sleep(0.3)
    batch = recorder.collect(now + 300_000)
    recorder.close()
    for row in rows(batch):
        assert row["gpu_uuid"].startswith(("GPU-", "MIG-"))
        assert row["gpu_temp"] is None or 0 < row["gpu_temp"] < 120
        assert row["power_usage"] is None or 0 < row["power_usage"] < 2500
        assert row["fb_total_bytes"] is None or row["fb_total_bytes"] > 2**28
        assert row["sm_active"] is None or 0 <= row["sm_active"] <= 1
    for row in rows(batch, "gpu_power"):
        assert abs(row["time"].timestamp() * 1e6 - now) < 3600 * 1e6


def test_the_binary_interface_of_the_driver(tmp_path: Path) -> None:
    """The real bindings over a small library with the driver's binary interface."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("there is no C compiler to build the stand-in for the driver")
    source = Path(__file__).with_name("fake_driver.c")
    library = tmp_path / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True, timeout=60)
    code = (
        "import json; from kymograph.collect.nvml import NvmlCollector; c = NvmlCollector(host='h');"
        f"c.collect({NOW} - 1); again = c.collect({NOW}); c.close(); c.close();"
        "print(json.dumps([again.rows['gpu_metrics'].drop(['time']).to_pylist(), sorted(again.rows), again.problem]))"
    )
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    (row,), tables, problem = json.loads(done.stdout)
    # its four power samples came in the first turn
    assert (tables, problem) == (["gpu_metrics"], "")
    known = {name: value for name, value in row.items() if value is not None}
    assert known.pop("collection_latency_ms") > 0
    fractions = {"sm_active": 0.02, "sm_occupancy": 0.03, "tensor_active": 0.05, "dram_active": 0.10}
    for name, fraction in fractions.items():
        assert known.pop(name) == pytest.approx(fraction)
    assert known == {
        "gpu_uuid": "GPU-c0ffee",
        "hostname": "h",
        "pci_bus_id": "00000000:65:00.0",
        "name": "NVIDIA Invented",
        "source": "nvml",
        "device_index": 0,
        "gpu_temp": 55.0,
        "power_usage": 222.5,
        "power_limit": 350.0,
        "energy_mj": 5_000_000_000,
        "sm_clock_mhz": 1410,
        "mem_clock_mhz": 1215,
        "base_clock_mhz": 1095,
        "boost_active": True,
        "gpu_utilization": 90.0,
        "mem_copy_utilization": 30.0,
        "fb_used_bytes": 10 * 2**30,
        "fb_free_bytes": 29 * 2**30,
        "fb_total_bytes": 40 * 2**30,
        "memory_utilization": 25.0,
        "throttle_reasons": 4,
        "ecc_sbe_volatile": 0,
        "ecc_sbe_aggregate": 1,
        "ecc_dbe_volatile": 10,
        "ecc_dbe_aggregate": 11,
        "retired_pages_dbe": 3,
        "pcie_tx_bytes_per_sec": 7000,
        "pcie_rx_bytes_per_sec": 8000,
    }
