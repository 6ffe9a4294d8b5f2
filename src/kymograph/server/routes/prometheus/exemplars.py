"""/api/v1/query_exemplars: the exemplars of the series that a query reads."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from kymograph.errors import InvalidInput, KymographError
from kymograph.model.exemplar import Exemplar
from kymograph.model.time import MAX_TIME
from kymograph.server.routes.prometheus.answers import asked, failed, given, store_of
from kymograph.server.routes.prometheus.numerals import numbers
from kymograph.server.routes.prometheus.parameters import Parameters
from kymograph.server.routes.prometheus.queries import parsed
from kymograph.server.state import ServerState
from kymograph.store.exemplars.finding import selectors_of


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["prometheus"])

    @routes.get("/query_exemplars", summary="Exemplars of a query's series")
    @routes.post("/query_exemplars", summary="Exemplars of a query's series, asked by a form")
    async def exemplars(request: Request) -> Response:
        asked_for = await Parameters.of(request)
        start, end = asked_for.span()
        if end < start:
            raise InvalidInput("end timestamp must not be before start timestamp")
        query = asked_for.text("query")
        if not any(selectors_of(parsed(query, ""))):
            return Response(status_code=204)
        # all of the last millisecond, which is the end's own
        until = min(end + 1000, MAX_TIME)

        def ask(_: object) -> Response:
            return given(request, _by_series(store_of(state, request).exemplars(query, start, until)))

        try:
            return await asked(state, request, ask)
        except KymographError as error:
            return failed(error, request.scope["path"])

    return routes


def _by_series(found: Sequence[Exemplar]) -> list[dict[str, Any]]:
    texts = iter(numbers(np.array([one.value for one in found])).to_pylist())
    return [
        {
            "seriesLabels": {"__name__": name, **series},
            "exemplars": [
                {"labels": one.labels, "value": next(texts), "timestamp": _seconds(one.time)} for one in several
            ],
        }
        for (name, series), several in groupby(found, key=lambda one: (one.name, one.series))
    ]


def _seconds(time: int) -> int | float:
    """Seconds to the millisecond below."""
    whole, part = divmod(time // 1000, 1000)
    return whole + part / 1000 if part else whole
