"""/api/v1/query and /query_range: PromQL over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from kymograph.errors import InvalidInput, KymographError
from kymograph.promql.engine import LOOKBACK, WrongKind
from kymograph.promql.lexer import ParseError
from kymograph.promql.limits import PromLimits
from kymograph.promql.parse import parse
from kymograph.promql.result import PromResult
from kymograph.server.envelope import Piece, body_of, text_of
from kymograph.server.routes.prometheus.answers import Gone, asked, failed, flowing, packed, store_of
from kymograph.server.routes.prometheus.parameters import Parameters, invalid
from kymograph.server.routes.prometheus.samples import PART, result_of
from kymograph.server.state import ServerState

_STEPS = 11_000
TRUNCATED = "results truncated due to limit"


@dataclass(frozen=True)
class _Question:
    """What both kinds of query have in common.

    Attributes:
        seconds: wall time the client grants, None: what the server grants anyone.
        limit: series of the answer, 0 is all of them.
    """

    query: str
    seconds: float | None
    lookback: int
    limit: int
    stats: bool

    @classmethod
    def of(cls, asked: Parameters) -> _Question:
        timeout, lookback = asked.duration("timeout"), asked.duration("lookback_delta")
        if lookback is not None and lookback < 0:
            raise invalid("lookback_delta", "negative look-back deltas are not accepted")
        return cls(
            asked.text("query"),
            None if timeout is None else max(0.0, timeout / 1e6),
            lookback or LOOKBACK,
            asked.count("limit"),
            asked.text("stats") != "",
        )


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["prometheus"])

    @routes.get("/query", summary="PromQL at one time")
    @routes.post("/query", summary="PromQL at one time, asked by a form")
    async def query(request: Request) -> Response:
        given = await Parameters.of(request)
        at = given.time("time", time.time_ns() // 10**6 * 1000)
        question = _Question.of(given)

        def ask(limits: PromLimits) -> PromResult:
            return store_of(state, request).promql(question.query, time=at, limits=limits, lookback=question.lookback)

        return await _answered(state, request, question, ask)

    @routes.get("/query_range", summary="PromQL at every step of a range")
    @routes.post("/query_range", summary="PromQL at every step of a range, asked by a form")
    async def query_range(request: Request) -> Response:
        given = await Parameters.of(request)
        start, end, step = _steps(given)
        question = _Question.of(given)

        def ask(limits: PromLimits) -> PromResult:
            return store_of(state, request).promql_range(
                question.query, start=start, end=end, step=step, limits=limits, lookback=question.lookback
            )

        return await _answered(state, request, question, ask)

    return routes


def parsed(query: str, name: str = "query") -> Any:
    """The tree of a query. Raises InvalidInput in Prometheus' words, with the parameter's name if that is given."""
    try:
        return parse(query)
    except ParseError as problem:
        raise invalid(name, problem.message) if name else InvalidInput(problem.message) from None
    except RecursionError:
        raise InvalidInput("the query is nested too deeply") from None


def _steps(asked: Parameters) -> tuple[int, int, int]:
    start, end = asked.time("start"), asked.time("end")
    if end < start:
        raise invalid("end", "end timestamp must not be before start time")
    step = asked.step("step")
    if step <= 0:
        raise invalid("step", "zero or negative query resolution step widths are not accepted. Try a positive integer")
    if (end - start) // step > _STEPS:
        raise InvalidInput(
            "exceeded maximum resolution of 11,000 points per timeseries. "
            "Try decreasing the query resolution (?step=XX)"
        )
    return start, end, step


async def _answered(
    state: ServerState, request: Request, question: _Question, ask: Callable[[PromLimits], PromResult]
) -> Response:
    waiting = time.monotonic()

    def work(left: Gone) -> Response | Iterator[Piece]:
        began = time.monotonic()
        limits = state.limits.of_promql(question.seconds, left)
        try:
            result = ask(limits)
        except (ParseError, WrongKind) as problem:
            raise invalid("query", problem.message) from None
        data = _data(result, question, (began - waiting, time.monotonic() - began))
        cut = [TRUNCATED] if 0 < question.limit < len(result) else []
        notes = ([*result.warnings, *cut], result.infos)
        body = body_of(data, *notes)
        return body if len(result.values) > PART else packed(request, body)

    try:
        answer = await asked(state, request, work)
        return answer if isinstance(answer, Response) else await flowing(state, request, answer)
    except KymographError as error:
        return failed(error, request.scope["path"])


def _data(result: PromResult, question: _Question, seconds: tuple[float, float]) -> Iterator[Piece]:
    """`data` of the answer, piece by piece; `seconds` are those spent waiting and evaluating."""
    began = time.monotonic()
    yield b"{"
    yield from result_of(result, question.limit)
    if question.stats:
        yield b',"stats":' + text_of(_stats(result, *seconds, time.monotonic() - began))
    yield b"}"


def _stats(result: PromResult, queued: float, evaluated: float, sorted_: float) -> dict[str, Any]:
    """What Prometheus tells about a query, seconds and samples; the peak is at most what was read."""
    return {
        "timings": {
            "evalTotalTime": evaluated,
            "resultSortTime": sorted_,
            "queryPreparationTime": 0.0,
            "innerEvalTime": evaluated,
            "execQueueTime": queued,
            "execTotalTime": queued + evaluated + sorted_,
        },
        "samples": {
            "totalQueryableSamples": result.samples,
            "peakSamples": max(result.samples, len(result.values)),
        },
    }
