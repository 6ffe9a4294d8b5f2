"""Alerts reach an Alertmanager: a small one that this file makes difficult, and a real one."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import pytest

from kymograph.collect.alertmanager import AlertSender
from kymograph.errors import InvalidInput
from kymograph.server.alerting import Alerting
from kymograph.server.state import ServerState
from kymograph.store.rules.alerts import Notice
from tests.ports import free_port
from tests.prometheus.servers import needed, served
from tests.server.running import TRUST, eventually, running

SECOND = 10**6
RULES = """
groups:
- name: quick
  interval: 100ms
  rules:
  - record: doubled
    expr: load * 2
  - alert: Loaded
    expr: load > 1
    labels: {severity: page, team: '{{ $labels.host }}s'}
    annotations: {summary: '{{ $labels.host }} has {{ $value }}'}
  - alert: Waiting
    expr: load > 1
    for: 1h
"""


class Receiver:
    """Takes what is posted, and answers as `status` says of the alerts.

    Attributes:
        requests: path, headers and JSON of every request.
        hold: while set, requests wait.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.status: Callable[[list[Any]], int] = lambda alerts: 200
        self.free = Event()
        self.free.set()
        self.url = ""

    def alerts(self) -> list[dict[str, Any]]:
        return [alert for _, _, alerts in self.requests for alert in alerts]


@contextmanager
def receiving() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            alerts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.free.wait(200)
            status = found.status(alerts)
            if status < 300:
                found.requests.append((self.path, dict(self.headers), alerts))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        found.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield found
        finally:
            found.free.set()
            server.shutdown()
            thread.join(10)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@contextmanager
def sending(*urls: str, **options: Any) -> Iterator[AlertSender]:
    sender = AlertSender(urls, **options)
    sender.start()
    try:
        yield sender
    finally:
        sender.stop()


def notice(name: str, starts: int = 0, ends: int = SECOND, **labels: str) -> Notice:
    return Notice({"alertname": name, **labels}, {"a": "b"}, starts, ends, "up == 0")


def test_what_is_sent(receiver: Receiver) -> None:
    with sending(receiver.url) as sender:
        sender.send([notice("Down", 1_500_000, 2_000_001, host="é")], "http://here:8000")
        assert eventually(lambda: receiver.requests)
    ((path, headers, alerts),) = receiver.requests
    assert (path, headers["Content-Type"]) == ("/api/v2/alerts", "application/json")
    assert alerts == [
        {
            "labels": {"alertname": "Down", "host": "é"},
            "annotations": {"a": "b"},
            "startsAt": "1970-01-01T00:00:01.500000Z",
            "endsAt": "1970-01-01T00:00:02.000001Z",
            "generatorURL": "http://here:8000/api/v1/query?query=up%20%3D%3D%200",
        }
    ]


def test_paths_and_passwords(receiver: Receiver) -> None:
    url = receiver.url.replace("http://", "http://user:p%40ss@") + "/base/"
    with sending(url) as sender:
        sender.send([notice("Down")])
        assert eventually(lambda: receiver.requests)
        assert sender.health()[0]["url"] == f"{receiver.url}/base/api/v2/alerts"
    path, headers, _ = receiver.requests[0]
    assert path == "/base/api/v2/alerts"
    assert headers["Authorization"] == "Basic " + base64.b64encode(b"user:p@ss").decode()


def test_many_go_in_batches(receiver: Receiver) -> None:
    with sending(receiver.url) as sender:
        sender.send([notice(f"n{n}") for n in range(200)])
        assert eventually(lambda: len(receiver.alerts()) == 200)
        assert eventually(lambda: sender.health()[0]["sent"] == 200)
    assert max(len(alerts) for _, _, alerts in receiver.requests) <= 64


def test_tried_again_until_it_works(receiver: Receiver) -> None:
    tries = count()
    # the first alert alone is refused, however often it is tried
    receiver.status = lambda alerts: 200 if len(alerts) == 2 else (500, 503)[next(tries) % 2]
    with sending(receiver.url) as sender:
        sender.send([notice("Down", ends=1)])
        assert eventually(lambda: sender.health()[0]["last_error"])
        # what comes meanwhile of the same alert takes the place of the older one
        sender.send([notice("Down", ends=2), notice("Other")])
        assert eventually(lambda: len(receiver.alerts()) == 2)
    ends = {alert["labels"]["alertname"]: alert["endsAt"] for alert in receiver.alerts()}
    assert ends["Down"] == "1970-01-01T00:00:00.000002Z"


