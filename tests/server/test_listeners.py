"""`kymo serve` with its listeners: what is sent to them is asked for over HTTP."""

from __future__ import annotations

import socket
from functools import partial

import pytest

from kymograph.collect.graphite import GraphiteCollector
from kymograph.collect.statsd import StatsdCollector
from kymograph.errors import InvalidInput
from kymograph.options import StoreOptions
from kymograph.server.recording import recorder
from kymograph.server.slot import StoreSlot
from tests.ports import free_port
from tests.server.running import eventually, running


def test_lines_are_recorded_and_the_health_names_the_listeners() -> None:
    statsd, graphite = free_port(), free_port()
    collectors = [
        partial(StatsdCollector, f"127.0.0.1:{statsd}", 1_000_000),
        partial(GraphiteCollector, f"127.0.0.1:{graphite}", 100_000),
    ]
    with running(collectors=collectors) as server, server.client() as http:

        def states() -> dict[str, str]:
            return {each["name"]: each["state"] for each in http.get("/api/health").json()["collectors"]}

        names = {f"statsd 127.0.0.1:{statsd}": "running", f"graphite 127.0.0.1:{graphite}": "running"}
        assert eventually(lambda: states() == names)
        for port, line in ((statsd, b"hits:3|c|#path:/a\n"), (graphite, b"room.temp;floor=1 21.5 1600000000\n")):
            with socket.create_connection(("127.0.0.1", port)) as wire:
                wire.sendall(line)

        def values(name: str) -> list[float]:
            answer = http.post("/api/sql", json={"sql": f"SELECT value FROM metric.{name}"})
            return [row["value"] for row in answer.json()["rows"]] if answer.status_code == 200 else []

        assert eventually(lambda: 3.0 in values("hits"))
        assert eventually(lambda: values("room_temp") == [21.5])
        kinds = {each["name"]: each["kind"] for each in server.state.slot.get().metrics()}
        assert (kinds["hits"], kinds["room_temp"]) == ("counter", "gauge")


def test_what_is_recorded_is_checked_at_the_start() -> None:
    slot = StoreSlot("memory:", StoreOptions())
    made = recorder(slot, 10**6, statsd=":0", graphite=":0", mqtt="mqtt://127.0.0.1", topics=["{metric}"])
    assert [each["name"] for each in made.health()][2:] == [
        "statsd 127.0.0.1:0", "graphite 127.0.0.1:0", "mqtt 127.0.0.1:1883",
    ]  # fmt: skip
    for wrong in ({"statsd": "x:y"}, {"graphite": "x:-1"}, {"mqtt": "mqtt://x"}, {"topics": ["a"]}):
        with pytest.raises(InvalidInput):
            recorder(slot, 10**6, **wrong)  # type: ignore[arg-type]
