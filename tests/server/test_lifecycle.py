"""/-/healthy, /-/ready, /-/reload and SIGHUP."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kymograph.server.alerting import Alerting
from kymograph.server.state import ServerState
from kymograph.store import tokens
from tests.server.running import Running, eventually, running
from tests.server.test_serve import process

RULES = "groups: [{name: %s, rules: [{record: a, expr: vector(1)}]}]"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "rules.yml"
    found.write_text(RULES % "first")
    return found


@pytest.fixture
def server(path: Path) -> Iterator[Running]:
    def prepare(state: ServerState) -> None:
        state.rules = Alerting([path], [])
        state.rules.attach(state.slot.get())

    with running(prepare=prepare) as found:
        yield found


def groups(url: str) -> list[str]:
    found = httpx.get(f"{url}/api/v1/rules", timeout=60, trust_env=False).json()["data"]["groups"]
    return [group["name"] for group in found]


def reloaded(server: Running) -> tuple[bool, str]:
    with server.client() as http:
        told: dict[str, Any] = http.get("/api/v1/status/runtimeinfo").json()["data"]
    return told["reloadConfigSuccess"], told["lastConfigTime"]


def test_healthy_and_ready(server: Running) -> None:
    with server.client() as http:
        for path in ("/-/healthy", "/-/ready"):
            assert http.get(path).status_code == http.head(path).status_code == 200
        assert http.get("/-/healthy").text.strip() == "Kymograph is Healthy."


def test_reload(server: Running, path: Path) -> None:
    with server.client() as http:
        assert groups(server.url) == ["first"]
        success, first = reloaded(server)
        assert success
        path.write_text(RULES % "second")
        for method in ("POST", "PUT"):
            answer = http.request(method, "/-/reload")
            assert (answer.status_code, answer.text) == (200, "")
        assert groups(server.url) == ["second"]
        success, second = reloaded(server)
        assert success
        assert second > first
        assert http.get("/-/reload").status_code == 405


def test_a_file_that_is_wrong_keeps_the_rules(server: Running, path: Path) -> None:
    with server.client() as http:
        path.write_text(RULES.replace("vector(1)", "'vector('") % "second")
        answer = http.post("/-/reload")
        assert answer.status_code == 500
        assert "rules.yml" in answer.text
        assert groups(server.url) == ["first"]
        assert not reloaded(server)[0]
        path.unlink()
        assert http.post("/-/reload").status_code == 500
        path.write_text(RULES % "third")
        assert http.post("/-/reload").status_code == 200
        assert groups(server.url) == ["third"]
        assert reloaded(server)[0]


def test_roles() -> None:
    with running(auth=True) as server, server.client() as http:
        engine = server.state.slot.get().engine
        assert http.get("/-/healthy").status_code == http.get("/-/ready").status_code == 200
        assert http.post("/-/reload").status_code == 401
        for role, status in (("read", 403), ("write", 403), ("admin", 200)):
            headers = {"Authorization": f"Bearer {tokens.create(engine, role, role)}"}
            assert http.post("/-/reload", headers=headers).status_code == status


def test_a_store_that_is_not_open(server: Running) -> None:
    server.state.slot.close()
    with server.client() as http:
        assert http.get("/-/healthy").status_code == 200
        assert http.get("/-/ready").status_code == 503
        assert http.post("/-/reload").status_code == 503


def test_hangup(tmp_path: Path, path: Path) -> None:
    with process(dir=str(tmp_path / "store"), rules=[str(path)], sync="off") as server:
        assert eventually(lambda: groups(server.url) == ["first"])
        path.write_text("groups: 5")
        server.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: "stay as they were" in server.said), server.said
        path.write_text(RULES % "second")
        server.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: groups(server.url) == ["second"]), server.said
        assert server.stop() == 0, server.said
        assert "Traceback" not in server.said
