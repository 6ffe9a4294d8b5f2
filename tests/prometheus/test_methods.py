"""Methods and paths that Prometheus' API does not have, and which methods it says it has."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.prometheus.envelope import failure
from tests.server.running import Running


@pytest.fixture(scope="module")
def ours(kymograph: Running) -> Iterator[httpx.Client]:
    with kymograph.client() as client:
        yield client


def allowed(answer: httpx.Response) -> list[str]:
    return sorted(answer.headers["allow"].split(", "))


@pytest.mark.parametrize(
    "path", ["query", "query_range", "labels", "label/job/values", "metadata", "rules", "status/flags"]
)
def test_methods(path: str, prometheus: httpx.Client, ours: httpx.Client) -> None:
    for method in ("PUT", "DELETE", "PATCH", "HEAD"):
        theirs, mine = (client.request(method, f"/api/v1/{path}") for client in (prometheus, ours))
        assert (theirs.status_code, mine.status_code) == (405, 405)
        assert allowed(theirs) == allowed(mine)
    mine = ours.options(f"/api/v1/{path}")
    assert (prometheus.options(f"/api/v1/{path}").status_code, mine.status_code, mine.content) == (204, 204, b"")
    assert allowed(mine) == allowed(ours.put(f"/api/v1/{path}"))


def test_no_such_path(ours: httpx.Client) -> None:
    for path in ("nothing", "query/", "label/job", "status/nothing", "", "queryx", "writes"):
        assert "Not Found" in failure(ours.get(f"/api/v1/{path}"), 404, "not_found")
    assert ours.get("/api/nothing").json()["error"]["code"] == "not_found"
    assert ours.put("/api/v1/write").json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["query", "labels", "nothing"])
def test_pages_of_others_get_no_permission(path: str, ours: httpx.Client) -> None:
    """Where a page may ask only with a preflight, the browser is told nothing that lets it."""
    for method in ("OPTIONS", "GET", "POST"):
        headers = {"Origin": "http://grafana.example", "Access-Control-Request-Method": "POST"}
        answer = ours.request(method, f"/api/v1/{path}", headers=headers)
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.startswith("access-control")]
