"""Tables, info, health, prune and the server's own metrics."""

from __future__ import annotations

import time

import pytest

from kymograph.model.time import HOUR, SECOND
from kymograph.wire.exposition.page import parse
from tests.server.conftest import GPUS, ROWS
from tests.server.running import Running, running


def test_tables(recorded: Running) -> None:
    with recorded.client() as http:
        tables = {table["name"]: table for table in http.get("/api/tables").json()}
    assert set(tables) == {"gpu_metrics", "samples"}
    gpus = tables["gpu_metrics"]
    assert gpus["labels"] == ["gpu_uuid", "hostname", "pci_bus_id", "name", "source"]
    assert gpus["fields"]["gpu_temp"] == "float64"
    assert (gpus["rows"], gpus["series"]) == (GPUS * ROWS, GPUS)
    assert gpus["oldest"].endswith("Z")


def test_info(recorded: Running) -> None:
    with recorded.client() as http:
        info = http.get("/api/info").json()
    assert info["rows"] == GPUS * ROWS + 10
    assert info["path"] == "memory:"
    assert info["newest"].endswith("Z")
    assert set(info["tables"]) == {"gpu_metrics", "samples"}


def test_health(living: Running) -> None:
    with living.client() as http:
        health = http.get("/api/health").json()
    assert health["status"] == "ok"
    assert health["store"]["ok"]
    assert [each["name"] for each in health["collectors"]] == ["simulate", "host"]
    assert {each["state"] for each in health["collectors"]} == {"running"}


def test_own_metrics_are_valid_exposition(living: Running) -> None:
    with living.client() as http:
        http.get("/nothing/here")
        http.request("PURGE", "/api/info")
        first = http.get("/metrics")
        second = http.get("/metrics")
    assert first.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in parse(second.content)}
    counted = families["kymograph_http_requests_total"]
    by_route = {(s.labels["route"], s.labels["status"], s.labels["method"]): s.value for s in counted.samples}
    assert by_route["/metrics", "200", "GET"] >= 1
    assert by_route["other", "404", "GET"] >= 1
    assert any(method == "other" for _, _, method in by_route)
    assert all("here" not in route for route, _, _ in by_route)
    assert families["kymograph_store_up"].samples[0].value == 1
    assert families["kymograph_rows_written_total"].samples[0].value > 0
    states = {
        s.labels["collector"]: s.labels["state"] for s in families["kymograph_collector_state"].samples if s.value
    }
    assert states == {"simulate": "running", "host": "running"}
    buckets = families["kymograph_http_request_duration_seconds"].samples
    assert {s.labels["le"] for s in buckets if s.name.endswith("_bucket")} >= {"0.005", "+Inf"}


def test_prune() -> None:
    def fill(state: object) -> None:
        store = state.slot.get()  # type: ignore[attr-defined]
        old = time.time_ns() // 1000 - 72 * HOUR
        store.write("t", {"time": [old + n * SECOND for n in range(100)], "v": list(range(100))})
        from kymograph.options import Retention

        store.set_retention("t", Retention(age="1h"))

    with running(prepare=fill) as server, server.client() as http:
        dry = http.post("/api/prune", json={"dry_run": True}).json()
        assert (dry["dry_run"], dry["rows"]) == (True, 100)
        assert dry["victims"][0]["table"] == "t"
        assert dry["victims"][0]["start"].endswith("Z")
        done = http.post("/api/prune").json()
        assert (done["dry_run"], done["rows"]) == (False, 100)
        assert http.post("/api/prune", json={"force": True}).json()["rows"] == 0
        assert http.get("/api/prune").status_code == 405
        for body in ({"dry_run": "yes"}, {"dry_run": None}, {"x": 1}, [], 5):
            assert http.post("/api/prune", json=body).status_code == 400


@pytest.mark.parametrize(
    "path", ["/nothing", "/api", "/api/", "/api/info/", "/api/telemetry", "/API/info", "/%00", "/\u00e4"]
)
def test_unknown_paths(recorded: Running, path: str) -> None:
    with recorded.client() as http:
        answer = http.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "PURGE", "POST"])
def test_wrong_methods(recorded: Running, method: str) -> None:
    with recorded.client() as http:
        answer = http.request(method, "/api/info")
    assert answer.status_code == 405
    assert answer.json()["error"]["code"] == "method_not_allowed"


def test_the_description_covers_every_path(recorded: Running) -> None:
    with recorded.client() as http:
        spec = http.get("/openapi.json").json()
        assert http.get("/docs").status_code == 200
    for path in ("/api/sql", "/api/tables", "/api/info", "/api/health", "/api/prune", "/metrics", "/api/tokens"):
        assert path in spec["paths"]
    telemetry = [path for path in spec["paths"] if path.startswith("/api/telemetry/")]
    assert sorted(path.removeprefix("/api/telemetry/") for path in telemetry) == [
        "database/stats", "export", "history", "stats/{gpu_index}",
    ]  # fmt: skip


def test_a_defect_shows_no_traceback(recorded: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(recorded.state.slot, "get", broken)
    with recorded.client() as http:
        answer = http.get("/api/tables")
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "internal_error"
        assert "secret" not in answer.text
