"""/api/v1/admin/tsdb: deleting samples, and copies of the store. Only the role admin gets here."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from fastapi import APIRouter, Request, Response

from kymograph.engine.interface import SNAPSHOTS
from kymograph.errors import InvalidInput, KymographError
from kymograph.model.matcher import Matcher
from kymograph.model.schema import SAMPLES, SERIES_ID
from kymograph.promql.parse import parse_selector
from kymograph.promql.source import Source
from kymograph.server.routes.prometheus.answers import failed, given, store_of
from kymograph.server.routes.prometheus.parameters import Parameters
from kymograph.server.routes.prometheus.series import Wanted
from kymograph.server.state import ServerState
from kymograph.store.store import Store


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(prefix="/api/v1/admin/tsdb", tags=["prometheus"])

    @routes.post("/delete_series", summary="Remove samples of series", status_code=204)
    async def delete_series(request: Request) -> Response:
        asked = await Parameters.of(request)
        wanted = Wanted(asked, named=True)
        if wanted.selectors is None:
            raise InvalidInput("no match[] parameter provided")
        try:
            await state.heavy.run(lambda: _delete(store_of(state, request), wanted))
        except KymographError as error:
            return failed(error, request.scope["path"])
        return Response(status_code=204)

    @routes.post("/clean_tombstones", summary="Nothing to do: deletes leave nothing behind", status_code=204)
    async def clean_tombstones() -> Response:
        return Response(status_code=204)

    @routes.post("/snapshot", summary="A consistent copy of the store in snapshots/ of its folder")
    async def snapshot(request: Request) -> Response:
        name = time.strftime("%Y%m%dT%H%M%SZ-", time.gmtime()) + secrets.token_hex(8)

        def copy() -> None:
            store = store_of(state, request)
            store.snapshot(Path(store.path) / SNAPSHOTS / name)

        await state.heavy.run(copy)
        return given(request, {"name": name})

    return routes


def _delete(store: Store, wanted: Wanted) -> int:
    """Remove the samples; returns how many.

    Raises:
        InvalidInput: a selector finds fields of tables, whose rows are not one metric's to delete.
    """
    if wanted.nothing:
        return 0
    source, ids = Source(store.engine), set[int]()
    for text in wanted.selectors or ():
        found = source.select(parse_selector(text).matchers)
        if found.wide:
            raise InvalidInput(
                f"match[] {text} finds fields of the table {found.wide[0].schema.name}, which cannot be deleted alone",
                hint="add the name of a metric; rows of tables are deleted with Store.delete",
            )
        ids |= set(found.ids.tolist())
    if not ids or SAMPLES not in store.tables():
        return 0
    return store.delete(SAMPLES, [Matcher(SERIES_ID, "in", frozenset(ids))], wanted.start, wanted.end)
