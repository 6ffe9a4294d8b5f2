"""Who asks, and what they may do: tokens, roles, browser sessions and a brake on guessing.

Tokens are required whenever the server is bound to anything but loopback, and on loopback with `--auth`. Without
them every local user of the machine may do everything, as with any file they can read. Roles include the ones below:
read < write < admin.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.datastructures import QueryParams

from kymograph.server.faults import Refusal
from kymograph.server.incoming import is_write
from kymograph.server.limits import Limits
from kymograph.server.pool import Pool
from kymograph.store.tokens import ROLES

# no data in them: the page itself, its assets, the API's description, the door to get in, and whether it is open
_PUBLIC = frozenset({"/", "/docs", "/openapi.json", "/favicon.ico", "/api/session", "/-/healthy", "/-/ready"})
# what differs from the rule: GET needs read, writing rows needs write, every other method admin
_NEEDS = {
    ("POST", "/api/sql"): "read",
    ("PUT", "/stream/insert"): "write",
    ("POST", "/stream/create"): "write",
    ("POST", "/stream/set_metadata"): "write",
    ("POST", "/stream/update_metadata"): "write",
    ("POST", "/query"): "read",
    ("POST", "/metrics/lookup"): "read",
    ("POST", "/dashboards"): "write",
    ("GET", "/api/tokens"): "admin",
    ("HEAD", "/api/tokens"): "admin",
}

# questions in a body: forms, since a query may be longer than a URL, and remote read
_FORMS = re.compile(r"/api/v1/(?:query|query_range|query_exemplars|series|labels|format_query|parse_query|read)")

_REMEMBER = 5.0
_SESSION = 12 * 3600.0
_MOST_SESSIONS = 1024
_MOST_ADDRESSES = 4096
_MINUTE = 60.0

Verify = Callable[[str], str | None]


def needed_role(method: str, path: str) -> str | None:
    """The least role for a request; None where anyone may."""
    if path in _PUBLIC or path.startswith("/ui/"):
        return None
    if is_write(method, path):
        return "write"
    if method == "POST" and _FORMS.fullmatch(path):
        return "read"
    return _NEEDS.get((method, path), "read" if method in ("GET", "HEAD") else "admin")


@dataclass
class _Session:
    token: str
    until: float


class Gate:
    """Decides who gets in. All methods belong to the event loop.

    Args:
        required: whether tokens are asked for at all.
        verify: blocking; a token's role, None for a wrong one; raises StorageError while the store is not open.
    """

    def __init__(self, required: bool, verify: Verify, limits: Limits) -> None:
        self.required = required
        self._verify = verify
        self._limits = limits
        self._known: OrderedDict[bytes, tuple[str | None, float]] = OrderedDict()
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    async def admit(self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes], pool: Pool) -> None:
        """Let the request pass.

        Raises:
            Refusal: 401 without a valid token, 403 with one of too small a role, 429 after too many wrong ones.
            StorageError: tokens cannot be read since the store is not open.
        """
        needed = needed_role(scope.get("method", "GET"), scope["path"])
        if not self.required or needed is None:
            return
        token = self._presented(scope, headers)
        if token is None:
            raise Refusal(
                401,
                "token_required",
                "this server needs a token",
                "send it as 'Authorization: Bearer TOKEN'; kymo token create makes one",
                {"WWW-Authenticate": "Bearer"},
            )
        role = await self.check(token, scope, pool)
        if ROLES.index(role) < ROLES.index(needed):
            raise Refusal(403, "role_too_small", f"the token's role is {role}, this needs {needed}")

    async def check(self, token: str, scope: Mapping[str, Any], pool: Pool) -> str:
        """A token's role; wrong tokens count against the client's address. Raises Refusal 401 or 429."""
        now = time.monotonic()
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        role, until = self._known.get(digest, (None, 0.0))
        if role is None or until < now:
            address = _address(scope)
            self._brake(address, now)
            role = await pool.run(self._verify, token)
            if role is not None:
                self._known[digest] = (role, now + _REMEMBER)
                while len(self._known) > _MOST_SESSIONS:
                    self._known.popitem(last=False)
            else:
                self._known.pop(digest, None)
                self._count_failure(address, now)
        if role not in ROLES:
            raise Refusal(401, "token_wrong", "the token is not valid", "", {"WWW-Authenticate": "Bearer"})
        return role

    def _presented(self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> str | None:
        token = _authorization(headers.get(b"authorization", b"").decode("latin-1"))
        if token:
            return token
        if scope["type"] == "websocket":
            asked = QueryParams(scope["query_string"]).get("token")
            if asked:
                return asked
        return self._of_session(_cookie(headers, self.cookie_name(scope)))

    @staticmethod
    def cookie_name(scope: Mapping[str, Any]) -> str:
        # browsers share cookies between the ports of one host
        server = scope.get("server") or ("", 0)
        return f"kymo_{server[1]}"

    def open_session(self, token: str) -> tuple[str, int]:
        """A session id that stands for a checked token, and the seconds it lives."""
        session = secrets.token_urlsafe(32)
        self._sessions[session] = _Session(token, time.monotonic() + _SESSION)
        while len(self._sessions) > _MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return session, int(_SESSION)

    async def has_session(self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes], pool: Pool) -> bool:
        """Whether the request shows a token or session that is still good."""
        token = self._presented(scope, headers)
        if token is None:
            return False
        try:
            await self.check(token, scope, pool)
        except Refusal:
            return False
        return True

    def forget(self) -> None:
        """Ask the store again about every token: one was revoked."""
        self._known.clear()

    def end_session(self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> None:
        self._sessions.pop(_cookie(headers, self.cookie_name(scope)), None)

    def _of_session(self, session: str) -> str | None:
        found = self._sessions.get(session)
        if found is None:
            return None
        if found.until < time.monotonic():
            del self._sessions[session]
            return None
        return found.token

    def _brake(self, address: str, now: float) -> None:
        times = self._failures.get(address)
        if times is None:
            return
        while times and times[0] < now - _MINUTE:
            times.popleft()
        if len(times) >= self._limits.failures_per_minute:
            wait = str(int(times[0] + _MINUTE - now) + 1)
            raise Refusal(429, "too_many_failures", "too many wrong tokens", f"wait {wait} s", {"Retry-After": wait})

    def _count_failure(self, address: str, now: float) -> None:
        times = self._failures.setdefault(address, deque(maxlen=self._limits.failures_per_minute))
        times.append(now)
        self._failures.move_to_end(address)
        while len(self._failures) > _MOST_ADDRESSES:
            self._failures.popitem(last=False)


def _authorization(given: str) -> str:
    """The token of an Authorization header, "" when there is none.

    Beside Bearer, what writers of other protocols can send: `Token TOKEN` (Influx), and Basic with the token as the
    password and any name.
    """
    scheme, _, rest = given.partition(" ")
    scheme, rest = scheme.lower(), rest.strip()
    if scheme in ("bearer", "token"):
        return rest
    if scheme != "basic":
        return ""
    try:
        return base64.b64decode(rest, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def _address(scope: Mapping[str, Any]) -> str:
    host = str((scope.get("client") or ("", 0))[0])
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    # one IPv6 user has a whole /64 to guess from
    return str(ipaddress.ip_network((host, 64), strict=False)) if address.version == 6 else host


def _cookie(headers: Mapping[bytes, bytes], name: str) -> str:
    try:
        cookies = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
    except CookieError:
        return ""
    return cookies[name].value if name in cookies else ""
