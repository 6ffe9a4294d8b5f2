"""MQTT against a real Mosquitto: what is published is recorded, also after the broker was away."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from kymograph.collect.mqtt import MqttCollector
from kymograph.collect.supervisor import Supervisor
from kymograph.errors import InvalidInput, MissingDependency
from tests.ports import free_port
from tests.unit.collect.recorder import Recorder, until

BROKER = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
needs_broker = pytest.mark.skipif(BROKER is None, reason="mosquitto is not installed")


class Mosquitto:
    """A broker on a free loopback port; it may be stopped and started again at the same one."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        passwords = folder / "passwords"
        passwords.write_text("")
        subprocess.run(["mosquitto_passwd", "-b", passwords, "kymo", "p@ss"], check=True, timeout=60)
        self._settings = folder / "mosquitto.conf"
        self._settings.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\nuser root\n"
            f"persistence true\npersistence_location {folder}/\nautosave_interval 1\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://kymo:p%40ss@127.0.0.1:{self.port}"

    def start(self) -> None:
        assert BROKER is not None
        self._process = subprocess.Popen([BROKER, "-c", self._settings], stderr=subprocess.DEVNULL)
        until(self._answers)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)

    def publish(self, *messages: tuple[str, bytes]) -> None:
        client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        client.username_pw_set("kymo", "p@ss")
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        for topic, payload in messages:
            client.publish(topic, payload, qos=1).wait_for_publish(60)
        client.disconnect()
        client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    found = Mosquitto(tmp_path)
    found.start()
    try:
        yield found
    finally:
        found.stop()


def seen(recorder: Recorder) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {(s.name, tuple(sorted(s.labels.items()))): float(s.value) for s in recorder.samples}


def supervised(recorder: Recorder, url: str, *topics: str) -> Supervisor:
    return Supervisor(recorder, [lambda: MqttCollector(url, topics, 100_000)])


def running(supervisor: Supervisor) -> bool:
    return bool(supervisor.health()[0]["state"] == "running")


@needs_broker
def test_messages_become_samples(broker: Mosquitto) -> None:
    recorder = Recorder()
    with supervised(recorder, broker.url, "home/{room}/{metric}", "tele/{device}/SENSOR") as supervisor:
        until(lambda: running(supervisor))
        before = time.time_ns() // 1000
        broker.publish(
            ("home/kitchen/temp", b"21.5"), ("home/bath/fan", b"ON"), ("home/bath/broken", b"\xff"), ("other", b"1"),
            ("tele/plug/SENSOR", b'{"ENERGY": {"Power": 42}, "Time": "2026-01-01"}'),
        )  # fmt: skip
        until(lambda: len(recorder.samples) == 3)
        assert seen(recorder) == {
            ("temp", (("room", "kitchen"),)): 21.5,
            ("fan", (("room", "bath"),)): 1.0,
            ("tele_SENSOR_ENERGY_Power", (("device", "plug"),)): 42.0,
        }
        assert all(before <= sample.time <= time.time_ns() // 1000 for sample in recorder.samples)
        assert "p@ss" not in str(supervisor.health())
        # told for one turn
        until(lambda: "1 messages could not be read" in supervisor.health()[0]["last_error"])


@needs_broker
def test_a_broker_that_was_away_is_found_again_and_nothing_is_lost(broker: Mosquitto) -> None:
    recorder = Recorder()
    with supervised(recorder, broker.url, "{metric}") as supervisor:
        until(lambda: running(supervisor))
        broker.publish(("a", b"1"))
        until(lambda: len(recorder.samples) == 1)
        broker.stop()
        until(lambda: supervisor.health()[0]["state"] == "failing")
        broker.start()
        # before the collector is back: the broker keeps it for the session
        broker.publish(("b", b"2"))
        until(lambda: running(supervisor))
        until(lambda: ("b", ()) in seen(recorder))
        broker.publish(("c", b"3"))
        until(lambda: ("c", ()) in seen(recorder))
        assert supervisor.health()[0]["restarts"] >= 1


@needs_broker
def test_a_wrong_password_is_told(broker: Mosquitto) -> None:
    collector = MqttCollector(f"mqtt://kymo:wrong@127.0.0.1:{broker.port}", ["#"])
    with closing(collector), pytest.raises(ConnectionError, match="refuses"):
        collector.collect(0)


def test_nobody_there_is_told() -> None:
    collector = MqttCollector(f"mqtt://127.0.0.1:{free_port()}", ["#"])
    with closing(collector), pytest.raises(ConnectionError, match="cannot connect"):
        collector.collect(0)


@pytest.mark.parametrize(
    ("url", "topics"),
    [
        ("http://x", ["a"]), ("mqtt://", ["a"]), ("mqtt://x:0", ["a"]), ("mqtt://x:y", ["a"]), ("mqtt://x/y", ["a"]),
        ("mqtt://x?a=b", ["a"]), ("nonsense", ["a"]), ("mqtt://x", []), ("mqtt://x", ["a/{"]),
    ],
)  # fmt: skip
def test_what_is_no_broker_or_topic(url: str, topics: list[str]) -> None:
    with pytest.raises(InvalidInput):
        MqttCollector(url, topics)


def test_no_password_in_an_error() -> None:
    with pytest.raises(InvalidInput) as caught:
        MqttCollector("http://kymo:secret@x", ["a"])
    assert "secret" not in str(caught.value)


def test_the_extra_is_named(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(MissingDependency, match=r"kymograph\[mqtt\]"):
        MqttCollector("mqtt://x", ["a"])
