"""/api/v1/write and /api/v1/read: Prometheus' remote write 1.0 and 2.0, and remote read."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from kymograph.errors import KymographError
from kymograph.server.faults import Refusal, of_error
from kymograph.server.state import ServerState
from kymograph.store.remote.taking import Taken
from kymograph.wire import snappy
from kymograph.wire.remote import V1, V2
from kymograph.wire.remote_layout import PAD

_MEDIA = "application/x-protobuf"


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["prometheus"])

    @routes.post("/write", summary="Samples by remote write 1.0 or 2.0", status_code=204)
    async def write(request: Request) -> Response:
        version = _version(request)
        try:
            taken = await state.writes.run(_take, state, await request.body(), version)
        except KymographError as error:
            answer = of_error(error)
            answer.headers.update(_counts(Taken(0)))
            return answer
        return Response(status_code=204, headers=_counts(taken))

    @routes.post("/read", summary="Samples by remote read")
    async def read(request: Request) -> Response:
        _check(request)
        body = await request.body()
        found = await state.heavy.run(_read, state, body)
        headers = {"Content-Encoding": "snappy"}
        return Response(found, headers=headers, media_type=_MEDIA)

    return routes


def _take(state: ServerState, body: bytes, version: str) -> Taken:
    message = _unpacked(body, state.limits.write_bytes, PAD)
    taken = state.slot.get().take_remote_write(message, version, padded=True)
    state.slot.count(taken.samples)
    return taken


def _read(state: ServerState, body: bytes) -> bytes:
    request = _unpacked(body, state.limits.body_bytes)
    limits = state.limits.of_promql(None, lambda: False)
    return snappy.pack(state.slot.get().remote_read(request, limits))


def _unpacked(body: bytes, most: int, pad: int = 0) -> bytes:
    size = snappy.size(body)
    if size > most:
        raise Refusal(413, "body_too_large", f"the body is {size} bytes when unpacked, the limit is {most}")
    return snappy.unpack(body, pad)


def _counts(taken: Taken) -> dict[str, str]:
    """What of a message was written; senders of version 2 need it."""
    name = "X-Prometheus-Remote-Write-{}-Written"
    return {
        name.format("Samples"): str(taken.samples),
        name.format("Histograms"): "0",
        name.format("Exemplars"): "0",
    }


def _version(request: Request) -> str:
    """Which message the headers announce. Raises Refusal 415 where it is none that is known."""
    parameters = _check(request)
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "proto":
            found = value.strip().strip('"')
            if found not in (V1, V2):
                raise Refusal(415, "unsupported_media_type", f"the message {found[:80]!r} is not known", f"{V1}, {V2}")
            return found
    return V1


def _check(request: Request) -> list[str]:
    """The parameters of the content type, once that and the encoding are protobuf and snappy.

    Either may be left out: the first senders did.
    """
    media, *parameters = request.headers.get("content-type", _MEDIA).split(";")
    if media.strip().lower() != _MEDIA:
        raise Refusal(415, "unsupported_media_type", f"the Content-Type {media[:80]!r} is not known", _MEDIA)
    coding = request.headers.get("content-encoding", "snappy").strip().lower()
    if coding != "snappy":
        raise Refusal(415, "unsupported_encoding", f"the Content-Encoding {coding[:40]!r} is not known", "snappy")
    return parameters
