"""/metrics: the server's own numbers in the Prometheus exposition format."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response

from kymograph._version import __version__
from kymograph.errors import KymographError
from kymograph.server.meter import BUCKETS, Meter
from kymograph.server.routes import rings
from kymograph.server.state import ServerState
from kymograph.wire.exposition.page import Family, Kind, Sample
from kymograph.wire.exposition.text import TEXT, render

_STATES = ("running", "waiting", "failing", "hung", "absent")


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(tags=["metrics"])

    @routes.get("/metrics", summary="The server's own metrics, for Prometheus")
    async def metrics(accept: Annotated[str, Header()] = "") -> Response:
        """With `Accept: application/json` what GET /api/metrics answers."""
        if rings.wants_json(accept):
            return await rings.listing(state)
        try:
            info: Mapping[str, Any] | None = await state.info.get()
        except KymographError:
            info = None
        families = [*_server(state), *_requests(state.meter), *_collectors(state), *_rules(state), *_store(state, info)]
        return Response(render(families), media_type=TEXT)

    return routes


def _one(name: str, kind: Kind, help: str, value: float, labels: dict[str, str] | None = None) -> Family:
    return Family(name, kind, help=help, samples=[Sample(name, labels or {}, float(value))])


def _server(state: ServerState) -> Iterator[Family]:
    hub = state.hub
    yield _one("kymograph_build_info", "gauge", "Always 1; the label says which version", 1, {"version": __version__})
    yield _one("kymograph_start_time_seconds", "gauge", "Unix time of the start", state.started)
    yield _one("kymograph_uptime_seconds", "gauge", "Time since the start", time.time() - state.started)
    yield _one("kymograph_websocket_clients", "gauge", "Live stream clients", hub.watchers)
    yield _one("kymograph_live_frames_total", "counter", "Live frames encoded", hub.frames)
    yield _one("kymograph_live_frames_skipped_total", "counter", "Frames slow clients did not get", hub.skipped)
    yield _one("kymograph_queries_held", "gauge", "Queries and exports at work or waiting", state.heavy.held)
    yield _one("kymograph_rows_written_total", "counter", "Rows and samples stored since the start", state.slot.rows)


def _requests(meter: Meter) -> Iterator[Family]:
    name = "kymograph_http_requests_total"
    counts = [
        Sample(name, {"method": method, "route": route, "status": str(status)}, float(count))
        for (method, route, status), count in sorted(meter.requests().items())
    ]
    yield Family(name, "counter", help="Requests answered", samples=counts)
    name = "kymograph_http_request_duration_seconds"
    samples = []
    for route, (counts_below, total) in sorted(meter.latencies().items()):
        bounds = [*(f"{bound:g}" for bound in BUCKETS), "+Inf"]
        for bound, count in zip(bounds, counts_below, strict=True):
            samples.append(Sample(f"{name}_bucket", {"route": route, "le": bound}, float(count)))
        samples.append(Sample(f"{name}_sum", {"route": route}, total))
        samples.append(Sample(f"{name}_count", {"route": route}, float(counts_below[-1])))
    yield Family(name, "histogram", help="Time to the end of the answer", samples=samples)


def _collectors(state: ServerState) -> Iterator[Family]:
    if state.supervisor is None:
        return
    health = state.supervisor.health()
    name = "kymograph_collector_state"
    states = [
        Sample(name, {"collector": each["name"], "state": word}, float(each["state"] == word))
        for each in health
        for word in _STATES
    ]
    yield Family(name, "gauge", help="1 for the state a collector is in", samples=states)
    for name, key, about in (
        ("kymograph_collector_restarts_total", "restarts", "Times a collector was started anew"),
        ("kymograph_collector_dropped_rows_total", "dropped_rows", "Rows collected and never stored"),
    ):
        samples = [Sample(name, {"collector": each["name"]}, float(each[key])) for each in health]
        yield Family(name, "counter", help=about, samples=samples)
    backlog = state.supervisor.backlog()
    yield _one("kymograph_backlog_rows", "gauge", "Rows waiting for the store", backlog["rows"])


def _rules(state: ServerState) -> Iterator[Family]:
    try:
        groups = state.slot.get().rule_groups()
    except KymographError:
        groups = []
    health = Counter(rule.health for group in groups for rule in group.rules)
    if groups:
        name = "kymograph_rules"
        counts = [Sample(name, {"health": word}, float(health[word])) for word in ("ok", "err", "unknown")]
        yield Family(name, "gauge", help="Rules by how their last evaluation went", samples=counts)
    told = [] if state.alerts is None else state.alerts.health()
    kinds: dict[str, Kind] = {"waiting": "gauge", "sent_total": "counter", "dropped_total": "counter"}
    for word, kind in kinds.items() if told else ():
        name, key = f"kymograph_alerts_{word}", word.removesuffix("_total")
        samples = [Sample(name, {"alertmanager": each["url"]}, float(each[key])) for each in told]
        yield Family(name, kind, help=f"Alerts {key}, by Alertmanager", samples=samples)


def _store(state: ServerState, info: Mapping[str, Any] | None) -> Iterator[Family]:
    yield _one("kymograph_store_up", "gauge", "1 while the store is open", info is not None)
    if info is None:
        return
    for name, key, about in (
        ("kymograph_store_bytes", "usage_bytes", "Bytes the store takes on disk"),
        ("kymograph_store_cap_bytes", "cap_bytes", "Bytes the store may take"),
        ("kymograph_store_rows", "rows", "Rows stored"),
        ("kymograph_store_series", "series", "Series stored"),
    ):
        if info[key] is not None:
            yield _one(name, "gauge", about, info[key])
    again = "kymograph_samples_sent_again_total"
    yield _one(again, "counter", "Late samples left out that were in their summaries", state.slot.get().sent_again)
    name = "kymograph_table_rows"
    samples = [Sample(name, {"table": table}, float(each["rows"])) for table, each in info["tables"].items()]
    yield Family(name, "gauge", help="Rows of a table", samples=samples)
