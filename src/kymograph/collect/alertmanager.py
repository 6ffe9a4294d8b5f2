"""Tells Alertmanagers about alerts, over their API v2: never blocks who has them, tries again, keeps a bounded number."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from kymograph.collect import fetch
from kymograph.errors import InvalidInput
from kymograph.model.time import isoformat
from kymograph.store.rules.alerts import Notice

log = logging.getLogger("kymograph.collect")

_PATH = "/api/v2/alerts"
_BATCH = 64
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0

_Key = tuple[tuple[str, str], ...]


class AlertSender:
    """One thread per Alertmanager. Of one alert only the newest notice is kept, so that none overtakes a newer one.

    Used once: `start`, then `stop`.
    """

    def __init__(self, urls: Iterable[str], *, most: int = 10_000, timeout: float = 10.0) -> None:
        """
        Args:
            urls: of Alertmanagers; `user:password@` is sent as basic authentication.
            most: alerts kept for each while it does not take them; the oldest go first.
            timeout: seconds for one request.

        Raises:
            InvalidInput: not such a URL, or one is there twice.
        """
        given = list(urls)
        for url in given:
            if given.count(url) > 1:
                raise InvalidInput(f"the Alertmanager {url} is there twice")
        self._posts = [_Post(url, most, timeout) for url in given]

    def start(self) -> None:
        for post in self._posts:
            post.start()

    def send(self, notices: Sequence[Notice], url: str = "") -> None:
        """Take over what is to be told; returns at once. `url` is where this server is reached."""
        for post in self._posts:
            post.put({_key(notice): _alert(notice, url) for notice in notices})

    def stop(self, timeout: float = 5.0) -> None:
        """Try once more to tell what is left, then end."""
        deadline = time.monotonic() + timeout
        for post in self._posts:
            post.stop()
        for post in self._posts:
            post.join(max(0.0, deadline - time.monotonic()))

    def health(self) -> list[dict[str, Any]]:
        """Per Alertmanager: url (without password), waiting, sent, dropped, last_error ("" while it works)."""
        return [post.health() for post in self._posts]


class _Post:
    """What waits for one Alertmanager, and the thread that brings it there."""

    def __init__(self, url: str, most: int, timeout: float) -> None:
        parts = fetch.checked_url(url)
        if parts.query or parts.fragment:
            raise InvalidInput(f"{url!r} is not the URL of an Alertmanager", hint="write it like http://127.0.0.1:9093")
        base = parts.path.rstrip("/").removesuffix(_PATH)
        self._url = parts._replace(path=base + _PATH).geturl()
        self._shown = parts._replace(path=base + _PATH, netloc=parts.netloc.rpartition("@")[2]).geturl()
        self._most, self._timeout = most, timeout
        self._waiting: OrderedDict[_Key, dict[str, Any]] = OrderedDict()
        self._changed = threading.Condition()
        self._stopping = False
        self._sent = self._dropped = 0
        self._last_error = ""
        self._thread = threading.Thread(target=self._run, name="kymograph-alerts", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, alerts: dict[_Key, dict[str, Any]]) -> None:
        with self._changed:
            for key, alert in alerts.items():
                self._waiting.pop(key, None)
                self._waiting[key] = alert
            self._bound()
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def join(self, timeout: float) -> None:
        if self._thread.is_alive():
            self._thread.join(timeout)

    def health(self) -> dict[str, Any]:
        with self._changed:
            return {
                "url": self._shown,
                "waiting": len(self._waiting),
                "sent": self._sent,
                "dropped": self._dropped,
                "last_error": self._last_error,
            }

    def _bound(self) -> None:
        while len(self._waiting) > self._most:
            self._waiting.popitem(last=False)
            self._dropped += 1

    def _run(self) -> None:
        pause = 0.0
        while True:
            with self._changed:
                if pause:
                    self._changed.wait_for(lambda: self._stopping, pause)
                else:
                    self._changed.wait_for(lambda: self._stopping or self._waiting)
                if self._stopping and (not self._waiting or pause):
                    return
                batch = [self._waiting.popitem(last=False) for _ in range(min(_BATCH, len(self._waiting)))]
            pause = self._deliver(batch, pause) if batch else 0.0

    def _deliver(self, batch: list[tuple[_Key, dict[str, Any]]], pause: float) -> float:
        """Seconds to wait before the next try, 0 when all went well."""
        body = json.dumps([alert for _, alert in batch]).encode("utf-8", "replace")
        try:
            fetch.post(self._url, body, content_type="application/json", timeout=self._timeout)
        except fetch.Refused as problem:
            with self._changed:
                self._dropped += len(batch)
                self._note(str(problem))
            return 0.0
        except OSError as problem:
            with self._changed:
                # a newer notice of the same alert has come meanwhile: that one stays
                for key, alert in reversed(batch):
                    if key not in self._waiting:
                        self._waiting[key] = alert
                        self._waiting.move_to_end(key, last=False)
                self._bound()
                self._note(str(problem) or type(problem).__name__)
            return min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * pause))
        with self._changed:
            self._sent += len(batch)
            self._note("")
        return 0.0

    def _note(self, error: str) -> None:
        """Only changes are logged, so that an Alertmanager that is down does not fill the log."""
        if bool(error) != bool(self._last_error):
            log.warning("Alertmanager %s %s", self._shown, f"does not take alerts: {error}" if error else "works again")
        self._last_error = error


def _key(notice: Notice) -> _Key:
    return tuple(sorted(notice.labels.items()))


def _alert(notice: Notice, url: str) -> dict[str, Any]:
    return {
        "labels": dict(notice.labels),
        "annotations": dict(notice.annotations),
        "startsAt": isoformat(notice.starts),
        "endsAt": isoformat(notice.ends),
        "generatorURL": f"{url}/api/v1/query?query={quote(notice.query)}" if url else "",
    }
