"""`serve` as a process with rules, an Alertmanager and a path prefix; what is wrong with them is said at the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

import kymograph
from kymograph.server.app import serve
from tests.prometheus.test_alertmanager import receiving
from tests.server.running import TRUST, eventually
from tests.server.test_serve import process

RULES = """
groups:
- name: g
  interval: 200ms
  rules:
  - alert: Always
    expr: vector(1)
    annotations: {where: '{{ $externalURL }}'}
  - alert: Patient
    expr: vector(2)
    for: 1h
"""


def asked(url: str) -> Any:
    return httpx.get(url, timeout=60, trust_env=False, verify=TRUST).json()["data"]


def test_rules_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "rules.yml"
    path.write_text(RULES)
    with receiving() as receiver:
        options = {
            "dir": str(tmp_path / "store"),
            "sync": "normal",
            "rules": [str(path)],
            "alertmanagers": [receiver.url],
            "path_prefix": "kymo/",
        }
        since = []
        for _ in range(2):
            receiver.requests.clear()
            with process(**options) as server:
                assert server.url.endswith("/kymo")
                assert eventually(receiver.alerts), server.said
                (alert,) = receiver.alerts()
                assert alert["labels"] == {"alertname": "Always"}
                assert alert["annotations"] == {"where": server.url}
                assert alert["generatorURL"].startswith(f"{server.url}/api/v1/query?query=")
                found = asked(alert["generatorURL"])
                assert found["result"][0]["value"][1] == "1"

                def patient(url: str = server.url) -> list[str]:
                    alerts = asked(f"{url}/api/v1/alerts")["alerts"]
                    return [one["activeAt"] for one in alerts if one["labels"]["alertname"] == "Patient"]

                assert eventually(patient)  # a rule is evaluated after the alerts of the one before it were told
                since += patient()
                assert server.stop() == 0, server.said
                assert "Traceback" not in server.said
    assert len(since) == 2
    with kymograph.connect(tmp_path / "store", read_only=True) as store:
        assert len(store.series('ALERTS_FOR_STATE{alertname="Patient"}')) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rules": ["/nowhere/rules.yml"]}, "/nowhere/rules.yml: No such file"),
        ({"alertmanagers": ["nonsense"]}, "nonsense"),
        ({"alertmanagers": ["http://a", "http://a"]}, "twice"),
        ({"path_prefix": "/a b"}, "'/a b' is not a path prefix"),
        ({"path_prefix": "/../x"}, "is not a path prefix"),
        ({"path_prefix": "/a?b"}, "is not a path prefix"),
    ],
)
def test_what_is_wrong_is_said_at_the_start(
    tmp_path: Path, options: dict[str, Any], says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert serve(tmp_path / "store", port=0, **options) == 1
    said = capfd.readouterr().err
    assert says in said
    assert "Traceback" not in said
    kymograph.connect(tmp_path / "store").close()
