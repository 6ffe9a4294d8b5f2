"""/write and /api/v2/write: Influx line protocol, and what its clients ask a server before they write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request, Response

from kymograph._version import __version__
from kymograph.errors import InvalidInput, KymographError
from kymograph.server.direct import Answered, Handler
from kymograph.server.encoding import json_text
from kymograph.server.faults import Refusal
from kymograph.server.gather import Gather
from kymograph.server.incoming import unpacked
from kymograph.server.routes.answers import json_answer
from kymograph.server.state import ServerState
from kymograph.wire.influx.bodies import PRECISIONS
from kymograph.wire.influx.faults import Faults

WRITES = ("/write", "/api/v2/write", "/api/v1/influx/write")
# clients ask by it what they may send; 1.8 is the first that has both ways of writing
_SPEAKS = {"X-Influxdb-Version": "1.8.10", "X-Influxdb-Build": "Kymograph"}
_HEADERS = [(name.lower().encode(), value.encode()) for name, value in _SPEAKS.items()]
# faults that an answer names; a body of nothing but broken lines would come back several times as large
_NAMED = 100
# bytes that are stored together
_GROUP = 16 * 2**20

Precision = Annotated[str, Query(max_length=10, description="unit of the times: ns, us, ms, s, m or h")]
# what only a server with databases needs to know
Ignored = Annotated[str, Query(max_length=1000, description="taken and not used")]


class _Body(NamedTuple):
    """Lines as they came, their Content-Encoding and precision."""

    data: bytes
    coding: str
    precision: str


def writer(state: ServerState) -> Handler:
    """What answers a POST to one of `WRITES`. Bodies that come while others are stored are stored together."""

    def store(bodies: Sequence[_Body]) -> list[Faults | Exception]:
        answers: list[Faults | Exception] = [Faults() for _ in bodies]
        some: dict[int, bytes] = {}
        held = 0
        for place, body in enumerate(bodies):
            if some and (held > _GROUP or body.precision != bodies[place - 1].precision):
                _write(state, some, bodies[place - 1].precision, answers)
                some, held = {}, 0
            try:
                some[place] = unpacked(body.data, body.coding, state.limits.write_bytes)
            except Refusal as refusal:
                answers[place] = refusal
            else:
                held += len(some[place])
        if some:
            _write(state, some, bodies[-1].precision, answers)
        return answers

    gather: Gather[_Body, Faults] = Gather(state.writes, store, lambda body: len(body.data), _GROUP)

    async def write(headers: Mapping[bytes, bytes], query: bytes, body: bytes) -> Answered:
        coding = headers.get(b"content-encoding", b"").decode("latin-1")
        faults = await gather.run(_Body(body, coding, _precision(query)))
        if not faults:
            return 204, _HEADERS, b""
        told = json_text(_partial(faults)).encode()
        return 400, [*_HEADERS, (b"content-type", b"application/json"), (b"content-length", b"%d" % len(told))], told

    return write


def _write(state: ServerState, some: dict[int, bytes], precision: str, answers: list[Faults | Exception]) -> None:
    """Store the bodies at some places, all of one precision, and put their answers there."""
    try:
        rows, told = state.slot.get().write_line_bodies(list(some.values()), precision=precision)
    except KymographError as problem:
        told, rows = [problem] * len(some), 0
    state.slot.count(rows)
    for place, answer in zip(some, told, strict=True):
        answers[place] = answer


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(tags=["influx"])
    write_lines = writer(state)

    async def taken(request: Request) -> Response:
        # these paths are answered before the router; here they are described, and answered where that is not there
        status, _, body = await write_lines(
            dict(request.headers.raw), request.scope["query_string"], await request.body()
        )
        return Response(body, status, _SPEAKS, "application/json" if body else None)

    @routes.post("/write", summary="Influx line protocol, as InfluxDB 1 takes it", status_code=204)
    async def write(request: Request, precision: Precision = "ns", db: Ignored = "", rp: Ignored = "") -> Response:
        return await taken(request)

    @routes.post("/api/v2/write", summary="Influx line protocol, as InfluxDB 2 takes it", status_code=204)
    async def write_v2(
        request: Request, precision: Precision = "ns", bucket: Ignored = "", org: Ignored = ""
    ) -> Response:
        return await taken(request)

    @routes.post("/api/v1/influx/write", summary="The same, below the path of Prometheus' API", status_code=204)
    async def write_v1(request: Request, precision: Precision = "ns", db: Ignored = "", rp: Ignored = "") -> Response:
        return await taken(request)

    @routes.get("/ping", summary="Whether lines can be written", status_code=204)
    @routes.head("/ping", include_in_schema=False)
    async def ping() -> Response:
        state.slot.get()
        return Response(status_code=204, headers=_SPEAKS)

    @routes.get("/health", summary="The same, as InfluxDB 2 says it")
    async def health() -> Response:
        reason = state.slot.reason
        told = {"name": "kymograph", "version": __version__, "checks": []}
        if reason:
            return json_answer({**told, "status": "fail", "message": reason}, 503)
        return json_answer({**told, "status": "pass", "message": "ready for queries and writes"})

    return routes


def _precision(query: bytes) -> str:
    """The precision that a query string asks for. Raises InvalidInput."""
    try:
        given = parse_qs(query.decode("latin-1"), max_num_fields=20).get("precision", ["ns"])[-1] if query else "ns"
    except ValueError as problem:
        raise InvalidInput(f"the query string is none: {problem}") from None
    if given not in PRECISIONS:
        raise InvalidInput(f"{given[:40]!r} is no precision", hint="ns, us, ms, s, m or h")
    return given


def _partial(faults: Faults) -> dict[str, Any]:
    """The broken lines, in the words of InfluxDB 1 (`error`), 2 (`code`, `message`) and 3 (`data`) at once."""
    named = list(faults)[:_NAMED]
    texts = [f"line {fault.line} {fault.message}" for fault in named]
    if len(faults) > len(named):
        texts.append(f"and {len(faults) - len(named)} more")
    message = f"partial write: {'; '.join(texts)}; dropped={len(faults)}"
    return {
        "error": message,
        "code": "invalid",
        "message": message,
        "data": [
            {"line_number": fault.line, "error_message": fault.message, "original_line": fault.text} for fault in named
        ],
    }
