"""The tables of GPU telemetry, the same for real and simulated GPUs."""

from __future__ import annotations

from kymograph.model.schema import TableSchema, table_schema

# `source` says who wrote the row: "nvml" or "simulated". Rows without a meaning on a GPU are null.
GPU_LABELS = ("gpu_uuid", "hostname", "pci_bus_id", "name", "source")

GPU_FIELDS = {
    "device_index": "int32",
    "gpu_temp": "float32",  # °C
    "memory_temp": "float32",  # °C
    "fan_speed": "float32",  # percent of full speed
    "power_usage": "float32",  # W, instant where the driver has it
    "power_limit": "float32",  # W, enforced
    "energy_mj": "int64",  # mJ since the driver was loaded; a counter
    "sm_clock_mhz": "int32",
    "mem_clock_mhz": "int32",
    "base_clock_mhz": "int32",
    "max_clock_mhz": "int32",
    "boost_active": "bool",  # SM clock above its base
    "gpu_utilization": "float32",  # percent of time a kernel ran
    "mem_copy_utilization": "float32",  # percent of time memory was read or written
    "fb_used_bytes": "int64",
    "fb_free_bytes": "int64",
    "fb_total_bytes": "int64",
    "memory_utilization": "float32",  # percent of the framebuffer in use
    "throttle_reasons": "int64",  # bit mask, NVML's clocks event reasons
    "ecc_sbe_volatile": "int64",  # corrected errors since the driver was loaded; a counter
    "ecc_dbe_volatile": "int64",  # uncorrected
    "ecc_sbe_aggregate": "int64",  # over the life of the board
    "ecc_dbe_aggregate": "int64",
    "retired_pages_dbe": "int64",
    "pcie_tx_bytes_per_sec": "int64",
    "pcie_rx_bytes_per_sec": "int64",
    "sm_active": "float32",  # fraction 0…1 of cycles with a warp, mean of SMs
    "sm_occupancy": "float32",  # fraction of the resident warps an SM could hold
    "tensor_active": "float32",  # fraction of cycles a tensor pipe was busy
    "dram_active": "float32",  # fraction of the memory bandwidth in use
    "collection_latency_ms": "float32",  # what reading this row took
}

GPU_SCHEMA: TableSchema = table_schema("gpu_metrics", GPU_LABELS, GPU_FIELDS)

# Every sample of the driver's own power buffer, W, at the driver's rate (10 Hz and more).
POWER_SCHEMA: TableSchema = table_schema("gpu_power", ("gpu_uuid", "hostname"), {"power": "float32"})

# Bits of throttle_reasons: NVML's nvmlClocksEventReason… constants, fixed in its interface.
REASON_IDLE = 0x1
REASON_POWER_CAP = 0x4
REASON_HW_SLOWDOWN = 0x8
REASON_SW_THERMAL = 0x20
REASON_HW_THERMAL = 0x40
