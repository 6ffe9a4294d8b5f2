"""/api: what is stored, how the server is, and housekeeping."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict

from kymograph._version import __version__
from kymograph.errors import KymographError
from kymograph.model.schema import TableSchema, type_name
from kymograph.model.time import isoformat
from kymograph.server.routes.answers import json_answer
from kymograph.server.state import ServerState


class PruneRequest(BaseModel):
    """What a prune may do; an empty body applies the bounds to whole partitions."""

    model_config = ConfigDict(extra="forbid", strict=True)

    dry_run: bool = False
    force: bool = False


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(prefix="/api", tags=["store"])

    @routes.get("/tables", summary="Tables, their columns and sizes")
    async def tables() -> Response:
        info = await state.info.get()
        schemas = await state.light.run(lambda: state.slot.get().tables())
        return json_answer([_table(schema, info["tables"].get(name)) for name, schema in sorted(schemas.items())])

    @routes.get("/info", summary="The store in numbers")
    async def info() -> Response:
        found = await state.info.get()
        tables = {name: _spoken(numbers) for name, numbers in found["tables"].items()}
        jobs = [_spoken(job) for job in found["jobs"]]
        return json_answer({**_spoken(found), "tables": tables, "jobs": jobs})

    @routes.get("/health", summary="Whether recording and storing work")
    async def health() -> Response:
        """200 with `status` ok or degraded: live values go on while the store is away."""
        store = await state.light.run(_store_health, state)
        collectors = state.supervisor.health() if state.supervisor is not None else []
        for collector in collectors:
            last = collector.get("last_success")
            collector["last_success"] = None if last is None else isoformat(last)
        bad = [each["name"] for each in collectors if each["state"] in ("failing", "hung")]
        return json_answer(
            {
                "status": "ok" if store["ok"] and not bad else "degraded",
                "version": __version__,
                "uptime_s": round(time.time() - state.started, 3),
                "store": store,
                "collectors": collectors,
                "backlog": state.supervisor.backlog() if state.supervisor is not None else None,
                "watchers": state.hub.watchers,
            }
        )

    @routes.post("/prune", summary="Apply age, byte and cap bounds now")
    async def prune(request: PruneRequest | None = None) -> Response:
        asked = request or PruneRequest()
        report = await state.heavy.run(lambda: state.slot.get().prune(dry_run=asked.dry_run, force=asked.force))
        victims = [
            {**asdict(victim), "start": isoformat(victim.start), "end": isoformat(victim.end)}
            for victim in report.victims
        ]
        return json_answer({"dry_run": report.dry_run, "rows": report.rows, "bytes": report.bytes, "victims": victims})

    return routes


def _store_health(state: ServerState) -> dict[str, Any]:
    path = str(state.slot.path)
    try:
        health = state.slot.get().healthy()
    except KymographError as error:
        return {"ok": False, "open": False, "reason": str(error), "path": path}
    return {"ok": health["ok"], "open": True, "reason": health["reason"], "path": path}


def _table(schema: TableSchema, numbers: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "name": schema.name,
        "labels": list(schema.labels),
        "fields": {name: type_name(kind) for name, kind in schema.fields},
        "duplicates": schema.duplicates,
        "partition_us": schema.partition,
        "retention": {"age_us": schema.retention.age_micros, "bytes": schema.retention.max_bytes},
        **_spoken(numbers or {}),
    }


_TIMES = ("oldest", "newest", "next_prune", "started", "finished")


def _spoken(numbers: dict[str, Any]) -> dict[str, Any]:
    """Times as ISO 8601; everything else as it is."""
    return {
        name: isoformat(value) if name in _TIMES and isinstance(value, int) else value
        for name, value in numbers.items()
    }
