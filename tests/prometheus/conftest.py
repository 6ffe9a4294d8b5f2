"""A real Prometheus and a Kymograph server over the same samples, and a server over samples of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import numpy as np
import pytest

from kymograph.server.state import ServerState
from tests.ports import free_port
from tests.prometheus import data
from tests.prometheus.hosts import fill_many
from tests.prometheus.servers import needed, served
from tests.server.running import TRUST, Running, eventually, running

RULES = Path(__file__).parent / "rules"
_CONFIG = """
global:
  scrape_interval: 1s
rule_files: ["%s"]
scrape_configs:
- job_name: page
  static_configs:
  - targets: ["127.0.0.1:%d"]
"""


class _Page(BaseHTTPRequestHandler):
    """Metrics with metadata, which Prometheus learns from scrapes only."""

    def do_GET(self) -> None:
        lines = []
        for name, (kind, text) in data.DESCRIPTIONS.items():
            escaped = text.replace("\\", "\\\\")
            lines += [f"# HELP {name} {escaped}", f"# TYPE {name} {kind}"]
            suffix = "_bucket" + '{le="+Inf"}' if kind == "histogram" else ""
            lines += [f"{name}{suffix} 1"]
        body = "\n".join([*lines, ""]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="session")
def page() -> Iterator[int]:
    """The port of a page to scrape."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory, page: int) -> Iterator[httpx.Client]:
    """A client of Debian's Prometheus over the data set; it has scraped the page once."""
    program, tool = needed("prometheus"), needed("promtool")
    folder: Path = tmp_path_factory.mktemp("prometheus")
    (folder / "data.txt").write_text(data.openmetrics())
    (folder / "prometheus.yml").write_text(_CONFIG % (RULES / "page.yml", page))
    subprocess.run(
        [tool, "tsdb", "create-blocks-from", "openmetrics", folder / "data.txt", folder / "data"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    port = free_port()
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--storage.tsdb.retention.time=100y",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (
        served(command, f"http://127.0.0.1:{port}", folder / "log") as url,
        httpx.Client(base_url=url, timeout=30, trust_env=False, verify=TRUST) as client,
    ):
        assert eventually(lambda: client.get("/api/v1/metadata").json()["data"])
        yield client


def fill(state: ServerState) -> None:
    """The data set, and what the scraped page says about its metrics."""
    store = state.slot.get()
    found = data.series()
    ids = store.series_ids([(name, labels) for name, labels, _, _ in found])
    counts = [len(times) for _, _, times, _ in found]
    times = np.concatenate([times for _, _, times, _ in found]) * 1000
    store.append_samples(np.repeat(ids, counts), times, np.concatenate([values for *_, values in found]))
    store.describe_many({name: {"kind": kind, "help": text} for name, (kind, text) in data.DESCRIPTIONS.items()})


@pytest.fixture(scope="session")
def kymograph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A Kymograph server over the data set in a folder."""
    with running(tmp_path_factory.mktemp("kymograph") / "store", prepare=fill) as server:
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server over hosts, a table and 200 series more; one for each file, which takes it a second."""
    with running(tmp_path_factory.mktemp("server") / "store", prepare=fill_many) as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as found:
        yield found
