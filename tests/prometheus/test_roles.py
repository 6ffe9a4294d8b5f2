"""Who may ask Prometheus' API for what."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from kymograph.server.state import ServerState
from kymograph.store import tokens
from tests.prometheus.envelope import data, failure
from tests.prometheus.hosts import fill
from tests.server.running import Running, running


@pytest.fixture(scope="module")
def guarded() -> Iterator[tuple[Running, dict[str, str]]]:
    """A server that asks for tokens, and a token of each role."""
    made: dict[str, str] = {}

    def prepare(state: ServerState) -> None:
        fill(state)
        made.update({role: tokens.create(state.slot.get().engine, role) for role in tokens.ROLES})

    with running(auth=True, prepare=prepare) as server:
        yield server, made


class TestRoles:
    def asked(self, guarded: tuple[Running, dict[str, str]], role: str, method: str, path: str) -> httpx.Response:
        server, made = guarded
        headers = {"Authorization": f"Bearer {made[role]}"} if role else {}
        with server.client(headers=headers) as client:
            return client.request(method, path)

    def test_nobody(self, guarded: tuple[Running, dict[str, str]]) -> None:
        for method, path in (("GET", "query?query=1"), ("POST", "query?query=1"), ("GET", "status/buildinfo")):
            failure(self.asked(guarded, "", method, f"/api/v1/{path}"), 401, "unauthorized")

    def test_readers_may_ask_by_form(self, guarded: tuple[Running, dict[str, str]]) -> None:
        for path in ("query?query=1", "query_range?query=1&start=0&end=1&step=1", "series?match[]=m", "labels"):
            data(self.asked(guarded, "read", "POST", f"/api/v1/{path}"))
            data(self.asked(guarded, "read", "GET", f"/api/v1/{path}"))

    def test_only_admins_administrate(self, guarded: tuple[Running, dict[str, str]]) -> None:
        for path in ("delete_series?match[]=nothing", "clean_tombstones"):
            for role in ("read", "write"):
                failure(self.asked(guarded, role, "POST", f"/api/v1/admin/tsdb/{path}"), 403, "forbidden")
            assert self.asked(guarded, "admin", "POST", f"/api/v1/admin/tsdb/{path}").status_code == 204

    def test_basic_authentication(self, guarded: tuple[Running, dict[str, str]]) -> None:
        server, made = guarded
        with server.client(auth=("anyone", made["read"])) as client:
            data(client.get("/api/v1/query", params={"query": "1"}))
