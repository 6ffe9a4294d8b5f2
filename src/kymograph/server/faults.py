"""What a client sees when something is wrong: one JSON shape, never a traceback."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from http import HTTPStatus

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from kymograph.errors import KymographError
from kymograph.server import envelope, stream_envelope

log = logging.getLogger("kymograph.server")

_HINTS = {
    400: "see /docs for what this path takes",
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


def fault(
    status: int, code: str, message: str, hint: str = "", headers: dict[str, str] | None = None, path: str = ""
) -> Response:
    """The answer to a request that failed; `path` decides which API's shape it has."""
    body = fault_body(code, message, hint)
    for other in (envelope, stream_envelope):
        if other.speaks(path):
            body = other.failure(status, message[:4000], hint[:1000])
    return Response(body, status, headers, "application/json")


def of_refusal(refusal: Refusal, path: str = "") -> Response:
    return fault(refusal.status, refusal.code, refusal.message, refusal.hint, refusal.headers, path)


def of_error(error: KymographError, path: str = "") -> Response:
    if error.status >= 500 and error.status not in (501, 503, 507):
        log.error("request failed: %s", error, exc_info=error)
    headers = {"Retry-After": "2"} if error.status == 503 else None
    return fault(error.status, error.code, error.message, error.hint, headers, path)


def unexpected(request: str, error: BaseException, path: str = "") -> Response:
    """A defect of ours: logged with its traceback, answered without."""
    log.error("unexpected error in %s", request, exc_info=error)
    return fault(500, "internal_error", "the server failed to answer this request", "its log says why", path=path)


def of_any(error: Exception, request: str, path: str = "") -> Response:
    """The answer to what went wrong, whatever it is; `request` is what the log calls it by."""
    if isinstance(error, Refusal):
        return of_refusal(error, path)
    if isinstance(error, KymographError):
        return of_error(error, path)
    return unexpected(request, error, path)


async def _known(request: Request, error: Exception) -> Response:
    assert isinstance(error, KymographError)
    return of_error(error, request.scope["path"])


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return of_refusal(error, request.scope["path"])


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = []
    for problem in error.errors()[:5]:
        place = ".".join(str(part) for part in problem.get("loc", ()) if part not in ("query", "path", "body"))
        problems.append(f"{place or 'body'}: {problem.get('msg', 'is not valid')}")
    hint = "see /docs for what this path takes"
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and any(problem.get("loc") == ("body",) for problem in error.errors()):
        problems, hint = ["the body is not taken for JSON"], "send it with Content-Type: application/json"
    return fault(400, "invalid_input", "; ".join(problems), hint, path=request.scope["path"])


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = error.status_code
    phrase = HTTPStatus(status).phrase
    message = error.detail if isinstance(error.detail, str) and error.detail else phrase
    headers = dict(error.headers or {})
    if status == 405:
        headers["Allow"] = ", ".join(sorted(_methods(request) | set(headers.get("Allow", "").split(", "))))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=headers)
    code = "invalid_request" if status == 400 else phrase.lower().replace(" ", "_")
    hint = _HINTS.get(status, "")
    return fault(status, code, message, hint, headers, request.scope["path"])


def _methods(request: Request) -> set[str]:
    """What all routes with the path of a request take: the router tells only of the first."""
    found = {"OPTIONS"}
    for places, methods in request.app.state.places:
        found |= methods if places.fullmatch(request.scope["path"]) else set()
    return found


def install(app: FastAPI, routers: Iterable[APIRouter]) -> None:
    """Give every kind of failure of `app`, which consists of some routers, the one shape."""
    each = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    app.state.places = [(route.path_regex, route.methods or set()) for route in each]
    app.add_exception_handler(KymographError, _known)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