def test_what_is_refused_is_not_tried_again(receiver: Receiver) -> None:
    receiver.status = lambda _: 400
    with sending(receiver.url) as sender:
        sender.send([notice("Down")])
        assert eventually(lambda: sender.health()[0]["dropped"] == 1)
        assert "HTTP 400" in sender.health()[0]["last_error"]
        receiver.status = lambda _: 200
        sender.send([notice("Up")])
        assert eventually(lambda: [alert["labels"]["alertname"] for alert in receiver.alerts()] == ["Up"])
        assert eventually(lambda: sender.health()[0]["last_error"] == "")


def test_one_that_hangs_holds_up_nobody(receiver: Receiver) -> None:
    """Neither who sends, nor another Alertmanager; and what waits is bounded."""
    with receiving() as hanging:
        hanging.free.clear()
        with sending(receiver.url, hanging.url, most=100) as sender:
            began = time.monotonic()
            for n in range(300):
                sender.send([notice(f"n{n}")])
            assert time.monotonic() - began < 60
            assert eventually(lambda: {one["labels"]["alertname"] for one in receiver.alerts()} >= {"n299"})
            waiting = sender.health()[1]
            assert waiting["waiting"] <= 100
            assert waiting["waiting"] + waiting["dropped"] >= 300 - 64
            hanging.free.set()
            assert eventually(lambda: sender.health()[1]["waiting"] == 0)


def test_nobody_listens() -> None:
    with sending(f"http://127.0.0.1:{free_port()}") as sender:
        sender.send([notice("Down")])
        assert eventually(lambda: "refused" in sender.health()[0]["last_error"])
        assert sender.health()[0]["waiting"] == 1


@pytest.mark.parametrize("url", ["", "localhost:9093", "ftp://x", "http://", "http://a/?b=c", "http://a b/"])
def test_wrong_urls(url: str) -> None:
    with pytest.raises(InvalidInput):
        AlertSender([url])


def test_twice_the_same() -> None:
    with pytest.raises(InvalidInput, match="twice"):
        AlertSender(["http://a", "http://a"])


@contextmanager
def alerted(tmp_path: Path, url: str) -> Iterator[tuple[httpx.Client, ServerState]]:
    """A server that evaluates `RULES` over one host that is loaded."""
    path = tmp_path / "rules.yml"
    path.write_text(RULES)
    alerting = Alerting([path], [url])
    alerting.url = "http://kymograph:8000"

    def prepare(state: ServerState) -> None:
        state.alerts = alerting.sender
        state.slot.get().gauge("load", 1.5, {"host": "a"})
        alerting.start()
        alerting.attach(state.slot.get())

    with running(prepare=prepare) as server, server.client() as client:
        yield client, server.state
    alerting.stop()


def settled(client: httpx.Client) -> None:
    """Wait until every rule was evaluated; an alert is told before the rules after its own are."""
    assert eventually(lambda: 'kymograph_rules{health="ok"} 3' in client.get("/metrics").text)


