"""How much any client may ask of the server, in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kymograph.options import QueryLimits
from kymograph.promql.limits import PromLimits


@dataclass(frozen=True)
class Limits:
    """Bounds on what comes in, on what is kept waiting and on what a query may use.

    Attributes:
        target_bytes: path and query string of a request; beyond it 414.
        header_bytes: all headers; beyond it 431, or 400 and the connection closes.
        body_bytes: request body, with or without a Content-Length; beyond it 413.
        write_bytes: the same where rows or samples are written, as sent and when unpacked.
        upload_bytes: rows of one insertion into a stream, whose body is read piece by piece; beyond it 413 or 422. Each
            piece must come within `write_seconds`.
        held_bytes: bodies of writes being read or stored at one time, together; one more gets 503.
        head_seconds: from opening a connection (or from the last answer) to a complete request head.
        body_seconds: from the head to the end of the body; beyond it 408.
        write_seconds: the same where rows or samples are written.
        stall_seconds: a client that takes nothing of an answer for so long is cut off.
        connections: open sockets, WebSockets included; one more gets 503 at once.
        requests: requests being answered at one time; one more gets 503.
        watchers: WebSocket clients; one more gets 503.
        message_bytes: one WebSocket message from a client (none is needed at all).
        messages_per_minute: WebSocket messages from one client before it is closed with 1008.
        query_seconds, query_memory: of one SQL query; bytes of the query engine's memory pool.
        prom_series, prom_samples: what one PromQL query may select and read; beyond it 422. It has `query_seconds` too.
        query_rows: result rows of a JSON answer; beyond it 422.
        stream_rows: result rows of a CSV or Arrow answer, which is streamed; beyond it 422 or, once
            streaming has begun, a cut-off connection.
        queries: SQL queries and exports at work at one time; `waiting` more may wait, others get 503.
        recheck_seconds: how often the token behind an open WebSocket is looked at again.
        failures_per_minute: wrong tokens from one address before it gets 429.
    """

    target_bytes: int = 8 * 2**10
    header_bytes: int = 32 * 2**10
    body_bytes: int = 1 * 2**20
    write_bytes: int = 64 * 2**20
    upload_bytes: int = 4 * 2**30
    held_bytes: int = 256 * 2**20
    head_seconds: float = 15.0
    body_seconds: float = 20.0
    write_seconds: float = 60.0
    stall_seconds: float = 60.0
    connections: int = 1024
    requests: int = 128
    watchers: int = 512
    message_bytes: int = 4 * 2**10
    messages_per_minute: int = 120
    query_seconds: float = 30.0
    query_memory: int = 256 * 2**20
    prom_series: int = 50_000
    prom_samples: int = 50_000_000
    query_rows: int = 10_000
    stream_rows: int = 5_000_000
    queries: int = 4
    waiting: int = 32
    recheck_seconds: float = 15.0
    failures_per_minute: int = 10

    def of_query(self, *, streamed: bool) -> QueryLimits:
        """What the SQL door passes on to the query engine."""
        rows = self.stream_rows if streamed else self.query_rows
        return QueryLimits(timeout=self.query_seconds, memory=self.query_memory, rows=rows)

    def of_promql(self, seconds: float | None, cancelled: Callable[[], bool]) -> PromLimits:
        """What the PromQL door passes on; a client may ask for less time, never for more."""
        granted = self.query_seconds if seconds is None else min(seconds, self.query_seconds)
        return PromLimits(self.prom_series, self.prom_samples, granted, cancelled)
