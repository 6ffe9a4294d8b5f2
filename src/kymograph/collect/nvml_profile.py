"""GPM, the profiling counters of Hopper and later: how busy the parts of a GPU were between two looks."""

from __future__ import annotations

import contextlib
import math
from typing import Any

from kymograph.collect.nvml_ask import Questions, check_gone

# column: name of NVML's metric id; the metrics are percentages, the columns fractions
_METRICS = {
    "sm_active": "NVML_GPM_METRIC_SM_UTIL",
    "sm_occupancy": "NVML_GPM_METRIC_SM_OCCUPANCY",
    "tensor_active": "NVML_GPM_METRIC_ANY_TENSOR_UTIL",
    "dram_active": "NVML_GPM_METRIC_DRAM_BW_UTIL",
}


class Profile:
    """Two driver-side samples of one GPU, filled in turn; it owns them until `close`.

    On a GPU without GPM every read is empty.
    """

    def __init__(self, questions: Questions) -> None:
        self._api = questions.api
        self._questions = questions
        self._samples: list[Any] = []
        self._filled = False
        support = questions.ask("nvmlGpmQueryDeviceSupport")
        if support is not None and support.isSupportedDevice:
            with contextlib.suppress(self._api.NVMLError):
                self._samples = [self._api.nvmlGpmSampleAlloc(), self._api.nvmlGpmSampleAlloc()]

    def read(self) -> dict[str, float]:
        """Fractions 0…1 since the read before, those that there are; the first read is empty."""
        if not self._samples:
            return {}
        before, fresh = self._samples
        if self._questions.ask("nvmlGpmSampleGet", fresh) is None:
            self._filled = False
            return {}
        values = self._between(before, fresh) if self._filled else {}
        self._samples, self._filled = [fresh, before], True
        return values

    def close(self) -> None:
        for sample in self._samples:
            with contextlib.suppress(self._api.NVMLError):
                self._api.nvmlGpmSampleFree(sample)
        self._samples = []

    def _between(self, before: Any, fresh: Any) -> dict[str, float]:
        request = self._api.c_nvmlGpmMetricsGet_t()
        request.version = self._api.NVML_GPM_METRICS_GET_VERSION
        request.numMetrics = len(_METRICS)
        request.sample1, request.sample2 = before, fresh
        for position, metric in enumerate(_METRICS.values()):
            request.metrics[position].metricId = getattr(self._api, metric)
        try:
            self._api.nvmlGpmMetricsGet(request)
        except self._api.NVMLError as problem:
            check_gone(problem)
            return {}
        values = {}
        for position, column in enumerate(_METRICS):
            metric = request.metrics[position]
            if metric.nvmlReturn == 0 and math.isfinite(metric.value):
                values[column] = metric.value / 100
        return values
