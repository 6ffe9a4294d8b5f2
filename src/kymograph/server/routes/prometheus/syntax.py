"""/api/v1/format_query and /parse_query: a query written neatly, or as a tree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request, Response

from kymograph.errors import InvalidInput
from kymograph.promql.ast import Node
from kymograph.promql.printer import pretty
from kymograph.server.routes.prometheus.answers import given
from kymograph.server.routes.prometheus.parameters import Parameters
from kymograph.server.routes.prometheus.queries import parsed
from kymograph.server.routes.prometheus.tree import tree_of
from kymograph.server.state import ServerState


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["prometheus"])

    @routes.get("/format_query", summary="A query, written neatly")
    @routes.post("/format_query", summary="A query, written neatly, asked by a form")
    async def format_query(request: Request) -> Response:
        query = (await Parameters.of(request)).text("query")
        return given(request, await state.light.run(_shown, query, pretty))

    @routes.get("/parse_query", summary="A query as a tree")
    @routes.post("/parse_query", summary="A query as a tree, asked by a form")
    async def parse_query(request: Request) -> Response:
        query = (await Parameters.of(request)).text("query")
        return given(request, await state.light.run(_shown, query, tree_of))

    return routes


def _shown(query: str, form: Callable[[Node], Any]) -> Any:
    node = parsed(query)
    try:
        return form(node)
    except RecursionError:
        raise InvalidInput("the query is nested too deeply") from None
