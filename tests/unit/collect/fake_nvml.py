"""NVML without a driver: real constants, structures and errors of the bindings, invented GPUs."""

# ruff: noqa: N802 - NVML's own function names

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml

WATT = 1000


@dataclass
class FakeGpu:
    """What one GPU answers. `values` by function name (and arguments); a number above 10**6 is fine, an
    NVMLError is raised."""

    uuid: str
    bus: str = "00000000:01:00.0"
    name: str = "NVIDIA Fake 9000"
    values: dict[Any, Any] = field(default_factory=dict)
    fields: dict[int, Any] = field(default_factory=dict)
    power: list[tuple[int, int]] | None = None
    gpm: dict[int, float] | None = None
    lost: int = 0
    asked: list[Any] = field(default_factory=list)


class FakeNvml:
    """Stands in for the module pynvml; `gpus` may change between turns."""

    def __init__(self, *gpus: FakeGpu) -> None:
        self.gpus = list(gpus)
        self.fail_init = 0
        self.dead = 0
        self.inits = self.shutdowns = 0
        self.open_samples = 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("nvmlDeviceGet"):
            return lambda handle, *arguments: self._ask(handle, name, *arguments)
        if name.startswith(("NVML", "c_nvml", "nvmlMemory")):
            return getattr(pynvml, name)
        raise AttributeError(name)

    def nvmlInit(self) -> None:
        self._check(self.fail_init)
        self.inits += 1

    def nvmlShutdown(self) -> None:
        self.shutdowns += 1

    def nvmlDeviceGetCount(self) -> int:
        self._check(self.dead)
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        self._check(self.gpus[index].lost)
        return self.gpus[index]

    def nvmlDeviceGetFieldValues(self, gpu: FakeGpu, ids: list[int]) -> list[Any]:
        self._ask(gpu, "nvmlDeviceGetFieldValues", *ids, default=0)
        answer = []
        for wanted in ids:
            value = gpu.fields.get(wanted, pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED))
            entry = pynvml.c_nvmlFieldValue_t()
            entry.fieldId = wanted
            if isinstance(value, pynvml.NVMLError):
                entry.nvmlReturn = value.value
            else:
                entry.valueType = pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
                entry.value.uiVal = value
            answer.append(entry)
        return answer

    def nvmlDeviceGetSamples(self, gpu: FakeGpu, kind: int, since: int) -> tuple[int, list[Any]]:
        self._ask(gpu, "nvmlDeviceGetSamples", kind, since, default=None if gpu.power is None else 0)
        if not gpu.power:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        samples = []
        # like a real driver: the last sample given comes again, and the buffer is padded
        for at, milliwatts in [*((at, mw) for at, mw in gpu.power if at >= since), (0, 0)]:
            sample = pynvml.c_nvmlSample_t()
            sample.timeStamp = at
            sample.sampleValue.uiVal = milliwatts
            samples.append(sample)
        return pynvml.NVML_VALUE_TYPE_UNSIGNED_INT, samples

    def nvmlGpmQueryDeviceSupport(self, gpu: FakeGpu) -> Any:
        return SimpleNamespace(isSupportedDevice=int(gpu.gpm is not None))

    def nvmlGpmSampleAlloc(self) -> Any:
        self.open_samples += 1
        return pynvml.c_nvmlGpmSample_t()

    def nvmlGpmSampleFree(self, sample: Any) -> None:
        self.open_samples -= 1

    def nvmlGpmSampleGet(self, gpu: FakeGpu, sample: Any) -> Any:
        self._check(gpu.lost)
        self._profiled = gpu.gpm
        return sample

    def nvmlGpmMetricsGet(self, request: Any) -> Any:
        assert request.version == pynvml.NVML_GPM_METRICS_GET_VERSION
        for metric in request.metrics[: request.numMetrics]:
            value = (self._profiled or {}).get(metric.metricId)
            metric.nvmlReturn = 0 if value is not None else pynvml.NVML_ERROR_NOT_SUPPORTED
            metric.value = value or 0.0
        return request

    def _ask(self, gpu: FakeGpu, name: str, *arguments: Any, default: Any = None) -> Any:
        self._check(self.dead)
        self._check(gpu.lost)
        gpu.asked.append((name, *arguments))
        known = {"nvmlDeviceGetUUID": gpu.uuid, "nvmlDeviceGetName": gpu.name}
        known["nvmlDeviceGetPciInfo"] = SimpleNamespace(busId=gpu.bus)
        for key in ((name, *arguments), name):
            if key in gpu.values:
                value = gpu.values[key]
                break
        else:
            value = known.get(name, default)
        if value is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        if isinstance(value, Exception):
            raise value
        return value() if isinstance(value, Callable) else value  # type: ignore[arg-type]

    @staticmethod
    def _check(error: int) -> None:
        if error:
            raise pynvml.NVMLError(error)


def full(uuid: str, bus: str = "00000000:01:00.0") -> FakeGpu:
    """A GPU that supports everything."""
    p = pynvml
    gib = 2**30
    return FakeGpu(
        uuid,
        bus,
        values={
            ("nvmlDeviceGetTemperature", p.NVML_TEMPERATURE_GPU): 61,
            "nvmlDeviceGetFanSpeed": 45,
            "nvmlDeviceGetPowerUsage": 290 * WATT,
            "nvmlDeviceGetEnforcedPowerLimit": 450 * WATT,
            "nvmlDeviceGetTotalEnergyConsumption": 123_456_789_012,
            ("nvmlDeviceGetClockInfo", p.NVML_CLOCK_SM): 1980,
            ("nvmlDeviceGetClockInfo", p.NVML_CLOCK_MEM): 2619,
            ("nvmlDeviceGetDefaultApplicationsClock", p.NVML_CLOCK_SM): 1590,
            ("nvmlDeviceGetMaxClockInfo", p.NVML_CLOCK_SM): 2100,
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=97, memory=41),
            ("nvmlDeviceGetMemoryInfo", p.nvmlMemory_v2): SimpleNamespace(used=20 * gib, free=60 * gib, total=80 * gib),
            "nvmlDeviceGetCurrentClocksEventReasons": 0x24,
            ("nvmlDeviceGetTotalEccErrors", 0, 0): 3,
            ("nvmlDeviceGetTotalEccErrors", 1, 0): 1,
            ("nvmlDeviceGetTotalEccErrors", 0, 1): 30,
            ("nvmlDeviceGetTotalEccErrors", 1, 1): 10,
            "nvmlDeviceGetRetiredPages": [0x1000, 0x2000],
            ("nvmlDeviceGetPcieThroughput", p.NVML_PCIE_UTIL_TX_BYTES): 1500,
            ("nvmlDeviceGetPcieThroughput", p.NVML_PCIE_UTIL_RX_BYTES): 2500,
        },
        fields={p.NVML_FI_DEV_MEMORY_TEMP: 72, p.NVML_FI_DEV_POWER_INSTANT: 301_500},
        power=[(1_795_000_000_000_000 + 20_000 * each, (300 + each) * WATT) for each in range(5)],
        gpm={2: 88.0, 3: 40.0, 5: 52.0, 10: 33.0},
    )
