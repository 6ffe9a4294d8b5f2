"""What is asked: the present of many series, rates of many series over hours, one series over a day."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kymograph
from bench.data import hosts
from bench.metrics.servers import Server
from bench.table import median_ms

Answers = dict[str, tuple[float, Any]]
ONE = 'node_memory_bytes{memory="00",instance="host-0000.example.org:9100"}'
_RATE = 'rate({__name__=~"node_.+"}[5m])'
_STEPS = 1000


def instant(server: Server, scrapes: int, repeats: int) -> Answers:
    """Milliseconds and answers of questions about the present."""
    at = _seconds(scrapes - 1)
    queries = {"sum by host": 'sum by (instance) ({job="node"})', "every series": '{job="node"}'}
    return {name: _timed(lambda q=q: server.ask("query", query=q, time=at), repeats) for name, q in queries.items()}  # type: ignore[misc]


def ranges(server: Server, scrapes: int, hours: int, repeats: int) -> Answers:
    """Rates of all series over the last hours, and all samples of one series."""
    end = _seconds(scrapes - 1)
    span = {"start": end - hours * 3600, "end": end, "step": _step(hours) / 1e6}
    whole = f"{ONE}[{scrapes * hosts.STEP_MS // 1000}s]"
    return {
        "rate": _timed(lambda: server.ask("query_range", query=_RATE, **span), max(1, repeats // 2)),
        "one series": _timed(lambda: server.ask("query", query=whole, time=end), repeats),
    }


def in_process(folder: Path, scrapes: int, hours: int | None, repeats: int) -> Answers:
    """The same questions to Kymograph without HTTP. Run it with `bench.child.run`."""
    end = round(_seconds(scrapes - 1) * 1_000_000)
    with kymograph.connect(folder, read_only=True) as store:
        if hours is None:
            asked: dict[str, Callable[[], Any]] = {
                "sum by host": lambda: store.promql('sum by (instance) ({job="node"})', time=end),
                "every series": lambda: store.promql('{job="node"}', time=end),
            }
        else:
            width = hours * 3600 * 1_000_000
            whole = f"{ONE}[{scrapes * hosts.STEP_MS // 1000}s]"
            asked = {
                "rate": lambda: store.promql_range(_RATE, start=end - width, end=end, step=_step(hours)),
                "one series": lambda: store.promql(whole, time=end),
            }
        return {name: (median_ms(ask, repeats), None) for name, ask in asked.items()}


def differ(ours: Any, theirs: Any) -> str:
    """How two answers differ, "" where series, times and values (to one in a billion) are the same."""
    a, b = _points(ours), _points(theirs)
    if a.keys() != b.keys():
        return f"{len(a)} and {len(b)} series"
    for key, points in a.items():
        if points.keys() != b[key].keys():
            return f"{len(points)} and {len(b[key])} points of {dict(key)}"
        for time, value in points.items():
            if not math.isclose(value, b[key][time], rel_tol=1e-9, abs_tol=1e-9):
                return f"{value} and {b[key][time]} at {time} of {dict(key)}"
    return ""


def _points(answer: Any) -> dict[Any, dict[float, float]]:
    return {
        tuple(sorted(one["metric"].items())): {
            float(time): float(value) for time, value in (one["values"] if "values" in one else [one["value"]])
        }
        for one in answer
    }


def _timed(ask: Callable[[], bytes], repeats: int) -> tuple[float, Any]:
    found: list[bytes] = []

    def run() -> None:
        found[:] = [ask()]

    # what the answer says is taken apart off the clock
    return median_ms(run, repeats), json.loads(found[0])["data"]["result"]


def _step(hours: int) -> int:
    """µs between the steps: whole milliseconds, since two of the systems know nothing finer."""
    return hours * 3_600_000 // (_STEPS - 1) * 1000


def _seconds(scrape: int) -> float:
    """Unix time a little after a scrape, so that no window begins or ends at a sample."""
    return (hosts.START_MS + hosts.STEP_MS * scrape) / 1000 + 3
