"""Rows of streams in and out: text, packed binary and Arrow, in bounded memory both ways."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Header, Request, Response
from starlette.requests import ClientDisconnect

from kymograph.errors import InvalidInput
from kymograph.model.interval import Intervals
from kymograph.model.stream import Layout
from kymograph.server.faults import Refusal
from kymograph.server.routes.answers import json_answer, streamed
from kymograph.server.routes.stream.words import Flag, Moment, StreamPath, existing, form_or_json, span
from kymograph.server.staging import Decoder, Staging
from kymograph.server.state import ServerState
from kymograph.store.streams.stream import Stream
from kymograph.wire.streams.arrow import MEDIA as ARROW
from kymograph.wire.streams.arrow import ArrowDecoder, ArrowEncoder
from kymograph.wire.streams.binary import BinaryDecoder, encode_binary
from kymograph.wire.streams.text import TextDecoder, encode_text

BINARY, TEXT, LINES = "application/octet-stream", "text/plain", "application/x-json-stream"
# what is handed to a thread at once
_PIECE = 1 << 20
_ROWS = 1 << 17


def router(state: ServerState) -> APIRouter:
    routes = APIRouter()

    @routes.put("/stream/insert", summary="Insert rows: all of the body, or nothing")
    async def insert(
        request: Request, path: StreamPath, start: Moment = None, end: Moment = None, binary: Flag = False
    ) -> Response:
        low, high = span(start, end)
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        staging = await state.light.run(_staging, state, path, binary, kind)
        try:
            held = bytearray()
            async for piece in request.stream():
                held += piece
                if len(held) >= _PIECE:
                    data, held = bytes(held), bytearray()
                    await state.heavy.run(staging.feed, data)
            await state.heavy.run(staging.feed, bytes(held))
            rows = await state.heavy.run(staging.insert, low, high)
            state.slot.count(rows)
        except ClientDisconnect:
            raise Refusal(400, "incomplete_body", "the connection closed before the body was complete") from None
        finally:
            await state.light.run(staging.close)
        return json_answer(None)

    @routes.get("/stream/extract", summary="Rows of a stream, or their number")
    async def extract(
        *,
        path: StreamPath,
        start: Moment = None,
        end: Moment = None,
        count: Flag = False,
        markup: Flag = False,
        binary: Flag = False,
        accept: Annotated[str, Header()] = "",
    ) -> Response:
        low, high = span(start, end)
        stream = await state.light.run(lambda: existing(state.slot.get(), path))
        if count:
            rows = await state.heavy.run(stream.count, low, high)
            return Response(f"{rows}\n", media_type=TEXT)
        if markup and binary:
            raise InvalidInput("markup is lines of text: it cannot be in binary data")
        if ARROW in accept:
            return await streamed(state.heavy, ARROW, _arrow(stream, low, high))
        if binary:
            chunks = stream.chunks(low, high, rows=_ROWS)
            return await streamed(state.heavy, BINARY, (encode_binary(chunk) for chunk in chunks))
        return await streamed(state.heavy, TEXT, _lines(stream, low, high, markup))

    @routes.get("/stream/intervals", summary="What is covered, a JSON line per interval")
    async def intervals(
        path: StreamPath, start: Moment = None, end: Moment = None, diffpath: StreamPath | None = None
    ) -> Response:
        low, high = span(start, end)

        def ask() -> Intervals:
            store = state.slot.get()
            other = None if diffpath is None else existing(store, diffpath)
            if other is not None and other.layout != existing(store, path).layout:
                raise InvalidInput(f"{path} and {diffpath} have different layouts")
            return existing(store, path).intervals(low, high, diff=other)

        found = await state.heavy.run(ask)
        return await streamed(state.heavy, LINES, _listed(found))

    @routes.post("/stream/remove", summary="Remove rows and what they cover; answers with their number")
    async def remove(request: Request) -> Response:
        asked = await form_or_json(request, "path", optional=("start", "end"))
        low, high = span(asked.get("start"), asked.get("end"))
        rows = await state.heavy.run(lambda: existing(state.slot.get(), asked["path"]).remove(low, high))
        return Response(f"{rows}\r\n", media_type=LINES)

    return routes


def _staging(state: ServerState, path: str, binary: bool, kind: str) -> Staging:
    store = state.slot.get()
    stream = existing(store, path)
    if stream.level:
        raise InvalidInput(f"{path} is a level of a pyramid", hint="insert into the stream itself")
    folder = Path(store.path)
    most = (
        state.limits.upload_bytes
        if store.options.cap is None
        else min(state.limits.upload_bytes, store.options.cap // 8)
    )
    return Staging(stream, _decoder(stream.layout, binary, kind), folder if folder.is_dir() else None, most)


def _decoder(layout: Layout, binary: bool, kind: str) -> Decoder:
    if kind == ARROW:
        return ArrowDecoder(layout)
    if binary:
        if kind not in (BINARY, ""):
            raise InvalidInput(f"binary data comes as {BINARY}, not {kind[:60]!r}")
        return BinaryDecoder(layout)
    return TextDecoder(layout)


def _lines(stream: Stream, low: int | None, high: int | None, markup: bool) -> Iterator[bytes]:
    if not markup:
        for chunk in stream.chunks(low, high, rows=_ROWS):
            yield encode_text(chunk)
        return
    for start, end in stream.intervals(low, high):
        yield b"# interval-start %d\n" % start
        for chunk in stream.chunks(start, end, rows=_ROWS):
            yield encode_text(chunk)
        yield b"# interval-end %d\n" % end


def _arrow(stream: Stream, low: int | None, high: int | None) -> Iterator[bytes]:
    encoder = ArrowEncoder(stream.columns)
    for chunk in stream.chunks(low, high, rows=_ROWS):
        yield encoder.feed(chunk)
    yield encoder.finish(np.empty(0, stream.layout.levels if stream.level else stream.layout.rows))


def _listed(found: Intervals) -> Iterator[bytes]:
    pairs = np.stack([found.starts, found.ends], axis=1)
    for at in range(0, len(pairs), 10_000):
        yield b"".join(json.dumps(pair).encode() + b"\r\n" for pair in pairs[at : at + 10_000].tolist())
