"""docs/http.md names every path, and none that is not there; its codes and limits are the server's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kymograph import errors
from kymograph.options import StoreOptions
from kymograph.server.application import create_app
from kymograph.server.auth import Gate
from kymograph.server.limits import Limits
from kymograph.server.slot import StoreSlot
from kymograph.server.state import ServerState
from tests.docs.pages import page

HTTP = page("docs/http.md")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Any]:
    state = ServerState(StoreSlot(tmp_path, StoreOptions()), Gate(False, lambda _: None, Limits()))
    yield create_app(state)
    state.close()


def routes(app: Any) -> set[str]:
    found = set()
    for path, methods in walk(app.routes, ""):
        found.update(f"{method} {path}" for method in methods if method != "HEAD")
    return found


def walk(routes: Any, prefix: str) -> Iterator[tuple[str, set[str]]]:
    for route in routes:
        inner = getattr(route, "original_router", None) or getattr(route, "app", None)
        if hasattr(route, "path") and hasattr(route, "endpoint"):
            yield prefix + route.path, set(getattr(route, "methods", None) or {"WS"})
        elif hasattr(inner, "routes"):
            yield from walk(inner.routes, prefix)


def test_routes(app: Any) -> None:
    documented = {heading for heading in HTTP.headings() if re.match(r"(GET|POST|PUT|DELETE|WS) /", heading)}
    assert documented == routes(app)


def test_parameters(app: Any) -> None:
    for path, methods in app.openapi()["paths"].items():
        for method, about in methods.items():
            told = HTTP.section(f"{method.upper()} {path}")
            for parameter in about.get("parameters", []):
                if parameter["in"] in ("query", "path"):
                    assert f"{parameter['name']}`" in told or f"{parameter['name']}}}" in f"{path}", (
                        path,
                        parameter["name"],
                    )


def test_codes() -> None:
    documented = set(re.findall(r"`([a-z_]+)`", HTTP.section("Errors")))
    known = {one.code for one in vars(errors).values() if isinstance(one, type) and issubclass(one, Exception)}
    assert known <= documented


def test_limits() -> None:
    limits = Limits()
    told = HTTP.section("Security")
    for text in (
        f"{limits.target_bytes >> 10} KiB",
        f"{limits.header_bytes >> 10} KiB",
        f"{limits.body_bytes >> 20} MiB, {limits.body_seconds:g} s",
        f"| {limits.requests} |",
        f"| {limits.connections} |",
        f"| {limits.watchers} |",
        f"| {limits.queries}, and {limits.waiting} waiting |",
        f"| {limits.query_seconds:g} s, {limits.query_memory >> 20} MiB |",
        f"| {limits.query_rows:,} |",
        f"| {limits.stream_rows:,} |",
        f"| {limits.stall_seconds:g} s |",
        f"at most {limits.failures_per_minute} a minute",
    ):
        assert text in told, text
