"""Both scrape the same page and evaluate the same rules: rules, alerts and targets look alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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

    scrape = partial(ScrapeCollector, f"http://127.0.0.1:{page}/metrics", 1_000_000, job="page", timeout=10.0)
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


def same(look: Callable[[httpx.Client], Any], theirs: httpx.Client, ours: httpx.Client) -> Any:
    """What both see; one that could not scrape or evaluate in time is looked at again."""
    found = []

    def alike() -> bool:
        found[:] = look(theirs), look(ours)
        return bool(found[0] == found[1])

    for client in (theirs, ours):
        settled(client)
    assert eventually(alike), found
    return found[0]


def test_alerts(prometheus: httpx.Client, ours: httpx.Client) -> None:
    def alerts(client: httpx.Client) -> Any:
        told = client.get("/api/v1/alerts").json()["data"]["alerts"]
        return sorted(stable(told), key=lambda alert: str(alert["labels"]["alertname"]))

    assert len(same(alerts, prometheus, ours)) == 2


@pytest.mark.parametrize(
    "query", ["job:requests:double", "ALERTS", "ALERTS_FOR_STATE > bool 0", 'up{job="page"} == 1', "twice"]
)
def test_what_they_recorded(prometheus: httpx.Client, ours: httpx.Client, query: str) -> None:
    def recorded(client: httpx.Client) -> Any:
        result = client.get("/api/v1/query", params={"query": query}).json()["data"]["result"]
        return sorted((sorted(one["metric"].items()), one["value"][1]) for one in result)

    assert same(recorded, prometheus, ours) or query == "twice"


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
