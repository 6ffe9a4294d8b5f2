"""`python -m bench answers`: short answers of Prometheus' API over HTTP, beside VictoriaMetrics.

Both servers are asked in turn over connections that stay open, so that whatever else the machine does slows both; then by
eight clients at once, each system for itself.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import threading
import time
import urllib.parse
from pathlib import Path

from bench import child, compare
from bench.data import hosts
from bench.metrics import bodies
from bench.metrics.load import send
from bench.metrics.questions import ONE
from bench.metrics.servers import REMOTE, Kymograph, Server, VictoriaMetrics
from bench.table import number, show

_CLIENTS = 8
# scrapes of the samples' last 24 hours
_DAY = 8640


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=200, help="how often each question is asked (200)")
    parser.add_argument("--folder", type=Path, default=None, help="where to work (a temporary folder)")
    parser.add_argument("--keep", action="store_true", help="leave the folder behind")


def run(args: argparse.Namespace) -> None:
    if args.small:
        args.series, args.repeats = 50, 2
    compare.in_folder(args, measure)


def questions(end: float) -> dict[str, str]:
    """Paths by what they ask for; `end`: Unix time a little after the last sample."""
    asked: dict[str, tuple[str, dict[str, object]]] = {
        "one series, 24 h of samples": ("query", {"query": f"{ONE}[86400s]", "time": end}),
        "one series, 24 h at 1 min": ("query_range", {"query": ONE, "start": end - 86_390, "end": end, "step": 60}),
        "one series, now": ("query", {"query": ONE, "time": end}),
        "its rate, now": ("query", {"query": f"rate({ONE}[5m])", "time": end}),
        "no series": ("query", {"query": "up", "time": end}),
        "series by selector": ("series", {"match[]": ONE, "start": end - 3600, "end": end}),
        "names of labels": ("labels", {}),
        "values of a label": ("label/instance/values", {}),
        "status/buildinfo": ("status/buildinfo", {}),
    }
    return {name: f"/api/v1/{path}?{urllib.parse.urlencode(given)}" for name, (path, given) in asked.items()}


def measure(args: argparse.Namespace, folder: Path) -> None:
    files = bodies.make(folder / "bodies", args.series, _DAY // (60 if args.small else 1), 2000, _CLIENTS)
    systems: list[type[Server]] = [one for one in (Kymograph, VictoriaMetrics) if not one.missing()]
    servers: list[Server] = []
    try:
        for system in systems:
            server = system(folder / system.name)
            child.run(send, server.url, "/api/v1/write", REMOTE, files["remote"])
            server.settle()
            server.stop()
            servers.append(system(folder / system.name))
        _report(servers, args)
    finally:
        for server in servers:
            server.stop()


def _report(servers: list[Server], args: argparse.Namespace) -> None:
    scrapes = _DAY // (60 if args.small else 1)
    end = (hosts.START_MS + hosts.STEP_MS * (scrapes - 1)) / 1000 + 3
    rows = []
    for name, path in questions(end).items():
        alone = _in_turn(servers, path, args.repeats)
        crowd = [_at_once(server, path, args.repeats // 4 + 1) for server in servers]
        ratios = [number(found[0] / found[1]) if len(found) > 1 else "-" for found in (alone, crowd)]
        rows.append([name, *map(number, alone), ratios[0], *map(number, crowd), ratios[1]])
    names = [server.name for server in servers]
    header = ["question", *names, "ratio", *(f"{name}, {_CLIENTS} at once" for name in names), "ratio"]
    show(f"Answers over HTTP about {args.series:,} series, median ms", header, rows)


def _in_turn(servers: list[Server], path: str, repeats: int) -> list[float]:
    """Median milliseconds of each server."""
    doors = [http.client.HTTPConnection(server.address, timeout=300) for server in servers]
    took: list[list[float]] = [[] for _ in servers]
    for _ in range(repeats + 1):
        for door, times in zip(doors, took, strict=True):
            times.append(_asked(door, path))
    for door in doors:
        door.close()
    return [statistics.median(times[1:]) for times in took]


def _at_once(server: Server, path: str, repeats: int) -> float:
    """Median milliseconds of an answer while others are being asked for."""
    took: list[float] = []

    def ask() -> None:
        door = http.client.HTTPConnection(server.address, timeout=300)
        took.extend(_asked(door, path) for _ in range(repeats))
        door.close()

    threads = [threading.Thread(target=ask) for _ in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statistics.median(took)


def _asked(door: http.client.HTTPConnection, path: str) -> float:
    start = time.perf_counter()
    door.request("GET", path)
    answer = door.getresponse()
    body = answer.read()
    took = (time.perf_counter() - start) * 1000
    if answer.status != 200:
        raise RuntimeError(f"{path}: {answer.status} {body[:300]!r}")
    return took
