"""Namespaces over HTTP: /ns/{name}/ has every face of the store, and nothing of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from kymograph.server.limits import Limits
from kymograph.server.state import ServerState
from kymograph.store import tokens
from tests.folders import size_of
from tests.server.running import Running, running


def two(state: ServerState) -> None:
    store = state.slot.get()
    store.gauge("power", 1, time=1_000_000)
    store.create_namespace("solar", cap="50MB").gauge("power", 2, time=1_000_000)


def values(server: Running, prefix: str = "") -> list[str]:
    with server.client() as client:
        found = client.get(f"{prefix}/api/v1/query", params={"query": "power", "time": "1"}).json()
    return [each["value"][1] for each in found["data"]["result"]]


def test_the_same_question_in_two_namespaces(tmp_path: Path) -> None:
    with running(tmp_path, prepare=two) as server, server.client() as client:
        assert values(server) == ["1"]
        assert values(server, "/ns/solar") == ["2"]
        sql = {"sql": "SELECT value FROM metric.power"}
        assert client.post("/ns/solar/api/sql", json=sql).json()["rows"] == [{"value": 2.0}]
        assert client.get("/ns/solar/api/info").json()["cap_bytes"] == 50_000_000
        assert client.get("/api/namespaces").json() == {"namespaces": ["solar"]}
        made = client.post("/api/namespaces", json={"name": "cars", "age": "30d"})
        assert (made.status_code, made.json()) == (
            201,
            {"name": "cars", "cap_bytes": None, "age_us": 30 * 86_400_000_000},
        )
        assert values(server, "/ns/cars") == []
        assert client.get("/api/namespaces").json() == {"namespaces": ["cars", "solar"]}
        assert client.post("/api/namespaces", json={"name": "cars"}).status_code == 409


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/ns/nothing/api/info", 404),
        ("/ns/..%2fsolar/api/info", 400),
        ("/ns//api/info", 400),
        ("/ns/solar", 404),
        ("/ns/solar/", 404),
        ("/ns/solar/ns/solar/api/info", 404),
        ("/ns/solar/api/tokens", 404),
        ("/ns/solar/api/namespaces", 404),
        ("/ns/" + "x" * 100 + "/api/info", 400),
    ],
)
def test_paths_that_lead_nowhere(tmp_path: Path, path: str, status: int) -> None:
    with running(tmp_path, prepare=two) as server, server.client() as client:
        answer = client.get(path)
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"code", "message", "hint"}
        assert [each.name for each in (tmp_path / "namespaces").iterdir()] == ["solar"]


@pytest.mark.parametrize("body", [{}, {"name": "../x"}, {"name": "A"}, {"name": "a", "cap": "much"}, {"name": 3}, []])
def test_namespaces_that_cannot_be_made(body: object) -> None:
    with running() as server, server.client() as client:
        answer = client.post("/api/namespaces", json=body)
        assert 400 <= answer.status_code < 500
        assert client.get("/api/namespaces").json() == {"namespaces": []}


def test_roles_are_those_of_the_path_behind_the_prefix() -> None:
    with running(auth=True, limits=Limits(failures_per_minute=1000), prepare=two) as server, server.client() as client:
        engine = server.state.slot.get().engine
        read, admin = ({"Authorization": f"Bearer {tokens.create(engine, role, 't')}"} for role in ("read", "admin"))
        assert client.get("/ns/solar/api/info").status_code == 401
        assert client.get("/ns/solar/api/info", headers=read).status_code == 200
        assert client.post("/ns/solar/api/prune", headers=read).status_code == 403
        assert client.post("/ns/solar/api/prune", headers=admin).status_code == 200
        assert client.post("/api/namespaces", headers=read, json={"name": "x"}).status_code == 403


def test_namespaces_are_open_from_the_start(tmp_path: Path) -> None:
    def fill(state: ServerState) -> None:
        solar = state.slot.get().create_namespace("solar")
        solar.write(
            "noise", {"time": list(range(50_000)), "text": [f"{n * 7919 % 1_000_003:x}" for n in range(50_000)]}
        )

    with running(tmp_path, prepare=fill):
        pass
    broken = tmp_path / "namespaces" / "broken"
    broken.mkdir()
    (broken / "catalog.db").write_bytes(b"nothing of the kind" * 1000)
    with running(tmp_path) as server, server.client() as client:
        inside = size_of(tmp_path / "namespaces" / "solar")
        assert inside > 100_000
        assert client.get("/api/info").json()["usage_bytes"] > inside
        assert client.get("/ns/solar/api/info").json()["rows"] == 50_000


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("/write?precision=years", b"m f=1", 400),
        ("/write", b"m,f=1", 400),
        ("/api/v1/write", b"no message", 400),
        ("/api/v1/query?query=(", b"", 400),
        ("/api/v1/query?query=up&time=never", b"", 400),
        ("/ingest/gauge", b"{", 400),
    ],
)
def test_what_is_wrong_is_told_as_without_a_namespace(tmp_path: Path, path: str, content: bytes, status: int) -> None:
    with running(tmp_path, prepare=two) as server, server.client() as client:
        plain, within = (client.post(prefix + path, content=content) for prefix in ("", "/ns/solar"))
        assert plain.status_code == status
        assert (within.status_code, within.content) == (plain.status_code, plain.content)
