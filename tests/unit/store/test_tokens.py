"""Tokens: shown once, kept as hashes, verified, revoked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kymograph.errors import InvalidInput, NotFound
from kymograph.store import tokens
from kymograph.store.store import Store


def test_the_life_of_a_token(store: Store) -> None:
    made = {role: tokens.create(store.engine, role, f"for {role}") for role in tokens.ROLES}
    assert all(token.startswith("kymo_") and len(token) == 48 for token in made.values())
    assert len(set(made.values())) == 3
    for role, token in made.items():
        assert tokens.verify(store.engine, token) == role
    listed = tokens.list(store.engine)
    assert [(one["role"], one["name"]) for one in listed] == [(role, f"for {role}") for role in tokens.ROLES]
    tokens.revoke(store.engine, listed[1]["id"])
    assert tokens.verify(store.engine, made["write"]) is None
    assert tokens.verify(store.engine, made["admin"]) == "admin"
    with pytest.raises(NotFound):
        tokens.revoke(store.engine, listed[1]["id"])


def test_only_hashes_are_kept(store: Store) -> None:
    token = tokens.create(store.engine, "read")
    kept = json.dumps(dict(store.engine.documents("token")))
    assert token not in kept
    assert token.removeprefix("kymo_") not in kept


@pytest.mark.parametrize("token", ["", "kymo_", "kymo_" + "a" * 43, "x" * 48, "é" * 48, None, 7, b"kymo_", "k" * 10**6])
def test_what_is_no_token(store: Store, token: Any) -> None:
    real = tokens.create(store.engine, "admin")
    assert tokens.verify(store.engine, token) is None
    assert tokens.verify(store.engine, real + " ") is None
    assert tokens.verify(store.engine, real.swapcase()) is None


def test_roles_and_names_that_are_none(store: Store) -> None:
    for role, name in (("root", ""), ("", ""), ("read", "x" * 101), ("read", "a\nb"), ("read", None)):
        with pytest.raises(InvalidInput):
            tokens.create(store.engine, role, name)  # type: ignore[arg-type]
    assert tokens.list(store.engine) == []