def test_from_rule_to_receiver(receiver: Receiver, tmp_path: Path) -> None:
    with alerted(tmp_path, receiver.url) as (client, state):
        assert eventually(receiver.alerts)
        (first,) = receiver.alerts()
        assert first["labels"] == {"alertname": "Loaded", "host": "a", "severity": "page", "team": "as"}
        assert first["annotations"] == {"summary": "a has 1.5"}
        assert first["startsAt"] < first["endsAt"]
        settled(client)
        alerts = client.get("/api/v1/alerts").json()["data"]["alerts"]
        assert [(one["labels"]["alertname"], one["state"], one["value"]) for one in alerts] == [
            ("Loaded", "firing", "1.5e+00"),
            ("Waiting", "pending", "1.5e+00"),
        ]
        told = client.get("/api/v1/alertmanagers").json()["data"]
        assert told == {
            "activeAlertmanagers": [{"url": f"{receiver.url}/api/v2/alerts"}],
            "droppedAlertmanagers": [],
        }
        found = client.get("/api/v1/query", params={"query": 'ALERTS{alertstate="firing"}'}).json()["data"]["result"]
        assert [one["metric"]["alertname"] for one in found] == ["Loaded"]
        sent = f'kymograph_alerts_sent_total{{alertmanager="{receiver.url}/api/v2/alerts"}} 1'
        assert eventually(lambda: sent in client.get("/metrics").text)
        # it ends
        state.slot.get().gauge("load", 0.5, {"host": "a"})
        assert eventually(lambda: len(receiver.alerts()) > 1)
        last = receiver.alerts()[-1]
        assert last["labels"] == first["labels"]
        assert last["endsAt"] < first["endsAt"]
        assert eventually(lambda: client.get("/api/v1/alerts").json()["data"] == {"alerts": []})


def test_rules_over_http(receiver: Receiver, tmp_path: Path) -> None:
    with alerted(tmp_path, receiver.url) as (client, _):
        assert eventually(receiver.alerts)
        settled(client)

        def rules(**asked: Any) -> list[dict[str, Any]]:
            groups = client.get("/api/v1/rules", params=asked).json()["data"]["groups"]
            return [rule for group in groups for rule in group["rules"]]

        (group,) = client.get("/api/v1/rules").json()["data"]["groups"]
        assert (group["name"], group["file"], group["interval"]) == ("quick", str(tmp_path / "rules.yml"), 0.1)
        recording, loaded, waiting = group["rules"]
        assert (recording["type"], recording["name"], recording["query"]) == ("recording", "doubled", "load * 2")
        assert recording["health"] == "ok"
        assert (loaded["type"], loaded["state"], loaded["duration"]) == ("alerting", "firing", 0)
        assert loaded["annotations"] == {"summary": "{{ $labels.host }} has {{ $value }}"}
        assert loaded["alerts"][0]["annotations"] == {"summary": "a has 1.5"}
        assert (waiting["state"], waiting["duration"], waiting["labels"]) == ("pending", 3600, {})
        assert [rule["name"] for rule in rules(type="alert")] == ["Loaded", "Waiting"]
        assert [rule["name"] for rule in rules(type="record")] == ["doubled"]
        assert [rule["name"] for rule in rules(**{"rule_name[]": "Waiting"})] == ["Waiting"]
        assert rules(**{"rule_group[]": "other"}) == rules(**{"file[]": "other"}) == []
        assert rules(exclude_alerts="true", type="alert")[0]["alerts"] == []
        for wrong in ({"type": "x"}, {"exclude_alerts": "x"}, {"group_next_token": "1"}):
            assert client.get("/api/v1/rules", params=wrong).status_code == 400
        # a namespace has its own
        assert client.get("/ns/nothing/api/v1/rules").status_code == 404


def test_a_real_alertmanager(tmp_path: Path) -> None:
    program = needed("prometheus-alertmanager")
    (tmp_path / "am.yml").write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    port = free_port()
    command = [
        program,
        f"--config.file={tmp_path / 'am.yml'}",
        f"--storage.path={tmp_path / 'am'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with served(command, f"http://127.0.0.1:{port}", tmp_path / "log") as url, alerted(tmp_path, url) as (_, state):

        def active() -> list[dict[str, Any]]:
            answer = httpx.get(
                f"{url}/api/v2/alerts", params={"active": "true"}, trust_env=False, verify=TRUST, timeout=60
            )
            return list(answer.json())

        assert eventually(active)
        (alert,) = active()
        assert alert["labels"] == {"alertname": "Loaded", "host": "a", "severity": "page", "team": "as"}
        assert alert["annotations"] == {"summary": "a has 1.5"}
        assert alert["generatorURL"] == "http://kymograph:8000/api/v1/query?query=load%20%3E%201"
        state.slot.get().gauge("load", 0.5, {"host": "a"})
        assert eventually(lambda: not active())
        assert state.alerts is not None
        assert state.alerts.health()[0]["dropped"] == 0
