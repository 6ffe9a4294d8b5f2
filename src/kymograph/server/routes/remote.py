"""/api/v1/write and /api/v1/read: Prometheus' remote write 1.0 and 2.0, and remote read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fastapi import APIRouter, Request, Response

from kymograph.errors import KymographError
from kymograph.server.direct import Answered, Handler
from kymograph.server.faults import Refusal
from kymograph.server.gather import Gather
from kymograph.server.state import ServerState
from kymograph.store.remote.taking import Taken
from kymograph.wire import snappy
from kymograph.wire.remote.decoder import V1, V2

WRITE = "/api/v1/write"
_MEDIA = b"application/x-protobuf"
# unpacked bytes that are stored together
_GROUP = 16 * 2**20
# while one waits for the disk the other reads messages
_WORKERS = 2
_NAMES = [b"x-prometheus-remote-write-%s-written" % kind for kind in (b"samples", b"histograms", b"exemplars")]


class _Body(NamedTuple):
    """A message as it came, its version, and its unpacked size."""

    data: bytes
    version: str
    size: int


def writer(state: ServerState) -> Handler:
    """What answers a POST to `WRITE`."""
    most = state.limits.write_bytes

    def store(bodies: Sequence[_Body]) -> list[Taken | KymographError]:
        taken = state.slot.get().take_remote_writes([(body.data, body.version) for body in bodies])
        state.slot.count(sum(one.samples for one in taken if isinstance(one, Taken)))
        return taken

    gather: Gather[_Body, Taken] = Gather(state.writes, store, lambda body: body.size, _GROUP, _WORKERS)

    async def write(headers: Mapping[bytes, bytes], _: bytes, body: bytes) -> Answered:
        try:
            taken = await gather.run(_Body(body, _version(headers), _size(body, most)))
        except KymographError as error:
            raise Refusal(error.status, error.code, error.message, error.hint, _nothing(error)) from error
        counts = zip(_NAMES, (taken.samples, 0, taken.exemplars), strict=True)
        return 204, [(name, b"%d" % count) for name, count in counts], b""

    return write


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["prometheus"])
    write_body = writer(state)

    @routes.post("/write", summary="Samples by remote write 1.0 or 2.0", status_code=204)
    async def write(request: Request) -> Response:
        status, headers, _ = await write_body(dict(request.headers.raw), b"", await request.body())
        return Response(status_code=status, headers={name.decode(): value.decode() for name, value in headers})

    @routes.post("/read", summary="Samples by remote read")
    async def read(request: Request) -> Response:
        _check(dict(request.headers.raw))
        body = await request.body()
        _size(body, state.limits.body_bytes)
        found = await state.heavy.run(_read, state, body)
        return Response(found, headers={"Content-Encoding": "snappy"}, media_type=_MEDIA.decode())

    return routes


def _nothing(error: KymographError) -> dict[str, str]:
    """Headers of a refused write: how much was stored, and when to try again."""
    told = {name.decode(): "0" for name in _NAMES}
    return {**told, "Retry-After": "2"} if error.status == 503 else told


def _read(state: ServerState, body: bytes) -> bytes:
    limits = state.limits.of_promql(None, lambda: False)
    return snappy.pack(state.slot.get().remote_read(snappy.unpack(body), limits))


def _size(body: bytes, most: int) -> int:
    """Bytes of the unpacked body, which are at most `most`."""
    size = snappy.size(body)
    if size > most:
        raise Refusal(413, "body_too_large", f"the body is {size} bytes when unpacked, the limit is {most}")
    return size


def _version(headers: Mapping[bytes, bytes]) -> str:
    """Which message the headers announce. Raises Refusal 415 where it is none that is known."""
    for parameter in _check(headers):
        name, _, value = parameter.partition(b"=")
        if name.strip().lower() == b"proto":
            found = value.strip().strip(b'"').decode("latin-1")
            if found not in (V1, V2):
                raise Refusal(415, "unsupported_media_type", f"the message {found[:80]!r} is not known", f"{V1}, {V2}")
            return found
    return V1


def _check(headers: Mapping[bytes, bytes]) -> list[bytes]:
    """The parameters of the content type, once that and the encoding are protobuf and snappy.

    Either may be left out: the first senders did.
    """
    media, *parameters = headers.get(b"content-type", _MEDIA).split(b";")
    if media.strip().lower() != _MEDIA:
        said = media[:80].decode("latin-1")
        raise Refusal(415, "unsupported_media_type", f"the Content-Type {said!r} is not known", _MEDIA.decode())
    coding = headers.get(b"content-encoding", b"snappy").strip().lower()
    if coding != b"snappy":
        said = coding[:40].decode("latin-1")
        raise Refusal(415, "unsupported_encoding", f"the Content-Encoding {said!r} is not known", "snappy")
    return parameters
