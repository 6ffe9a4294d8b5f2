"""What a client sees when something is wrong: one JSON shape, never a traceback."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from kymograph.errors import KymographError

log = logging.getLogger("kymograph.server")

_HINTS = {
    404: "see /docs for what is there",
    405: "see /docs for the methods of this path",
}


class Refusal(Exception):
    """A request that ends before any route sees it.

    Attributes:
        status: HTTP status.
        code, message, hint: the body's three fields.
        headers: to send along, such as Retry-After.
    """

    def __init__(
        self, status: int, code: str, message: str, hint: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.hint = status, code, message, hint
        self.headers = headers or {}


def fault_body(code: str, message: str, hint: str = "") -> bytes:
    """The JSON of one error: `{"error": {"code", "message", "hint"}}`."""
    return json.dumps({"error": {"code": code, "message": message[:4000], "hint": hint[:1000]}}).encode()


def fault(status: int, code: str, message: str, hint: str = "", headers: dict[str, str] | None = None) -> Response:
    return Response(fault_body(code, message, hint), status, headers, "application/json")


def of_refusal(refusal: Refusal) -> Response:
    return fault(refusal.status, refusal.code, refusal.message, refusal.hint, refusal.headers)


def of_error(error: KymographError) -> Response:
    headers = {"Retry-After": "2"} if error.status == 503 else None
    return fault(error.status, error.code, error.message, error.hint, headers)


def unexpected(request: str, error: BaseException) -> Response:
    """A defect of ours: logged with its traceback, answered without."""
    log.error("unexpected error in %s", request, exc_info=error)
    return fault(500, "internal_error", "the server failed to answer this request", "its log says why")


async def _known(_: Request, error: Exception) -> Response:
    assert isinstance(error, KymographError)
    if error.status >= 500 and error.status not in (501, 503, 507):
        log.error("request failed: %s", error, exc_info=error)
    return of_error(error)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return of_refusal(error)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = []
    for problem in error.errors()[:5]:
        place = ".".join(str(part) for part in problem.get("loc", ()) if part not in ("query", "path", "body"))
        problems.append(f"{place or 'body'}: {problem.get('msg', 'is not valid')}")
    return fault(400, "invalid_input", "; ".join(problems), "see /docs for what this path takes")


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = error.status_code
    phrase = HTTPStatus(status).phrase
    message = error.detail if isinstance(error.detail, str) and error.detail else phrase
    headers = dict(error.headers) if error.headers else None
    return fault(status, phrase.lower().replace(" ", "_"), message, _HINTS.get(status, ""), headers)


def install(app: FastAPI) -> None:
    """Give every kind of failure of `app` the one shape."""
    app.add_exception_handler(KymographError, _known)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
