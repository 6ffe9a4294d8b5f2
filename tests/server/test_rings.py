"""The ring face: metrics become rings, which settle, thin out and go; who may do what."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from kymograph.server.routes.rings import wants_json
from kymograph.store import tokens
from tests.server.rings import NOW, ingest
from tests.server.running import Running, running


def test_a_metric_becomes_a_ring(http: httpx.Client) -> None:
    tags = {"host": "a", "größe": "🜚"}
    found = ingest(http, "gauge", {"name": "one", "tags": tags, "ts": NOW, "value": 1})
    number = found["metric_id"]
    assert found == {"metric_id": number, "accepted": 1}
    assert ingest(http, "gauge", {"metric_id": number, "ts": NOW + 1, "value": 2.5})["metric_id"] == number
    expected = {
        "metric_id": number, "name": "one", "kind": "gauge", "tags": tags, "step": 1, "slots": 3600, "unit": "", "help": "",
    }  # fmt: skip
    assert http.post("/metrics/lookup", json={"name": "one", "tags": tags}).json() == expected
    assert http.post("/metrics/lookup", json={"name": "one", "tags": {"host": "a"}}).json() == expected
    assert http.post("/metrics/lookup", json={"name": "one"}).json() == expected
    assert expected in http.get("/api/metrics").json()
    assert expected in http.get("/metrics", headers={"Accept": "application/json"}).json()
    series = http.get(f"/metrics/{number}/series").json()
    assert series["rows"] == [{"ts": NOW, "value": 1.0}, {"ts": NOW + 1, "value": 2.5}]
    assert (series["count"], series["metric_id"], series["name"]) == (2, number, "one")
    # and it is a metric like any other
    promql = http.get("/api/v1/query", params={"query": "sum_over_time(one[10s])", "time": NOW + 1}).json()
    assert float(promql["data"]["result"][0]["value"][1]) == 3.5
    assert http.post("/api/sql", json={"sql": "SELECT count(*) AS n FROM metric.one"}).json()["rows"] == [{"n": 2}]


@pytest.mark.parametrize(
    "other",
    [
        ("gauge", {"step": 2, "value": 1}), ("gauge", {"slots": 10, "value": 1}), ("counter", {"raw_value": 1}),
        ("counter", {"raw_value": 1, "step": 1, "slots": 3600}),
    ],
)  # fmt: skip
def test_another_kind_step_or_slots(http: httpx.Client, other: tuple[str, Any]) -> None:
    ingest(http, "gauge", {"name": "settled", "ts": 5, "value": 7, "step": 1, "slots": 3600})
    ingest(http, "gauge", {"name": "settled", "ts": 6, "value": 8})
    kind, fields = other
    error = ingest(http, kind, {"name": "settled", "ts": 7, **fields}, 409)["error"]
    assert error["code"] == "already_exists"
    assert "3600 slots of 1 s" in error["message"]
    # other tags are another metric
    ingest(http, kind, {"name": "settled", "tags": {"case": json.dumps(fields)}, "ts": 7, **fields})
    found = http.post("/metrics/lookup", json={"name": "settled"}).json()["metric_id"]
    assert [row["ts"] for row in http.get(f"/metrics/{found}/series").json()["rows"]] == [5, 6]


def test_a_conflict_within_a_body_stores_nothing(http: httpx.Client) -> None:
    body = [{"name": "twice", "ts": 1, "value": 1, "step": step} for step in (1, 2)]
    ingest(http, "gauge", body, 409)
    assert http.post("/metrics/lookup", json={"name": "twice"}).status_code == 404


def test_metrics_that_keep_every_sample(http: httpx.Client, served: Running) -> None:
    served.state.slot.get().gauge("plain", 1.0, {"host": "a"}, time=10**6)
    body = {"name": "plain", "tags": {"host": "a"}, "ts": 2, "value": 2}
    ingest(http, "gauge", {**body, "step": 1}, 409)
    ingest(http, "counter", {"name": "plain", "tags": {"host": "a"}, "ts": 2, "raw_value": 2}, 409)
    number = ingest(http, "gauge", body)["metric_id"]
    assert len(http.get(f"/metrics/{number}/series").json()["rows"]) == 2
    assert http.post(f"/metrics/{number}/retention", json={"slots": 5}).status_code == 409
    listed = next(one for one in http.get("/api/metrics").json() if one["metric_id"] == number)
    assert (listed["step"], listed["slots"]) == (None, None)
    assert http.delete(f"/metrics/{number}").status_code == 204
    assert http.get(f"/metrics/{number}/series").status_code == 404


def test_time_travel(http: httpx.Client) -> None:
    """The late never take what the newer have, whatever the order."""
    body = {"name": "late", "step": 10, "slots": 3}
    number = ingest(http, "gauge", {**body, "ts": 100, "value": 1})["metric_id"]
    for ts, value in ((130, 2), (100, 3), (129.999, 4), (-40, 5), (160, 6), (135, 7)):
        ingest(http, "gauge", {"metric_id": number, "ts": ts, "value": value})
    rows = http.get(f"/metrics/{number}/series").json()["rows"]
    assert [(row["ts"], row["value"]) for row in rows] == [(-40, 5), (129.999, 4), (160, 6)]


def test_retention(http: httpx.Client) -> None:
    for kind, field in (("gauge", "value"), ("counter", "raw_value")):
        body = [{"name": f"r_{kind}", "ts": t, field: t, "slots": 100} for t in range(150)]
        number = ingest(http, kind, body)["metric_ids"][0]
        changed = http.post(f"/metrics/{number}/retention", json={"step": 10, "slots": 5})
        assert changed.status_code == 200
        assert (changed.json()["step"], changed.json()["slots"], changed.json()["kind"]) == (10, 5, kind)
        rows = http.get(f"/metrics/{number}/series").json()["rows"]
        assert [row["ts"] for row in rows] == [109, 119, 129, 139, 149]
        ingest(http, kind, {"name": f"r_{kind}", "ts": 150, field: 1, "slots": 100}, 409)
        ingest(http, kind, {"name": f"r_{kind}", "ts": 150, field: 1, "step": 10, "slots": 5})
        for bad in ({}, {"step": 0}, {"slots": 0}, {"slots": -1}, {"step": "1"}, {"slots": 10**9}, {"x": 1}, []):
            assert http.post(f"/metrics/{number}/retention", json=bad).status_code == 400
        assert http.post(f"/metrics/{number}/retention", json={"slots": 6}).json()["step"] == 10


def test_deleting(http: httpx.Client) -> None:
    body = {"name": "gone", "tags": {"a": "b"}, "ts": 1}
    number = ingest(http, "gauge", {**body, "value": 1})["metric_id"]
    assert http.delete(f"/metrics/{number}").status_code == 204
    assert http.delete(f"/metrics/{number}").status_code == 404
    assert http.post("/metrics/lookup", json={"name": "gone", "tags": {"a": "b"}}).status_code == 404
    assert all(one["name"] != "gone" for one in http.get("/api/metrics").json())
    again = ingest(http, "counter", {**body, "ts": 2, "raw_value": 5, "step": 60})
    rows = http.get(f"/metrics/{again['metric_id']}/series").json()
    assert (rows["kind"], rows["step"], rows["rows"]) == ("counter", 60, [{"ts": 2, "value": 5.0}])


def test_first_writers_at_once(http: httpx.Client, served: Running) -> None:
    """However many make a metric at one time, there is one, and nobody's sample is lost."""
    barrier = threading.Barrier(8)

    def write(thread: int) -> list[int]:
        with served.client() as mine:
            barrier.wait()
            answers = [
                ingest(
                    mine, "gauge", {"name": f"race_{n}", "tags": {"b": "2", "a": "1"}, "ts": thread, "value": thread}
                )
                for n in range(5)
            ]
        return [answer["metric_id"] for answer in answers]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(write, range(8)))
    assert all(ids == found[0] for ids in found)
    for number in found[0]:
        assert [row["ts"] for row in http.get(f"/metrics/{number}/series").json()["rows"]] == list(range(8))


