"""/api/v1/metadata and /targets: what the metrics are, and where the scraped ones come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlunsplit

from fastapi import APIRouter, Request, Response

from kymograph.collect import fetch
from kymograph.errors import InvalidInput
from kymograph.model.time import isoformat
from kymograph.server.routes.prometheus.answers import given, store_of
from kymograph.server.routes.prometheus.parameters import Parameters
from kymograph.server.state import ServerState

_HEALTH = {"running": "up", "failing": "down", "hung": "down", "absent": "down", "waiting": "unknown"}
_NEVER = "0001-01-01T00:00:00Z"


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["prometheus"])

    @routes.get("/metadata", summary="Kind, unit and help of metrics")
    async def metadata(request: Request) -> Response:
        asked = await Parameters.of(request)
        limit, metric = _limit(asked), asked.text("metric")

        def ask() -> dict[str, Any]:
            found: dict[str, Any] = {}
            for about in store_of(state, request).metrics():
                if metric and about["name"] != metric:
                    continue
                if limit is not None and len(found) >= limit:
                    break
                kind = "unknown" if about["kind"] == "untyped" else about["kind"]
                found[about["name"]] = [{"type": kind, "help": about["help"], "unit": about["unit"]}]
            return found

        return given(request, await state.light.run(ask))

    @routes.get("/targets", summary="Scrape targets and how they are")
    async def targets(request: Request) -> Response:
        wanted = (await Parameters.of(request)).text("state").lower()
        health = state.supervisor.health() if state.supervisor is not None else []
        active = [_target(each) for each in health if each["name"].startswith("scrape ")]
        data: dict[str, Any] = {"activeTargets": active if wanted != "dropped" else [], "droppedTargets": []}
        if wanted != "active":
            data["droppedTargetCounts"] = {}
        return given(request, data)

    return routes


def _limit(asked: Parameters) -> int | None:
    text = asked.text("limit")
    if not text:
        return None
    try:
        number = int(text)
    except ValueError:
        raise InvalidInput("limit must be a number") from None
    return None if number < 0 else number


def _target(health: Mapping[str, Any]) -> dict[str, Any]:
    url = health["name"].removeprefix("scrape ")
    parts = fetch.checked_url(url)
    address, target = fetch.address(parts), urlunsplit(parts._replace(scheme="", netloc=""))
    last = health["last_success"]
    interval = f"{health['interval_s']:g}s"
    return {
        "discoveredLabels": {
            "__address__": address,
            "__metrics_path__": target,
            "__scheme__": parts.scheme,
            "__scrape_interval__": interval,
            "job": address,
        },
        "labels": {"instance": address, "job": address},
        "scrapePool": address,
        "scrapeUrl": url,
        "globalUrl": url,
        "lastError": health["last_error"] if health["state"] in ("failing", "hung") else "",
        "lastScrape": _NEVER if last is None else isoformat(last),
        "lastScrapeDuration": 0.0,
        "health": _HEALTH[health["state"]],
        "scrapeInterval": interval,
        "scrapeTimeout": f"{min(10.0, max(1.0, health['interval_s'])):g}s",
    }
