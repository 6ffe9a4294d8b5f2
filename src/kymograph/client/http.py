"""One connection pool to a server: requests whose failures are our errors, bodies as streams both ways."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import urllib3
from urllib3.exceptions import HTTPError

from kymograph._version import __version__
from kymograph.errors import (
    AccessError,
    AlreadyExists,
    InvalidInput,
    KymographError,
    LimitExceeded,
    NotFound,
    Overlap,
    StorageError,
)

_ERRORS: dict[int, type[KymographError]] = {
    400: InvalidInput,
    401: AccessError,
    403: AccessError,
    404: NotFound,
    409: AlreadyExists,
    413: LimitExceeded,
    422: LimitExceeded,
}
_CONNECT, _READ = 10.0, 120.0
_PIECE = 1 << 18


class Connection:
    """Requests to one server. Safe for many threads.

    Args:
        url: `http://host:port`, with a path prefix such as `/ns/solar` if wanted.
        token: what the server asks for, None where it asks for none.

    Raises (every method):
        StorageError: the server cannot be reached, or answers 5xx. Others as the server says.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise InvalidInput(f"{url!r} is not a URL", hint="write it like http://127.0.0.1:8000")
        self.url = url.rstrip("/")
        headers = {"User-Agent": f"kymograph/{__version__}"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        timeout = urllib3.Timeout(connect=_CONNECT, read=_READ)
        self._pool = urllib3.PoolManager(headers=headers, timeout=timeout, retries=False)

    def get_json(self, path: str, fields: Mapping[str, Any]) -> Any:
        """The JSON of an answer."""
        with self._asked("GET", path, fields) as answer:
            return _json(answer.data)

    def post(self, path: str, body: Mapping[str, Any]) -> bytes:
        """The body of the answer to a JSON object."""
        with self._asked("POST", path, {}, json.dumps(body).encode(), "application/json") as answer:
            return bytes(answer.data)

    def delete(self, path: str) -> None:
        with self._asked("DELETE", path, {}) as answer:
            answer.drain_conn()

    def put(self, path: str, fields: Mapping[str, Any], body: bytes | Iterable[bytes], kind: str) -> None:
        """Send a body; an iterable goes out chunk by chunk."""
        with self._asked("PUT", path, fields, body, kind) as answer:
            answer.drain_conn()

    def stream(self, path: str, fields: Mapping[str, Any]) -> Iterator[bytes]:
        """The body of an answer as it comes. Raises StorageError when it breaks off."""
        with self._asked("GET", path, fields) as answer:
            yield from answer.stream(_PIECE)

    def close(self) -> None:
        self._pool.clear()

    @contextmanager
    def _asked(
        self,
        method: str,
        path: str,
        fields: Mapping[str, Any],
        body: bytes | Iterable[bytes] | None = None,
        kind: str | None = None,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        query = urlencode([(name, value) for name, value in fields.items() if value is not None], doseq=True)
        headers = {**self._pool.headers, **({"Content-Type": kind} if kind else {})}
        url = f"{self.url}{path}{'?' if query else ''}{query}"
        chunked = body is not None and not isinstance(body, bytes)
        try:
            answer = self._pool.urlopen(
                method, url, body=body, headers=headers, preload_content=False, redirect=False, chunked=chunked
            )
            try:
                if not 200 <= answer.status < 300:
                    raise _failure(answer.status, answer.read(1 << 16))
                yield answer
            finally:
                answer.release_conn()
                answer.close()
        except (HTTPError, OSError) as problem:
            raise StorageError(f"{self.url} cannot be reached, or broke off: {problem}") from problem


def _failure(status: int, body: bytes) -> KymographError:
    """What the server's answer says, as the error that was raised there."""
    try:
        found = json.loads(body)
        message = found["message"] if "message" in found else found["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = body[:200].decode("utf-8", "replace")
    kind = _ERRORS.get(status, StorageError)
    if kind is InvalidInput and " overlaps [" in message:
        kind = Overlap
    return kind(f"the server answers {status}: {message}")


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        raise StorageError("the server's answer is no JSON") from None