def test_first_writers_who_disagree(http: httpx.Client, served: Running) -> None:
    barrier = threading.Barrier(6)

    def write(thread: int) -> int:
        with served.client() as mine:
            barrier.wait()
            body = {"name": "quarrel", "ts": thread, "value": 1, "slots": 10 + thread % 2}
            return mine.post("/ingest/gauge", json=body).status_code

    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(write, range(6)))
    slots = http.post("/metrics/lookup", json={"name": "quarrel"}).json()["slots"]
    assert statuses == [200 if 10 + thread % 2 == slots else 409 for thread in range(6)]


@pytest.mark.parametrize(
    ("accept", "json_wanted"),
    [
        ("application/json", True), ("application/json, text/plain, */*", True), ("", False), ("*/*", False),
        ("text/plain", False), ("text/html,application/xhtml+xml,*/*;q=0.8", False), ("application/json;q=0", False),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", False),
        ("text/plain;q=0.5, application/json;q=0.9", True), ("text/plain, application/json;q=0.9", False),
        ("APPLICATION/JSON;q=x", False), (";;,,;q=", False),
    ],
)  # fmt: skip
def test_who_gets_json(http: httpx.Client, accept: str, json_wanted: bool) -> None:
    assert wants_json(accept) == json_wanted
    answer = http.get("/metrics", headers={"Accept": accept})
    assert answer.headers["content-type"].startswith("application/json" if json_wanted else "text/plain")


