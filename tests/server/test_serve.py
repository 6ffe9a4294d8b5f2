"""`serve` as a process: starting, refusing to start, stopping without loss, outliving its store's absence."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

import kymograph
from kymograph.server.app import serve
from kymograph.store import tokens
from tests.server.running import TRUST, eventually

PROGRAM = "import sys, json; from kymograph.server.app import serve; sys.exit(serve(**json.loads(sys.argv[1])))"


class Process:
    """One `serve` in a process of its own; `lines` is what it says."""

    def __init__(self, **options: object) -> None:
        options = {"port": 0, "interval": 200_000, **options}
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.lines.append(line.rstrip())

    @property
    def said(self) -> str:
        return "\n".join(self.lines)

    @property
    def url(self) -> str:
        assert eventually(lambda: re.search(r"https?://\S+", self.said)), self.said
        found = re.search(r"https?://\S+", self.said)
        assert found is not None
        return found[0]

    def stop(self, sign: int = signal.SIGTERM) -> int:
        self.process.send_signal(sign)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(120)
        self._reader.join(60)
        return code


@contextmanager
def process(**options: object) -> Iterator[Process]:
    started = Process(**options)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
        started.wait()


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_loses_nothing_that_was_seen(tmp_path: Path, sign: int) -> None:
    """Whatever a watcher was shown is in the store after the end; the end is clean, with a client still there."""
    seen: set[tuple[str, str]] = set()
    with process(dir=str(tmp_path / "store"), simulate=2, sync="normal") as server:
        url = server.url
        stream_url = url.replace("http", "ws", 1) + "/api/telemetry/stream?interval=0.1"
        with connect(stream_url, proxy=None) as stream:

            def watch() -> bool:
                seen.update((gpu["gpu_uuid"], gpu["timestamp"]) for gpu in json.loads(stream.recv(60))["gpus"])
                return len(seen) >= 12

            assert eventually(watch)
            assert server.stop(sign) == 0, server.said
        assert "Traceback" not in server.said
    with kymograph.connect(tmp_path / "store", read_only=True) as store:
        rows = store.scan("gpu_metrics", columns=["gpu_uuid", "time"]).to_pylist()
        stored = [
            (row["gpu_uuid"], row["time"].isoformat(timespec="microseconds").replace("+00:00", "Z")) for row in rows
        ]
        assert seen <= set(stored)
        assert len(stored) == len(set(stored))
        assert "cpu_percent" in {metric["name"] for metric in store.metrics()}


def test_a_query_under_way_does_not_hold_up_the_end(tmp_path: Path) -> None:
    endless = "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r"
    with process(dir=str(tmp_path), simulate=1, sync="normal") as server, ThreadPoolExecutor(1) as asker:
        asked = asker.submit(
            httpx.post, f"{server.url}/api/sql", json={"sql": endless}, timeout=120, trust_env=False, verify=TRUST
        )
        with httpx.Client(base_url=server.url, timeout=60, trust_env=False, verify=TRUST) as http:
            assert eventually(lambda: "kymograph_queries_held 1" in http.get("/metrics").text)
        assert server.stop() == 0, server.said
        # it was not waited for: its own end would have been an answer that says that its time was up
        assert asked.exception(60) is not None or asked.result().status_code >= 500, asked.result().text
    kymograph.connect(tmp_path).close()


def test_a_port_in_use_is_said_clearly(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert serve(tmp_path, port=port) == 1
        assert f"127.0.0.1 port {port}" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"host": "0.0.0.0"}, "kymo token create"),
        ({"auth": True}, "kymo token create"),
        ({"tls_cert": "/nowhere/cert.pem"}, "--tls-key"),
        ({"tls_cert": "/nowhere/cert.pem", "tls_key": "/nowhere/key.pem"}, "cannot be used"),
        ({"interval": 1}, "0.1s"),
        ({"scrape": ["ftp://x"]}, "ftp"),
        ({"simulate": -5}, "-5"),
        ({"host": "no.such.host.invalid"}, "no.such.host.invalid"),
        ({"port": 70_000}, "70000"),
        ({"cap": 5}, "cap"),
        ({"allowed_hosts": ["a/b"]}, "host"),
    ],
)
def test_what_cannot_be_served_is_refused_at_the_start(
    tmp_path: Path, options: dict[str, Any], says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert serve(tmp_path / "store", **{"port": 0, **options}) == 1
    said = capfd.readouterr().err
    assert says in said
    assert "Traceback" not in said
    # whatever was begun has ended: nothing holds the folder
    kymograph.connect(tmp_path / "store").close()


def test_any_address_with_a_token(tmp_path: Path) -> None:
    with kymograph.connect(tmp_path) as store:
        token = tokens.create(store.engine, "read")
    with process(dir=str(tmp_path), host="0.0.0.0", sync="normal") as server:
        url = server.url.replace("localhost", "127.0.0.1")
        with httpx.Client(base_url=url, timeout=60, trust_env=False, verify=TRUST) as http:
            assert http.get("/api/info").status_code == 401
            headers = {"Authorization": f"Bearer {token}"}
            assert http.get("/api/info", headers=headers).status_code == 200
            assert http.get("/api/info", headers={**headers, "Host": socket.gethostname()}).status_code == 200
            assert http.get("/api/info", headers={**headers, "Host": "evil.example"}).status_code == 403
        assert server.stop() == 0, server.said


def test_a_locked_store_is_opened_once_it_is_free(tmp_path: Path) -> None:
    """Another process holds the folder: live values come, history says 503 and why, then it recovers by itself."""
    holder = kymograph.connect(tmp_path)
    try:
        with (
            process(dir=str(tmp_path), simulate=1, sync="normal") as server,
            httpx.Client(base_url=server.url, timeout=60, trust_env=False, verify=TRUST) as http,
        ):
            answer = http.get("/api/telemetry/history")
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "store_locked"
            assert answer.headers["retry-after"]
            health = http.get("/api/health").json()
            assert health["status"] == "degraded"
            assert health["store"]["open"] is False
            assert "kymograph_store_up 0" in http.get("/metrics").text
            stream_url = server.url.replace("http", "ws", 1) + "/api/telemetry/stream?interval=0.1"
            with connect(stream_url, proxy=None) as stream:
                assert eventually(lambda: json.loads(stream.recv(60))["gpus"])
            holder.close()
            assert eventually(lambda: http.get("/api/telemetry/history").status_code == 200)
            assert eventually(lambda: http.get("/api/telemetry/history").json())
            # what was collected meanwhile was kept
            assert eventually(lambda: http.get("/api/health").json()["status"] == "ok")
            assert {each["dropped_rows"] for each in http.get("/api/health").json()["collectors"]} == {0}
            assert server.stop() == 0, server.said
            # the reason once, and that it is over
            assert server.said.count("is being written by process") == 1, server.said
            assert "(stop that process); trying again every few seconds" in server.said
            assert "is open now" in server.said
    finally:
        holder.close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        process(dir=str(tmp_path / "file"), simulate=1) as server,
        httpx.Client(base_url=server.url, timeout=60, trust_env=False, verify=TRUST) as http,
    ):
        assert http.get("/").status_code == 200
        answer = http.get("/api/info")
        assert answer.status_code == 503
        assert "file" in answer.json()["error"]["message"]
        assert http.post("/api/prune").status_code == 503
        (tmp_path / "file").unlink()
        assert eventually(lambda: http.get("/api/info").status_code == 200)
        assert server.stop() == 0, server.said
