"""Subscribes to an MQTT broker and records what is published."""

from __future__ import annotations

import socket
import ssl
import threading
import time
import zlib
from collections import deque
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from kymograph.collect.batch import Batch
from kymograph.collect.graphite import complaint
from kymograph.collect.interface import checked_interval
from kymograph.collect.topics import Template, samples_of
from kymograph.errors import InvalidInput, MissingDependency
from kymograph.store.metrics import Sample

CONNECT_SECONDS = 8.0
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_MAX_BYTES = 8 * 2**20
_KEEPALIVE = 30


class MqttCollector:
    """Messages of one broker, each a sample or several, at the time it came.

    The session at the broker outlives a connection that breaks (quality of service 1), so that what is published
    meanwhile comes later. A broken connection fails the turn; the supervisor then makes a new one, after a pause.
    """

    def __init__(self, url: str, topics: Sequence[str], interval: int = 1_000_000) -> None:
        """
        Args:
            url: `mqtt://[user:password@]host[:port][?session=name]`, or `mqtts` for TLS; the password is never shown.
                The session's name at the broker is made of host and topics unless it is given.
            topics: templates, see `topics.Template`.
            interval: µs between two looks at what came.

        Raises:
            InvalidInput: no such URL or topic. MissingDependency: the extra `mqtt` is not installed.
        """
        try:
            import paho.mqtt.client as paho
        except ImportError:
            raise MissingDependency("MQTT needs the package paho-mqtt", hint="pip install 'kymograph[mqtt]'") from None
        self._paho = paho
        self._host, self._port, self._tls, self._user, session = _broker(url)
        if not topics:
            raise InvalidInput("there is no topic to subscribe to", hint="give --topic home/{room}/{metric}")
        self._templates = [Template(topic) for topic in topics]
        # the same at every start, so that the broker knows the session again
        fingerprint = zlib.crc32("\n".join(sorted(topics)).encode())
        self._session = session or f"kymograph-{socket.gethostname()[:30]}-{fingerprint:08x}"
        self.interval = checked_interval(interval)
        self.name = f"mqtt {self._host}:{self._port}"
        self._client: Any = None
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, str, bytes]] = deque()
        self._bytes = self._dropped = 0
        self._failure = ""
        self._ready = threading.Event()

    def collect(self, now: int) -> Batch:
        if self._client is None:
            self._connect()
        with self._lock:
            messages, dropped = list(self._waiting), self._dropped
            self._waiting.clear()
            self._bytes = self._dropped = 0
        samples: list[Sample] = []
        broken, example = 0, ""
        for moment, topic, payload in messages:
            try:
                found = samples_of(self._templates, topic, payload)
            except ValueError as problem:
                broken, example = broken + 1, example or f"{topic[:80]!r}: {problem}"
                continue
            samples += [Sample(name, value, labels, moment) for name, labels, value in found]
        if self._failure and not messages:
            raise ConnectionError(self._failure)
        told = complaint(broken, example, dropped).replace("lines", "messages")
        return Batch(self.name, now, samples=samples, problem=told)

    def finish(self, now: int) -> Batch:
        return self.collect(now)

    def close(self) -> None:
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()

    def _connect(self) -> None:
        paho = self._paho
        # connecting again is the supervisor's: it pauses between attempts and tells of them
        client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id=self._session, clean_session=False, reconnect_on_failure=False
        )
        if self._user is not None:
            client.username_pw_set(*self._user)
        if self._tls:
            client.tls_set_context(ssl.create_default_context())
        client.on_connect, client.on_disconnect = self._connected, self._disconnected
        client.on_subscribe, client.on_message = self._subscribed, self._received
        client.connect_timeout = CONNECT_SECONDS
        self._client = client
        try:
            client.connect(self._host, self._port, keepalive=_KEEPALIVE)
        except (OSError, ValueError) as problem:
            raise ConnectionError(f"cannot connect: {problem}") from None
        client.loop_start()
        if not self._ready.wait(CONNECT_SECONDS) or self._failure:
            raise ConnectionError(self._failure or "the broker does not answer")

    def _connected(self, client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._fail(f"the broker refuses: {reason}")
            return
        client.subscribe([(template.filter, 1) for template in self._templates])

    def _subscribed(self, _client: Any, _data: Any, _id: Any, reasons: Any, _properties: Any) -> None:
        refused = [
            template.text for template, reason in zip(self._templates, reasons, strict=False) if reason.is_failure
        ]
        if refused:
            self._fail(f"the broker refuses the topic {refused[0]!r}")
        self._ready.set()

    def _disconnected(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._fail(self._failure or f"the connection ended: {reason}")

    def _fail(self, why: str) -> None:
        self._failure = why
        self._ready.set()

    def _received(self, _client: Any, _data: Any, message: Any) -> None:
        size = len(message.payload) + len(message.topic)
        with self._lock:
            if self._bytes + size > _MAX_BYTES:
                self._dropped += 1
                return
            self._waiting.append((time.time_ns() // 1000, message.topic, message.payload))
            self._bytes += size


def _broker(url: str) -> tuple[str, int, bool, tuple[str, str] | None, str]:
    """Host, port, TLS, user with password, and the name of the session where one is given.

    Raises:
        InvalidInput: not such a URL.
    """
    hint = "write it like mqtt://user:password@broker.example:1883"
    try:
        parts = urlsplit(url)
        port = parts.port
        asked = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
    except ValueError:
        raise InvalidInput("the broker is no URL", hint=hint) from None
    if (
        parts.scheme not in _PORTS
        or not parts.hostname
        or parts.path.strip("/")
        or asked.keys() - {"session"}
        or port == 0
    ):
        raise InvalidInput("the broker is no mqtt or mqtts URL", hint=hint)
    user = None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))
    return parts.hostname, port or _PORTS[parts.scheme], parts.scheme == "mqtts", user, asked.get("session", [""])[0]
