"""What Prometheus' API wraps its answers in."""

from __future__ import annotations

from typing import Any

import httpx


def data(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["status"] == "success"
    return body["data"]


def failure(answer: httpx.Response, status: int, kind: str) -> str:
    body = answer.json()
    assert (answer.status_code, body["status"], body["errorType"]) == (status, "error", kind), answer.text
    assert body.keys() == {"status", "errorType", "error"}
    return str(body["error"])
