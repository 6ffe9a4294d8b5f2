"""Both scrape the same page and evaluate the same rules: rules, alerts and targets look alike."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest

from kymograph.collect.scrape import ScrapeCollector
from kymograph.server.state import ServerState
from tests.prometheus.conftest import RULES
from tests.server.running import eventually, running

# what depends on the clock, or on where a file is
_VARYING = ("activeAt", "evaluationTime", "file", "lastEvaluation", "lastError")


@pytest.fixture(scope="module")
def ours(page: int) -> Iterator[httpx.Client]:
    def prepare(state: ServerState) -> None:
        state.slot.get().load_rules([RULES / "page.yml"])

    scrape = partial(ScrapeCollector, f"http://127.0.0.1:{page}/metrics", 1_000_000, job="page")
    with running(collectors=[scrape], prepare=prepare) as server, server.client() as client:
        yield client


def settled(client: httpx.Client) -> Any:
    """The answer of /rules once every rule was evaluated and the alert fires."""

    def groups() -> Any:
        return client.get("/api/v1/rules").json()["data"]["groups"]

    def there() -> bool:
        rules = {rule["name"]: rule for group in groups() for rule in group["rules"]}
        states = rules["Requested"]["state"], rules["Patient"]["state"], rules["twice"]["health"]
        return states == ("firing", "pending", "err")

    assert eventually(there), groups()
    return groups()


def stable(value: Any) -> Any:
    """An answer without what varies."""
    if isinstance(value, dict):
        return {key: stable(one) for key, one in value.items() if key not in _VARYING}
    if isinstance(value, str) and value.startswith("<error expanding template: "):
        return "<error expanding template: …>"  # Go says where in its template
    return [stable(one) for one in value] if isinstance(value, list) else value


def test_rules(prometheus: httpx.Client, ours: httpx.Client) -> None:
    theirs, mine = settled(prometheus), settled(ours)
    assert stable(theirs) == stable(mine)
    for groups in (theirs, mine):
        (problem,) = [rule["lastError"] for group in groups for rule in group["rules"] if rule["health"] == "err"]
        assert problem.startswith("found duplicate series for the match group {} on the right hand-side")


def test_alerts(prometheus: httpx.Client, ours: httpx.Client) -> None:
    found = []
    for client in (prometheus, ours):
        settled(client)
        alerts = client.get("/api/v1/alerts").json()["data"]["alerts"]
        found.append(sorted(stable(alerts), key=lambda alert: alert["labels"]["alertname"]))
    assert found[0] == found[1]
    assert len(found[0]) == 2


def test_what_they_recorded(prometheus: httpx.Client, ours: httpx.Client) -> None:
    for query in ("job:requests:double", "ALERTS", "ALERTS_FOR_STATE > bool 0", 'up{job="page"}', "twice"):
        found = []
        for client in (prometheus, ours):
            settled(client)
            result = client.get("/api/v1/query", params={"query": query}).json()["data"]["result"]
            found.append(sorted((sorted(one["metric"].items()), one["value"][1]) for one in result))
        assert found[0] == found[1], query
        assert found[0] or query == "twice"


def _is_up(client: httpx.Client) -> bool:
    return bool(client.get("/api/v1/targets").json()["data"]["activeTargets"][0]["health"] == "up")


def test_targets(prometheus: httpx.Client, ours: httpx.Client) -> None:
    told = []
    for client in (prometheus, ours):
        assert eventually(partial(_is_up, client))
        data = client.get("/api/v1/targets", params={"state": "active"}).json()["data"]
        assert data["droppedTargets"] == []
        told.append(data["activeTargets"][0])
    for key in ("scrapeUrl", "lastError", "health", "scrapeInterval", "labels"):
        if key == "labels":
            assert told[0][key]["instance"] == told[1][key]["instance"]
        else:
            assert told[0][key] == told[1][key], key
    assert told[0].keys() <= told[1].keys() | {"scrapeTimeout"}
