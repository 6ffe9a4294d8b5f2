"""What writing over HTTP needs beside its routes: which paths write, and bodies that come compressed."""

from __future__ import annotations

import zlib

from kymograph.server.faults import Refusal

# POST here takes rows or samples: the role `write` suffices, and bodies may be as large as `Limits.write_bytes`
WRITES = frozenset(
    {
        "/write",
        "/api/v2/write",
        "/api/v1/influx/write",
        "/v1/metrics",
        "/api/v1/otlp/v1/metrics",
        "/api/v1/import",
        "/api/v1/import/prometheus",
        "/api/v1/write",
        "/api/import",
        "/ingest/gauge",
        "/ingest/counter",
    }
)
# what zlib is asked for in one step
_STEP = 1 << 20


def is_streamed(method: str, path: str) -> bool:
    """Whether the route reads the body itself, piece by piece, because it may be larger than memory."""
    return method == "PUT" and path == "/stream/insert"


def is_write(method: str, path: str) -> bool:
    return method == "POST" and path in WRITES


def unpacked(body: bytes, coding: str, most: int) -> bytes:
    """A body without its Content-Encoding (gzip, deflate or none).

    Raises:
        Refusal: 415 for another coding, 400 for bytes that are not of that coding or cut off, 413 when more than
            `most` bytes come out; no more than that is ever unpacked.
    """
    name = coding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in ("gzip", "x-gzip", "deflate"):
        raise Refusal(415, "unsupported_encoding", f"the Content-Encoding {name[:40]!r} is not known", "gzip, deflate")
    parts: list[bytes] = []
    size = 0
    rest = body
    while rest:
        # several gzip members one after the other are one text
        inflate = zlib.decompressobj(wbits=15 if name == "deflate" else 31)
        try:
            while rest and not inflate.eof:
                parts.append(inflate.decompress(rest, _STEP))
                size += len(parts[-1])
                if size > most:
                    raise Refusal(413, "body_too_large", f"the body exceeds {most} bytes when unpacked")
                rest = inflate.unconsumed_tail
        except zlib.error as problem:
            raise Refusal(400, "invalid_request", f"the body is not {name}: {problem}") from None
        if not inflate.eof:
            raise Refusal(400, "incomplete_body", f"the {name} body is cut off")
        rest = inflate.unused_data
    return b"".join(parts)
