"""What a client of the ring face sends, and asks."""

from __future__ import annotations

from typing import Any

import httpx
import pyarrow as pa

ARROW = {"Content-Type": "application/vnd.apache.arrow.stream"}
NOW = 1_790_000_000


def stream(**columns: Any) -> bytes:
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def ingest(http: httpx.Client, kind: str, body: Any, status: int = 200) -> Any:
    answer = http.post(f"/ingest/{kind}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def ask(http: httpx.Client, sql: str, status: int = 200, **given: Any) -> Any:
    answer = http.post("/query", json={"sql": sql, **given})
    assert answer.status_code == status, answer.text
    return answer.json()