def test_namespaces_share_nothing(http: httpx.Client) -> None:
    assert http.post("/api/namespaces", json={"name": "solar"}).status_code == 201
    ingest(http, "gauge", {"name": "outer", "ts": 1, "value": 1})
    for prefix, value in (("", 1.0), ("/ns/solar", 2.0)):
        body = {"name": "shared", "ts": 1, "value": value, "slots": 10 + int(value)}
        number = http.post(f"{prefix}/ingest/gauge", json=body).json()["metric_id"]
        assert http.get(f"{prefix}/metrics/{number}/series").json()["rows"] == [{"ts": 1, "value": value}]
    assert [one["name"] for one in http.get("/ns/solar/api/metrics").json()] == ["shared"]
    assert {one["name"] for one in http.get("/api/metrics").json()} >= {"shared", "outer"}
    http.post("/ns/solar/dashboards", json={"slug": "inner"})
    assert http.get("/dashboards/inner").status_code == 404


def test_the_description_shows_what_bodies_are(http: httpx.Client) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    for path in ("/ingest/gauge", "/ingest/counter", "/dashboards", "/query", "/metrics/lookup"):
        assert "application/json" in paths[path]["post"]["requestBody"]["content"], path


def test_roles(tmp_path: Path) -> None:
    with running(tmp_path, auth=True) as server:
        store = server.state.slot.get()
        number = store.ring("m", "1s", 10).id
        requests: list[tuple[str, str, Any, str]] = [
            ("POST", "/ingest/gauge", {"name": "m", "ts": 1, "value": 1}, "write"),
            ("POST", "/ingest/counter", {"name": "c", "ts": 1, "raw_value": 1}, "write"),
            ("POST", "/query", {"sql": "SELECT 1 AS a"}, "read"),
            ("GET", "/api/metrics", None, "read"),
            ("GET", f"/metrics/{number}/series", None, "read"),
            ("POST", "/metrics/lookup", {"name": "m"}, "read"),
            ("POST", f"/metrics/{number}/retention", {"slots": 10}, "admin"),
            ("GET", "/dashboards", None, "read"),
            ("POST", "/dashboards", {"slug": "d"}, "write"),
            ("GET", "/dashboards/d", None, "read"),
            ("DELETE", "/dashboards/d", None, "admin"),
            ("DELETE", f"/metrics/{number}", None, "admin"),
        ]
        made = {role: tokens.create(store.engine, role) for role in tokens.ROLES}
        with server.client() as http:
            for method, path, body, needed in requests:
                assert http.request(method, path, json=body).status_code == 401
                for role in tokens.ROLES:
                    headers = {"Authorization": f"Bearer {made[role]}"}
                    if tokens.ROLES.index(role) < tokens.ROLES.index(needed):
                        assert http.request(method, path, json=body, headers=headers).status_code == 403, (path, role)
                headers = {"Authorization": f"Bearer {made[needed]}"}
                assert http.request(method, path, json=body, headers=headers).status_code < 300, path
