"""Access tokens: 256 random bits each, kept only as SHA-256 in documents of kind "token"."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time as clock
from collections.abc import Sequence
from typing import Any, Literal

from kymograph.engine.interface import Engine
from kymograph.errors import InvalidInput, NotFound

Role = Literal["read", "write", "admin"]
# each role may do what the ones before it may
ROLES = ("read", "write", "admin")
DOCUMENT = "token"
PREFIX = "kymo_"
_LENGTH = len(PREFIX) + 43


def create(engine: Engine, role: str, name: str = "") -> str:
    """Make a token and return its text: the only time that it can be seen.

    Args:
        role: read, write or admin.
        name: what it is for, for people; at most 100 characters.

    Raises:
        InvalidInput: another role, or a name that is none.
        StorageError, ReadOnly: it is not stored.
    """
    if role not in ROLES:
        raise InvalidInput(f"{role!r} is not a role", hint="one of " + ", ".join(ROLES))
    if not isinstance(name, str) or len(name) > 100 or not all(c.isprintable() for c in name):
        raise InvalidInput(f"{name!r} is not a name for a token", hint="at most 100 printable characters")
    token = PREFIX + secrets.token_urlsafe(32)
    key = secrets.token_hex(4)
    while engine.get_document(DOCUMENT, key) is not None:
        key = secrets.token_hex(4)
    about = {"sha256": _digest(token), "role": role, "name": name, "created": clock.time_ns() // 1000}
    engine.put_document(DOCUMENT, key, about)
    return token


def verify(engine: Engine, token: str) -> Role | None:
    """The role of a token, None when there is no such token.

    The time taken depends on how many tokens there are, never on what they have in common with this one.
    """
    if not isinstance(token, str) or len(token) != _LENGTH or not token.isascii():
        token = ""
    digest = _digest(token)
    role = None
    for about in engine.documents(DOCUMENT).values():
        if hmac.compare_digest(about["sha256"], digest):
            role = about["role"]
    return role


def list(engine: Engine) -> Sequence[dict[str, Any]]:  # noqa: A001  read as tokens.list(…)
    """Every token, oldest first: id, role, name, created (µs). The tokens themselves are not known."""
    found = [
        {"id": key, "role": about["role"], "name": about["name"], "created": about["created"]}
        for key, about in engine.documents(DOCUMENT).items()
    ]
    return sorted(found, key=lambda token: (token["created"], token["id"]))


def revoke(engine: Engine, id: str) -> None:
    """Forget a token by its id; it is refused from then on. Raises NotFound."""
    if engine.get_document(DOCUMENT, id) is None:
        raise NotFound(f"there is no token {id!r}", hint="`kymo token list` names them")
    engine.put_document(DOCUMENT, id, None)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
