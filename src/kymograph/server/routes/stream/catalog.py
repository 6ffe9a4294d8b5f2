"""What streams there are: listing, creating, renaming, destroying, metadata."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from kymograph._version import __version__
from kymograph.engine.interface import Bounded
from kymograph.errors import InvalidInput
from kymograph.server.routes.answers import json_answer
from kymograph.server.routes.stream.words import Flag, StreamPath, existing, form_or_json
from kymograph.server.state import ServerState
from kymograph.store.store import Store


def router(state: ServerState) -> APIRouter:
    routes = APIRouter()

    @routes.get("/version", summary="Version of this server, as JSON text")
    async def version() -> Response:
        return json_answer(__version__)

    @routes.get("/dbinfo", summary="Where the store is, and bytes used and free")
    async def dbinfo() -> Response:
        return json_answer(await state.light.run(lambda: _disk(state.slot.get())))

    @routes.get("/stream/list", summary="Paths and layouts of streams")
    async def listed(
        path: Annotated[str | None, Query(max_length=512, description="only this path")] = None,
        layout: Annotated[str | None, Query(max_length=32, description="only this layout")] = None,
        extended: Flag = False,
    ) -> Response:
        def ask() -> list[list[Any]]:
            found = []
            for entry in state.slot.get().streams():
                if path not in (None, entry.path) or layout not in (None, entry.schema.layout.name):
                    continue
                numbers = entry.statistics
                more = [numbers.start, numbers.end, numbers.rows, numbers.covered] if extended else []
                found.append([entry.path, entry.schema.layout.name, *more])
            return found

        return json_answer(await state.light.run(ask))

    @routes.post("/stream/create", summary="Make a stream")
    async def create(request: Request) -> Response:
        asked = await form_or_json(request, "path", "layout")

        def make() -> None:
            store = state.slot.get()
            if asked["path"] in store.engine.streams.streams():
                raise InvalidInput(f"there is a stream {asked['path']} already")
            store.stream(asked["path"], asked["layout"])

        return json_answer(await state.light.run(make))

    @routes.post("/stream/rename", summary="Move a stream to another path")
    async def rename(request: Request) -> Response:
        asked = await form_or_json(request, "oldpath", "newpath")
        await state.light.run(lambda: existing(state.slot.get(), asked["oldpath"]).rename(asked["newpath"]))
        return json_answer(None)

    @routes.post("/stream/destroy", summary="Forget a stream and its rows")
    async def destroy(request: Request) -> Response:
        asked = await form_or_json(request, "path")
        await state.heavy.run(lambda: existing(state.slot.get(), asked["path"]).destroy())
        return json_answer(None)

    @routes.get("/stream/get_metadata", summary="Metadata of a stream, or some keys of it")
    async def get_metadata(
        path: StreamPath,
        key: Annotated[list[str] | None, Query(description="only this key; may be repeated")] = None,
    ) -> Response:
        def ask() -> dict[str, Any]:
            metadata = existing(state.slot.get(), path).metadata
            return metadata if key is None else {one: metadata.get(one) for one in key}

        return json_answer(await state.light.run(ask))

    @routes.post("/stream/set_metadata", summary="Replace the metadata of a stream")
    async def set_metadata(request: Request) -> Response:
        asked = await form_or_json(request, "path", "data")
        data = _object(asked["data"])
        await state.light.run(lambda: existing(state.slot.get(), asked["path"]).set_metadata(data))
        return json_answer(None)

    @routes.post("/stream/update_metadata", summary="Set some keys of a stream's metadata")
    async def update_metadata(request: Request) -> Response:
        asked = await form_or_json(request, "path", "data")
        data = _object(asked["data"])
        await state.light.run(lambda: existing(state.slot.get(), asked["path"]).update_metadata(data))
        return json_answer(None)

    return routes


def _disk(store: Store) -> dict[str, Any]:
    engine = store.engine
    size = engine.usage() if isinstance(engine, Bounded) else 0
    if not Path(store.path).is_dir():
        return {"path": store.path, "size": size, "other": 0, "reserved": 0, "free": 0}
    disk = shutil.disk_usage(store.path)
    reserved = max(0, disk.total - disk.used - disk.free)
    return {
        "path": store.path,
        "size": size,
        "other": max(0, disk.used - size),
        "reserved": reserved,
        "free": disk.free,
    }


def _object(data: Any) -> dict[str, Any]:
    """Metadata as an object, or as the JSON text of one."""
    try:
        found = json.loads(data) if isinstance(data, str) else data
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidInput("data must be a JSON object, or its text")
    return found
