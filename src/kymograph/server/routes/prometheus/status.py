"""/api/v1/status: the server in the terms that clients of Prometheus ask about."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response

from kymograph._version import __version__
from kymograph.engine.interface import TableStatistics
from kymograph.model.schema import SAMPLES
from kymograph.model.time import isoformat
from kymograph.server.routes.prometheus.answers import asked, given, store_of
from kymograph.server.routes.prometheus.parameters import Parameters, flags
from kymograph.server.state import ServerState
from kymograph.store.store import Store

# the version of Prometheus whose API and language these are; clients choose by it what they ask for
SPOKEN = "3.0.0"
_TOP = 10


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(prefix="/api/v1/status", tags=["prometheus"])

    @routes.get("/buildinfo", summary="Which Prometheus this speaks like")
    async def build(request: Request) -> Response:
        return given(
            request,
            {
                "version": SPOKEN,
                "revision": f"kymograph-{__version__}",
                "branch": "kymograph",
                "buildUser": "",
                "buildDate": "",
                "goVersion": "",
            },
        )

    @routes.get("/runtimeinfo", summary="The running process")
    async def runtime(request: Request) -> Response:
        started = isoformat(int(state.started * 1e6))
        cores = os.cpu_count() or 1
        options = await state.light.run(lambda: store_of(state, request).options)
        return given(
            request,
            {
                "startTime": started,
                "CWD": os.getcwd(),
                "hostname": platform.node(),
                "serverTime": isoformat(time.time_ns() // 1000),
                "reloadConfigSuccess": not (state.rules and state.rules.failure),
                "lastConfigTime": isoformat(int(state.rules.read * 1e6)) if state.rules else started,
                "corruptionCount": 0,
                "goroutineCount": threading.active_count(),
                "GOMAXPROCS": cores,
                "GOMEMLIMIT": 0,
                "GOGC": "",
                "GODEBUG": "",
                "storageRetention": _retention(options.age, options.cap),
            },
        )

    @routes.get("/flags", summary="Settings of the store and limits of the server")
    async def settings(request: Request) -> Response:
        options = await state.light.run(lambda: store_of(state, request).options)
        about = {"storage.path": state.slot.path, **{f"store.{k}": v for k, v in asdict(options).items()}}
        about |= {f"limits.{name}": value for name, value in asdict(state.limits).items()}
        return given(request, flags({name.replace("_", "-"): value for name, value in about.items()}))

    @routes.get("/config", summary="The configuration as YAML: what is scraped")
    async def config(request: Request) -> Response:
        health = state.supervisor.health() if state.supervisor is not None else []
        return given(request, {"yaml": _yaml([each for each in health if each["name"].startswith("scrape ")])})

    @routes.get("/tsdb", summary="Series and labels in numbers")
    async def tsdb(request: Request) -> Response:
        most = (await Parameters.of(request)).count("limit") or _TOP
        return await asked(state, request, lambda _: given(request, _numbers(store_of(state, request), most)))

    return routes


def _retention(age: int | None, cap: int | None) -> str:
    parts = [] if age is None else [f"{age // 10**6}s"]
    parts += [] if cap is None else [f"{cap // 10**6}MB"]
    return " or ".join(parts)


def _yaml(targets: Iterable[dict[str, Any]]) -> str:
    lines = ["global:", "  scrape_interval: 1s", "scrape_configs:"]
    for target in targets:
        name = target["name"].removeprefix("scrape ")
        lines += [f"- job_name: '{name}'", f"  scrape_interval: {target['interval_s']:g}s"]
    return "\n".join(lines) + "\n"


def _numbers(store: Store, most: int) -> dict[str, Any]:
    engine = store.engine
    names: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    for name, labels in engine.series().values():
        names[name] += 1
        pairs[("__name__", name)] += 1
        pairs.update(labels.items())
    values: Counter[str] = Counter(label for label, _ in pairs)
    sizes: Counter[str] = Counter()
    for (label, value), count in pairs.items():
        sizes[label] += len(value.encode("utf-8", "replace")) * count
    numbers = engine.statistics(SAMPLES) if SAMPLES in engine.tables() else TableStatistics()
    return {
        "headStats": {
            "numSeries": len(engine.series()),
            "numLabelPairs": len(pairs),
            "chunkCount": numbers.blocks,
            "minTime": (numbers.oldest or 0) // 1000,
            "maxTime": (numbers.newest or 0) // 1000,
        },
        "seriesCountByMetricName": _top(names.items(), most),
        "labelValueCountByLabelName": _top(values.items(), most),
        "memoryInBytesByLabelName": _top(sizes.items(), most),
        "seriesCountByLabelValuePair": _top((("=".join(pair), count) for pair, count in pairs.items()), most),
    }


def _top(counts: Iterable[tuple[str, int]], most: int) -> list[dict[str, Any]]:
    ranked = sorted(counts, key=lambda one: (-one[1], one[0]))[:most]
    return [{"name": name, "value": count} for name, count in ranked]
