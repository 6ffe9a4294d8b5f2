"""VictoriaMetrics, the Debian package, over its HTTP interface on the loopback address."""

from __future__ import annotations

import json
import math
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bench.child import peak_rss
from bench.data.fleet import SCORES, TABLE
from bench.peers import Data, Ingested, fields_of, labels_of, read, schema_of

PROGRAM = "victoria-metrics"
_MINUTE = 60.0


class Server:
    """One VictoriaMetrics process on a free port, stopped when the block ends."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.url = f"http://{address}"
        command = [PROGRAM, f"-storageDataPath={folder}", f"-httpListenAddr={address}", "-retentionPeriod=100y"]
        command += ["-search.maxPointsPerTimeseries=1000000", "-loggerLevel=ERROR", "-search.disableCache"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                self.call("/health")
                return
            except OSError:
                time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"{PROGRAM} did not start")

    def call(self, path: str, body: bytes | None = None, query: Mapping[str, str] | None = None) -> bytes:
        url = f"{self.url}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=300) as answer:
            found: bytes = answer.read()
        return found

    def peak_rss(self) -> int:
        return peak_rss(self._process.pid)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)


class VictoriaMetrics:
    """Influx lines, one request per batch; the clock leaves out the making of the lines."""

    name = "VictoriaMetrics"

    @staticmethod
    def missing() -> str:
        return "" if shutil.which(PROGRAM) else f"{PROGRAM} is not installed (Debian: apt install victoria-metrics)"

    def ingest(self, folder: Path, data: Data) -> Ingested:
        server, rows, marks, seconds = Server(folder), 0, [], 0.0
        first = next(iter(data))
        try:
            for table, files in data.items():
                for file in files:
                    for batch in read(file):
                        seconds += _post(server, _lines(table, batch))
                        rows += batch.num_rows if table == first else 0
                    marks.append(seconds)
            peak = server.peak_rss()
            start = time.perf_counter()
        finally:
            server.stop()
        seconds += time.perf_counter() - start
        _merge(folder)
        width = len(fields_of(schema_of(data[first])))
        return Ingested(rows, rows * width, seconds, marks[: len(data[first])], peak)

    def open(self, folder: Path) -> VictoriaSession:
        return VictoriaSession(folder)


def _merge(folder: Path) -> None:
    """Merge all parts, off the clock; a stopped server has written everything, so this only makes the disk smaller."""
    server = Server(folder)
    try:
        server.call("/internal/force_merge")
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            time.sleep(0.5)
            active = re.findall(r"vm_active_(?:force_)?merges(?:{[^}]*})? ([0-9.]+)", server.call("/metrics").decode())
            if not any(float(count) for count in active):
                return
    finally:
        server.stop()


def _post(server: Server, body: bytes) -> float:
    start = time.perf_counter()
    server.call("/write", body, {"precision": "ms"})
    return time.perf_counter() - start


def _lines(table: str, batch: pa.RecordBatch) -> bytes:
    parts: list[Any] = [table]
    for label in labels_of(batch.schema):
        parts += [f",{label}=", batch[label].dictionary_decode()]
    for i, name in enumerate(fields_of(batch.schema)):
        parts += [f"{',' if i else ' '}{name}=", batch[name].cast(pa.string())]
    parts += [" ", pc.divide(batch["time"].cast(pa.int64()), 1000).cast(pa.string()), "\n"]
    text = pc.binary_join_element_wise(*parts, "")
    return "".join(text.to_pylist()).encode()


class VictoriaSession:
    """MetricsQL. Windows there are left-open, so each is evaluated one millisecond before its bucket ends."""

    def __init__(self, folder: Path) -> None:
        self._server = Server(folder)

    def close(self) -> None:
        self._server.stop()

    def ask(self, question: str, params: Mapping[str, Any]) -> pa.Table | None:
        ask = getattr(self, f"_{question}", None)
        found: pa.Table | None = ask(params) if ask else None
        return found

    def _instant(self, query: str, at: float) -> list[dict[str, Any]]:
        args = {"query": query, "time": f"{at:.3f}", "nocache": "1"}
        answer = json.loads(self._server.call("/api/v1/query", query=args))
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def _buckets(self, query: str, width: float, first: float, last: float) -> list[dict[str, Any]]:
        """One value per bucket of `width` seconds whose ends lie in first … last; times are the buckets' starts."""
        args = {"query": query, "start": f"{first - 0.001:.3f}", "end": f"{last - 0.001:.3f}", "nocache": "1"}
        answer = json.loads(self._server.call("/api/v1/query_range", query=args | {"step": f"{width:.0f}s"}))
        found: list[dict[str, Any]] = answer["data"]["result"]
        for one in found:
            one["values"] = [(round(float(t) + 0.001 - width) * 10**6, float(v)) for t, v in one["values"]]
        return found

    def _latest100(self, params: Mapping[str, Any]) -> pa.Table:
        end = params["end"].timestamp()
        found = self._instant(f'{{gpu_uuid="{params["gpu"]}",__name__=~"{TABLE}_.*"}}[1000s]', end - 0.001)
        columns = {one["metric"]["__name__"].removeprefix(f"{TABLE}_"): one["values"] for one in found}
        table = {name: [float(v) for _, v in values] for name, values in columns.items()}
        times = [round(float(t) * 1000) * 1000 for t, _ in next(iter(columns.values()))]
        return pa.table({"time": times, **table})

    def _trend(self, params: Mapping[str, Any]) -> pa.Table:
        series = f'{TABLE}_gpu_temp{{gpu_uuid="{params["gpu"]}"}}[5m]'
        first, last = params["start"].timestamp() + 5 * _MINUTE, params["end"].timestamp()
        answers = {}
        for column, function in (("mean", "avg"), ("top", "max"), ("spread", "stddev")):
            found = self._buckets(f"{function}_over_time({series})", 5 * _MINUTE, first, last)
            answers["bucket"] = [t for t, _ in found[0]["values"]]
            answers[column] = [v for _, v in found[0]["values"]]
        # its deviation divides by n, SQL's by n - 1; a bucket has 30 rows
        answers["spread"] = [v * math.sqrt(30 / 29) for v in answers["spread"]]
        return pa.table(answers)

    def _fleet5m(self, params: Mapping[str, Any]) -> pa.Table:
        temperature, end = f"{TABLE}_gpu_temp[5m]", params["end"].timestamp() - 0.001
        throttle = f"max_over_time(bitmap_and({TABLE}_throttle_reasons, 232)[5m:10s])"
        queries = {
            "gpus": f"count(last_over_time({temperature}))",
            "mean": f"sum(sum_over_time({temperature})) / sum(count_over_time({temperature}))",
            "top": f"max(max_over_time({temperature}))",
            "throttling": f"count({throttle} > 0) or vector(0)",
            "failing": f"count(max_over_time({TABLE}_ecc_dbe_volatile[5m]) > 0) or vector(0)",
        }
        return pa.table({name: [float(self._instant(q, end)[0]["value"][1])] for name, q in queries.items()})

    def _spike(self, params: Mapping[str, Any]) -> pa.Table:
        mean = f"avg_over_time({TABLE}_gpu_temp[5m])"
        first, last = params["hour"].timestamp() + 10 * _MINUTE, params["end"].timestamp()
        query = f"({mean} - (avg_over_time({TABLE}_gpu_temp[5m] offset 5m))) > 15"
        return _flat(self._buckets(query, 5 * _MINUTE, first, last), "bucket", "jump")

    def _efficiency(self, params: Mapping[str, Any]) -> pa.Table:
        query = f"avg_over_time({TABLE}_gpu_utilization[15m]) / avg_over_time({TABLE}_power_usage[15m])"
        first, last = params["start"].timestamp() + 15 * _MINUTE, params["end"].timestamp()
        return _flat(self._buckets(query, 15 * _MINUTE, first, last), "bucket", "per_watt")

    def _ecc_span(self, params: Mapping[str, Any]) -> pa.Table:
        series = f"{TABLE}_ecc_sbe_volatile[1h]"
        first, last = params["start"].timestamp() + 60 * _MINUTE, params["end"].timestamp()
        query = f"max_over_time({series}) - min_over_time({series})"
        return _flat(self._buckets(query, 60 * _MINUTE, first, last), "hour", "errors")

    def _worst10(self, params: Mapping[str, Any]) -> pa.Table:
        found = self._instant(f"bottomk(10, last_over_time({SCORES}_score[15m]))", params["end"].timestamp() - 0.001)
        return pa.table(
            {
                "gpu_uuid": [one["metric"]["gpu_uuid"] for one in found],
                "score": [float(one["value"][1]) for one in found],
            }
        )


def _flat(found: list[dict[str, Any]], time_name: str, value_name: str) -> pa.Table:
    rows = [(one["metric"]["gpu_uuid"], t, v) for one in found for t, v in one["values"]]
    names = ("gpu_uuid", time_name, value_name)
    return pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)})
