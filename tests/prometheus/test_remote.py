"""A real Prometheus writes to us by remote write and reads back by remote read."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import numpy as np
import pytest

from kymograph.options import StoreOptions
from kymograph.promql.source import STALE
from kymograph.store import tokens
from tests.ports import free_port
from tests.prometheus.servers import needed, served
from tests.server.running import TRUST, Running, eventually, running

_AGENT = """
global:
  scrape_interval: 200ms
scrape_configs:
- job_name: page
  static_configs:
  - targets: ["127.0.0.1:{page}"]
remote_write:
- url: {url}
  {auth}
  queue_config:
    batch_send_deadline: 200ms
    max_backoff: 200ms
  metadata_config:
    send_interval: 500ms
"""
_READER = """
remote_read:
- url: {url}
  read_recent: true
"""


class _Page(BaseHTTPRequestHandler):
    """A counter that counts its scrapes, a gauge with odd labels and values, a histogram; gone while `here` is not set."""

    scrapes = 0
    here = True

    def do_GET(self) -> None:
        type(self).scrapes += 1
        lines = [
            "# HELP scrapes_total how often this page was read",
            "# TYPE scrapes_total counter",
            f"scrapes_total {self.scrapes}",
            "# TYPE odd gauge",
            'odd{text="ä \\" \\\\ \\n €",kind="nan"} NaN',
            'odd{kind="inf"} +Inf',
            'odd{kind="zero"} 0',
            'odd{kind="tiny"} 5e-324',
        ]
        if self.here:
            lines += ["# TYPE passing gauge", "passing 1"]
        lines += ["# TYPE took_seconds histogram", 'took_seconds_bucket{le="+Inf"} 2', "took_seconds_sum 0.5"]
        body = "\n".join([*lines, "took_seconds_count 2", ""]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def page() -> Iterator[int]:
    _Page.scrapes, _Page.here = 0, True
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def agent(folder: Path, page: int, url: str, auth: str = "") -> Any:
    """Prometheus in agent mode: it scrapes the page and stores nothing itself."""
    folder.mkdir()
    (folder / "agent.yml").write_text(_AGENT.format(page=page, url=url, auth=auth))
    command = [
        needed("prometheus"),
        "--enable-feature=agent",
        f"--config.file={folder / 'agent.yml'}",
        f"--storage.agent.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{(port := free_port())}",
    ]
    return served(command, f"http://127.0.0.1:{port}", folder / "log")


def samples(server: Running, name: str) -> dict[str, tuple[Any, Any]]:
    """Times and values of a metric by its label kind."""
    found = server.state.slot.get().promql(f"{name}[1d]")
    return {
        labels.get("kind", labels.get("le", "")): found.samples_of(place) for place, labels in enumerate(found.labels)
    }


def test_an_agent_writes_what_it_scrapes(tmp_path: Path, page: int) -> None:
    with running(tmp_path / "store", auth=True) as server:
        token = tokens.create(server.state.slot.get().engine, "write", "agent")
        auth = f"authorization: {{credentials: {token}}}"
        with agent(tmp_path / "agent", page, f"{server.url}/api/v1/write", auth) as _:
            assert eventually(lambda: len(samples(server, "scrapes_total").get("", ([], []))[0]) >= 6)
            assert eventually(lambda: not lost(server)), lost(server)
            times, _ = samples(server, "scrapes_total")[""]
            assert (np.diff(times) > 0).all()
            odd = {kind: found[1][0] for kind, found in samples(server, "odd").items()}
            assert np.isnan(odd.pop("nan"))
            assert odd == {"inf": np.inf, "zero": 0.0, "tiny": 5e-324}
            (labels,) = server.state.slot.get().series('odd{kind="nan"}')
            assert labels["text"] == 'ä " \\ \n €'
            assert labels["job"] == "page"
            told = {each["name"]: each for each in server.state.slot.get().metrics()}
            assert eventually(
                lambda: (
                    {
                        each["name"]: (each["kind"], each["help"])
                        for each in server.state.slot.get().metrics()
                        if each["kind"] != "untyped"
                    }.items()
                    >= {
                        "scrapes_total": ("counter", "how often this page was read"),
                        "odd": ("gauge", ""),
                        "took_seconds": ("histogram", ""),
                    }.items()
                ),
                20,
            ), told
            # a series that goes is marked as stale, and the mark is kept bit by bit
            _Page.here = False
            assert eventually(lambda: samples(server, "passing") and _is_stale(server, "passing"))
            assert server.state.slot.get().promql("passing").labels == []


def _is_stale(server: Running, name: str) -> bool:
    table = server.state.slot.get().engine.latest("samples")
    series = server.state.slot.get().engine.series()
    for row in table.to_pylist():
        if series[row["series_id"]][0] == name:
            return int(np.float64(row["value"]).view(np.int64)) == STALE
    return False


def test_an_agent_waits_for_a_server_that_is_away(tmp_path: Path, page: int) -> None:
    """Nothing that was scraped is lost while the store cannot be reached; nothing is stored twice."""
    port = free_port()
    with agent(tmp_path / "agent", page, f"http://127.0.0.1:{port}/api/v1/write") as _:
        assert eventually(lambda: _Page.scrapes >= 5)
        for _ in range(2):
            seen = _Page.scrapes
            with running(tmp_path / "store", port=port) as server:
                assert eventually(lambda: len(_counts(server)) >= seen)  # noqa: B023
                assert eventually(lambda: not lost(server)), lost(server)


def lost(server: Running) -> list[float]:
    """Counts that are not there, though the agent did not say of a scrape that it failed: the page may be too slow."""
    times, counts = samples(server, "scrapes_total")[""]
    assert (np.diff(counts) > 0).all()
    looked, up = samples(server, "up")[""]
    failed = np.searchsorted(looked[up == 0], times)
    gone = (counts - np.arange(1, len(counts) + 1)) - failed
    found: list[float] = counts[gone > 0].tolist()
    return found


def _counts(server: Running) -> Any:
    return samples(server, "scrapes_total").get("", (None, np.zeros(0)))[1]


def test_too_many_series_do_not_stop_an_agent(tmp_path: Path, page: int) -> None:
    """What a limit refuses is dropped by the sender, which goes on with the rest."""
    with running(tmp_path / "store", options=StoreOptions(sync="normal", max_series=3)) as server:
        url = f"{server.url}/api/v1/write"
        with agent(tmp_path / "agent", page, url) as _:
            meter = server.state.meter
            assert eventually(lambda: meter.requests().get(("POST", "/api/v1/write", 422), 0) >= 2)
        assert len(server.state.slot.get().series()) <= 3


def test_prometheus_reads_back(tmp_path: Path) -> None:
    """The same query gives the same over remote read as it gives here."""
    with running(tmp_path / "store") as server:
        store = server.state.slot.get()
        rng = np.random.default_rng(4)
        start = 1_772_409_600_000_000
        ids = store.series_ids([("load", {"host": f"h{n}", "zone": "ab"[n % 2]}) for n in range(20)])
        times = start + 15_000_000 * np.arange(200)
        store.append_samples(np.repeat(ids, 200), np.tile(times, 20), np.round(rng.normal(5, 2, 4000), 3))
        (tmp_path / "reader.yml").write_text(_READER.format(url=f"{server.url}/api/v1/read"))
        command = [
            needed("prometheus"),
            f"--config.file={tmp_path / 'reader.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{(port := free_port())}",
        ]
        with served(command, f"http://127.0.0.1:{port}", tmp_path / "log") as url:
            for query in (
                "load",
                'avg_over_time(load{zone="a"}[5m])',
                'sum by (zone) (load{host=~"h1.*"})',
                'load{host!="h1"}',
            ):
                # between samples, since the windows of Prometheus 2 and 3 differ in a sample at their left edge
                asked = {"query": query, "start": start // 10**6 + 7, "end": start // 10**6 + 3000, "step": "60"}
                theirs, ours = (
                    httpx.get(
                        f"{base}/api/v1/query_range", params=asked, timeout=60, trust_env=False, verify=TRUST
                    ).json()
                    for base in (url, server.url)
                )
                assert theirs["status"] == "success", theirs
                assert len(theirs["data"]["result"]) > 0
                a, b = (
                    {str(each["metric"]): each["values"] for each in one["data"]["result"]} for one in (theirs, ours)
                )
                assert a.keys() == b.keys()
                for key in a:
                    assert [t for t, _ in a[key]] == [t for t, _ in b[key]]
                    np.testing.assert_allclose(
                        [float(v) for _, v in a[key]], [float(v) for _, v in b[key]], rtol=1e-9, atol=1e-12
                    )
