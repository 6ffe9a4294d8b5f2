"""/api/rollups and /api/downsampling against a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import kymograph
from kymograph.model.time import HOUR, MINUTE, SECOND
from tests.server.running import running

BASE = 1_790_000_000 * SECOND // HOUR * HOUR


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    with kymograph.connect(tmp_path / "s") as store:
        for step in range(60):
            store.gauge("m", float(step), {"host": "a"}, time=BASE + step * 10 * SECOND)
    with running(tmp_path / "s") as server, server.client() as client:
        yield client


def test_a_rollup_lives_and_dies(client: httpx.Client) -> None:
    assert client.get("/api/rollups").json() == []
    made = client.post("/api/rollups", json={"name": "m_1m", "every": "1m", "keep": {"age": "30d"}})
    assert made.status_code == 201
    told = made.json()
    assert (told["every"], told["keep"], told["rows"], told["end_offset"]) == ("1m", "30d", 10, "1m")
    assert told["oldest"].startswith("2026-")
    query = {
        "name": "top",
        "query": "SELECT host, time_bucket('5m', time) AS t, max(value) AS top FROM metric.m GROUP BY 1, 2",
    }
    assert client.post("/api/rollups", json=query).status_code == 201
    assert [one["name"] for one in client.get("/api/rollups").json()] == ["m_1m", "top"]
    assert client.post("/api/rollups/m_1m/refresh").json() == {"rows": 0}
    span = {"start": BASE, "end": BASE + 2 * MINUTE}
    assert client.post("/api/rollups/m_1m/refresh", json=span).json() == {"rows": 2}
    assert client.delete("/api/rollups/top").status_code == 204
    assert client.delete("/api/rollups/top").status_code == 404


BAD: list[tuple[object, int]] = [
    ({}, 400),
    ({"name": "x", "colour": "red"}, 400),
    ({"name": 7}, 400),
    ({"name": "x", "every": "sometimes"}, 400),
    ({"name": "x", "every": 60}, 400),
    ({"name": "no name"}, 400),
    ({"name": "x", "source": "nowhere"}, 404),
    ({"name": "x", "keep": {"age": "-1d"}}, 400),
    ({"name": "x", "query": "DELETE FROM samples"}, 400),
    ({"name": "x" * 200}, 400),
    ({"name": "x", "by": ["\ud800"]}, 400),
    ({"name": "samples"}, 409),
]


def test_bad_requests(client: httpx.Client) -> None:
    for body, status in BAD:
        text, headers = json.dumps(body), {"Content-Type": "application/json"}
        answer = client.post("/api/rollups", content=text, headers=headers)
        assert answer.status_code == status, (body, answer.text)
        assert answer.json()["error"]["message"]
    assert client.get("/api/rollups").json() == []


def test_downsampling(client: httpx.Client) -> None:
    before = client.get(
        "/api/v1/query", params={"query": "stddev_over_time(m[10m])", "time": (BASE + 10 * MINUTE) / 1e6}
    )
    done = client.post("/api/downsampling/run", json={"older_than": "1d", "interval": "1m", "labels": {"host": ["a"]}})
    assert done.status_code == 200
    assert (done.json()["samples"], done.json()["summaries"]) == (60, 11)
    after = client.get(
        "/api/v1/query", params={"query": "stddev_over_time(m[10m])", "time": (BASE + 10 * MINUTE) / 1e6}
    )
    old, new = (float(answer.json()["data"]["result"][0]["value"][1]) for answer in (before, after))
    assert new == pytest.approx(old, rel=1e-12)
    policy = client.post("/api/downsampling", json={"policy": "1h -> 1m, 1w -> 5m", "name": "m"})
    assert [(one["older_than"], one["interval"]) for one in policy.json()] == [(None, "1m"), ("1h", "1m"), ("7d", "5m")]
    assert client.get("/api/downsampling").json() == policy.json()
    assert client.post("/api/downsampling", json={"policy": "nonsense"}).status_code == 400
    assert client.post("/api/downsampling/run", json={"older_than": "1d", "interval": "7s"}).status_code == 400
