"""/api/v1/series, /labels and /label/{name}/values: which series there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request, Response

from kymograph.errors import InvalidInput, KymographError
from kymograph.model.time import MAX_TIME, MIN_TIME
from kymograph.promql.labels import is_label_name, matches_empty, quoted
from kymograph.promql.lexer import ParseError
from kymograph.promql.parse import parse_selector
from kymograph.server.routes.prometheus.answers import asked, failed, given, store_of
from kymograph.server.routes.prometheus.escaping import unescaped
from kymograph.server.routes.prometheus.parameters import Parameters
from kymograph.server.routes.prometheus.queries import TRUNCATED
from kymograph.server.state import ServerState

_MATCH = "match[]"


class Wanted:
    """The series a request is about.

    Attributes:
        selectors: texts; None where the request has none.
        nothing: whether the range is empty.
        start, end: [start, end) in µs, None where that side is open.
        limit: of the answer, 0 is all.
    """

    def __init__(self, request: Parameters, named: bool = False) -> None:
        """`named`: what is wrong with a selector is told with the name of its parameter."""
        start, end = request.span()
        self.nothing = end < start
        self.start = None if start == MIN_TIME else start
        self.end = None if end == MAX_TIME else end + 1
        self.limit = request.count("limit")
        self.selectors = request.all(_MATCH) or None
        for text in self.selectors or ():
            _check(text, f'invalid parameter "{_MATCH}": ' if named else "")

    def cut(self, found: list[Any]) -> tuple[list[Any], list[str]]:
        """What the limit leaves, and the warning that goes with it."""
        if self.limit and len(found) > self.limit:
            return found[: self.limit], [TRUNCATED]
        return found, []


def _check(text: str, where: str) -> None:
    try:
        selector = parse_selector(text, empty=True)
    except ParseError as problem:
        raise InvalidInput(where + problem.message) from None
    if all(matches_empty(matcher) for matcher in selector.matchers):
        raise InvalidInput(f"{where}match[] must contain at least one non-empty matcher")


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["prometheus"])

    async def answered(request: Request, wanted: Wanted, find: Callable[[], list[Any]]) -> Response:
        def work(_: object) -> Response:
            return given(request, *wanted.cut([] if wanted.nothing else find()))

        try:
            return await asked(state, request, work)
        except KymographError as error:
            return failed(error, request.scope["path"])

    @routes.get("/series", summary="Label sets of series")
    @routes.post("/series", summary="Label sets of series, asked by a form")
    async def series(request: Request) -> Response:
        wanted = Wanted(await Parameters.of(request), named=True)
        if wanted.selectors is None:
            raise InvalidInput("no match[] parameter provided")

        def find() -> list[Any]:
            return store_of(state, request).series(wanted.selectors, start=wanted.start, end=wanted.end)

        return await answered(request, wanted, find)

    @routes.get("/labels", summary="Names of labels")
    @routes.post("/labels", summary="Names of labels, asked by a form")
    async def labels(request: Request) -> Response:
        wanted = Wanted(await Parameters.of(request))

        def find() -> list[Any]:
            return store_of(state, request).label_names(wanted.selectors, start=wanted.start, end=wanted.end)

        return await answered(request, wanted, find)

    @routes.get("/label/{name}/values", summary="Values of a label")
    async def values(request: Request, name: str) -> Response:
        label = unescaped(name)
        if not is_label_name(label):
            raise InvalidInput(f"invalid label name: {quoted(label)}")
        wanted = Wanted(await Parameters.of(request))

        def find() -> list[Any]:
            return store_of(state, request).label_values(label, wanted.selectors, start=wanted.start, end=wanted.end)

        return await answered(request, wanted, find)

    return routes
