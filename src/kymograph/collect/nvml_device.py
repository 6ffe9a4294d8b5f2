"""One NVIDIA GPU: its fixed facts, a row of its state, and the power samples its driver kept."""

from __future__ import annotations

import time
from typing import Any

from kymograph.collect.gpu import GPU_FIELDS
from kymograph.collect.nvml_ask import Questions, member
from kymograph.collect.nvml_profile import Profile
from kymograph.errors import NotFound

# what the largest value of a column's type is; drivers say "none" with values beyond
_MOST = {"int32": 2**31 - 1, "int64": 2**63 - 1}
# Retired pages are read from the board's memory, which is slow, and hardly ever change.
_PAGES_EVERY = 60.0


class Device:
    """A GPU by its handle, from when it was found until it is lost or closed."""

    def __init__(self, api: Any, handle: Any, index: int, *, power_seen: int = 0) -> None:
        """`power_seen`: driver's time, µs, of the last power sample that was already recorded.

        Raises:
            NotFound: the GPU is lost, or has no identity.
        """
        self._q = Questions(api, handle)
        self._api = api
        self._index = index
        self.uuid = _text(self._q.ask("nvmlDeviceGetUUID"))
        if not self.uuid:
            raise NotFound(f"GPU {index} does not tell its UUID")
        self.name = _text(self._q.ask("nvmlDeviceGetName"))
        bus = self._q.ask("nvmlDeviceGetPciInfo")
        self.bus = _text(bus.busId) if bus is not None else ""
        self.power_seen = power_seen
        ask = self._q.ask
        self._base = ask("nvmlDeviceGetDefaultApplicationsClock", api.NVML_CLOCK_SM) or ask(
            "nvmlDeviceGetClock", api.NVML_CLOCK_SM, api.NVML_CLOCK_ID_APP_CLOCK_DEFAULT
        )
        self._most = ask("nvmlDeviceGetMaxClockInfo", api.NVML_CLOCK_SM)
        self._pages: int | None = None
        self._pages_read = float("-inf")
        # last, because it holds memory of the driver
        self._profile = Profile(self._q)

    def close(self) -> None:
        self._profile.close()

    def read(self, *, pcie: bool) -> dict[str, Any]:
        """The fields of a `gpu_metrics` row; what the GPU does not support is None.

        Args:
            pcie: also measure PCIe traffic, for which the driver listens 20 ms in each direction.

        Raises:
            NotFound: the GPU is lost.
            MissingDependency: the driver is.
        """
        began = time.perf_counter()
        self._q.answered = self._q.failed = 0
        row: dict[str, Any] = {"device_index": self._index}
        row |= self._sensors() | self._clocks() | self._memory() | self._errors()
        if self._q.failed and not self._q.answered:
            raise NotFound("no question is answered any more")
        row |= self._profile.read()
        if pcie:
            row |= self._traffic()
        row["collection_latency_ms"] = (time.perf_counter() - began) * 1000
        return {field: _fitting(row.get(field), kind) for field, kind in GPU_FIELDS.items()}

    def power_samples(self) -> list[tuple[int, float]]:
        """(µs since the epoch by the driver's clock, W) of each sample not given before, ascending."""
        found = self._q.ask("nvmlDeviceGetSamples", self._api.NVML_TOTAL_POWER_SAMPLES, self.power_seen)
        if found is None:
            return []
        kind, samples = found
        watts: dict[int, float] = {}
        for sample in samples:
            milliwatts = member(sample.sampleValue, kind)
            # the driver repeats the last one given, and pads with zeros
            if milliwatts is not None and sample.timeStamp > self.power_seen:
                watts[int(sample.timeStamp)] = milliwatts / 1000
        self.power_seen = max(watts, default=self.power_seen)
        return sorted(watts.items())

    def _sensors(self) -> dict[str, Any]:
        ask, api = self._q.ask, self._api
        memory_temp, instant = self._q.fields(api.NVML_FI_DEV_MEMORY_TEMP, api.NVML_FI_DEV_POWER_INSTANT)
        milliwatts = instant if instant is not None else ask("nvmlDeviceGetPowerUsage")
        usage = ask("nvmlDeviceGetUtilizationRates")
        return {
            "gpu_temp": ask("nvmlDeviceGetTemperature", api.NVML_TEMPERATURE_GPU),
            # boards without the sensor answer 0
            "memory_temp": memory_temp or None,
            "fan_speed": ask("nvmlDeviceGetFanSpeed"),
            "power_usage": _thousandth(milliwatts),
            "power_limit": _thousandth(ask("nvmlDeviceGetEnforcedPowerLimit")),
            "energy_mj": ask("nvmlDeviceGetTotalEnergyConsumption"),
            "gpu_utilization": getattr(usage, "gpu", None),
            "mem_copy_utilization": getattr(usage, "memory", None),
        }

    def _clocks(self) -> dict[str, Any]:
        ask, api = self._q.ask, self._api
        clock = ask("nvmlDeviceGetClockInfo", api.NVML_CLOCK_SM)
        reasons = ask("nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:
            # the name before driver 535
            reasons = ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return {
            "sm_clock_mhz": clock,
            "mem_clock_mhz": ask("nvmlDeviceGetClockInfo", api.NVML_CLOCK_MEM),
            "base_clock_mhz": self._base,
            "max_clock_mhz": self._most,
            "boost_active": None if clock is None or not self._base else clock > self._base,
            "throttle_reasons": reasons,
        }

    def _memory(self) -> dict[str, Any]:
        # version 2 does not count what the driver keeps for itself as used, like nvidia-smi
        version = getattr(self._api, "nvmlMemory_v2", None)
        memory = self._q.ask("nvmlDeviceGetMemoryInfo", version) if version else None
        if memory is None:
            memory = self._q.ask("nvmlDeviceGetMemoryInfo")
        if memory is None:
            return {}
        return {
            "fb_used_bytes": memory.used,
            "fb_free_bytes": memory.free,
            "fb_total_bytes": memory.total,
            "memory_utilization": 100 * memory.used / memory.total if memory.total else None,
        }

    def _errors(self) -> dict[str, Any]:
        ask, api = self._q.ask, self._api
        row = {}
        for size, error in (
            ("sbe", api.NVML_MEMORY_ERROR_TYPE_CORRECTED),
            ("dbe", api.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
        ):
            row[f"ecc_{size}_volatile"] = ask("nvmlDeviceGetTotalEccErrors", error, api.NVML_VOLATILE_ECC)
            row[f"ecc_{size}_aggregate"] = ask("nvmlDeviceGetTotalEccErrors", error, api.NVML_AGGREGATE_ECC)
        now = time.monotonic()
        if now - self._pages_read >= _PAGES_EVERY:
            pages = ask("nvmlDeviceGetRetiredPages", api.NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR)
            self._pages = None if pages is None else len(pages)
            self._pages_read = now
        row["retired_pages_dbe"] = self._pages
        return row

    def _traffic(self) -> dict[str, Any]:
        ask, api = self._q.ask, self._api
        sent = ask("nvmlDeviceGetPcieThroughput", api.NVML_PCIE_UTIL_TX_BYTES)
        received = ask("nvmlDeviceGetPcieThroughput", api.NVML_PCIE_UTIL_RX_BYTES)
        # the driver's unit is KB/s
        return {
            "pcie_tx_bytes_per_sec": None if sent is None else sent * 1000,
            "pcie_rx_bytes_per_sec": None if received is None else received * 1000,
        }


def _text(value: Any) -> str:
    # older bindings return bytes
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


def _thousandth(value: Any) -> float | None:
    return None if value is None else value / 1000


def _fitting(value: Any, kind: str) -> Any:
    """`value`, or None where it is a driver's way to say that there is none."""
    if value is None or kind not in _MOST:
        return value
    return int(value) if 0 <= value <= _MOST[kind] else None
