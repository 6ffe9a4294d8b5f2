"""/api/retention against a real server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import kymograph
from kymograph.model.time import HOUR
from tests.server.running import running

JUNIORS = '{team="jüniors"}'


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    now = time.time_ns() // 1000
    with kymograph.connect(tmp_path / "s") as store:
        for team in ("jüniors", "seniors"):
            for step in range(60):
                store.gauge("m", float(step), {"team": team}, time=now - step * 2 * HOUR)
        store.create_namespace("solar")
    with running(tmp_path / "s") as server, server.client() as client:
        yield client


def test_an_age_lives_and_dies(client: httpx.Client) -> None:
    assert client.get("/api/retention").json() == []
    made = client.post("/api/retention", json={"series": JUNIORS, "age": "3d"})
    assert made.status_code == 200
    assert made.json() == [{"series": JUNIORS, "age": "3d", "boundary": None, "matched": 1}]
    would = client.post("/api/prune", json={"dry_run": True}).json()
    went = client.post("/api/prune", json={"force": True}).json()
    assert would["rows"] == went["rows"] == 24
    assert {(one["table"], one["reason"]) for one in went["victims"]} == {("samples", f"age of {JUNIORS}")}
    told = client.get("/api/retention").json()[0]
    assert told["boundary"].endswith("Z") or told["boundary"].endswith("+00:00")
    left = client.get("/api/v1/query", params={"query": "sort(count_over_time(m[10d]))"}).json()["data"]["result"]
    assert [one["value"][1] for one in left] == ["36", "60"]
    assert client.get("/ns/solar/api/retention").json() == []
    assert client.delete("/ns/solar/api/retention", params={"series": JUNIORS}).status_code == 404
    assert client.delete("/api/retention", params={"series": '{ team = "jüniors" }'}).status_code == 204
    gone = client.delete("/api/retention", params={"series": JUNIORS})
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "not_found")
    assert client.get("/api/retention").json() == []


BAD: list[object] = [
    {},
    [],
    {"series": JUNIORS},
    {"age": "3d"},
    {"series": "", "age": "3d"},
    {"series": "{", "age": "3d"},
    {"series": "{}", "age": "3d"},
    {"series": "m[5m]", "age": "3d"},
    {"series": '{team=~"("}', "age": "3d"},
    {"series": '{team="\ud800"', "age": "3d"},
    {"series": JUNIORS, "age": "soon"},
    {"series": JUNIORS, "age": "0s"},
    {"series": JUNIORS, "age": "-1d"},
    {"series": JUNIORS, "age": 3},
    {"series": JUNIORS, "age": "99999999999999999999d"},
    {"series": JUNIORS, "age": "3d", "bytes": "1MB"},
    {"series": "{" * 100_000, "age": "3d"},
]


@pytest.mark.parametrize("body", BAD, ids=lambda body: str(body)[:40])
def test_bad_requests(client: httpx.Client, body: object) -> None:
    answer = client.post("/api/retention", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"]
    assert client.get("/api/retention").json() == []


def test_bad_deletions(client: httpx.Client) -> None:
    assert client.delete("/api/retention").status_code == 400
    assert client.delete("/api/retention", params={"series": "{"}).status_code == 400
    assert client.put("/api/retention", json={}).status_code == 405
