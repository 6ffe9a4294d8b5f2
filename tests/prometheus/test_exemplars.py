"""Exemplars as a real Prometheus keeps them: what both are sent, what it sends on, and what both answer."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from kymograph.wire import snappy
from tests.ports import free_port
from tests.prometheus.servers import needed, served
from tests.server.running import TRUST, Running, eventually, running
from tests.unit.wire import messages

# ms; a Prometheus that has scraped the present takes what is up to an hour older
START = int(time.time() - 300) * 1000
HEADERS = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
_CONFIG = """
global:
  scrape_interval: 200ms
scrape_configs:
- job_name: page
  static_configs:
  - targets: ["127.0.0.1:{page}"]
remote_write:
- url: {url}/api/v1/write
  send_exemplars: true
  queue_config:
    batch_send_deadline: 100ms
  write_relabel_configs:
  - source_labels: [job]
    regex: page
    action: keep
"""
PAGE = """# TYPE took_seconds histogram
took_seconds_bucket{le="0.1"} 8 # {} 0.054
took_seconds_bucket{le="1"} 11 # {trace_id="KOO5S4vxi0o",span_id="é\\"\\n"} 0.67 %s
took_seconds_bucket{le="+Inf"} 17 # {trace_id="oHg5SJYRHA0"} 9.8 1520879607.789
took_seconds_count 17
took_seconds_sum 324789.3
# TYPE calls counter
calls_total 17 # {trace_id="xxxx"} 1e-7
# EOF
"""


class _Page(BaseHTTPRequestHandler):
    """OpenMetrics with an exemplar that moves on and some that stay; with none at all before `begun`."""

    begun = False

    def do_GET(self) -> None:
        page = PAGE % f"{time.time():.3f}"
        body = (page if self.begun else re.sub(" # .*", "", page)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/openmetrics-text; version=1.0.0; charset=utf-8")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, server: Running) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("exemplars")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as page:
        Thread(target=page.serve_forever, daemon=True).start()
        (folder / "prometheus.yml").write_text(_CONFIG.format(page=page.server_port, url=server.url))
        port = free_port()
        command = [
            needed("prometheus"),
            "--enable-feature=exemplar-storage",
            "--web.enable-remote-write-receiver",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with served(command, f"http://127.0.0.1:{port}", folder / "log") as url:
            yield url
        page.shutdown()


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=30, trust_env=False, verify=TRUST) as client:
        yield client


def answers(http: httpx.Client, bases: tuple[str, str], **asked: str) -> tuple[Any, Any]:
    """Status and body of both."""
    found = [http.get(f"{base}/api/v1/query_exemplars", params=asked) for base in bases]
    theirs, ours = ((each.status_code, each.json() if each.content else None) for each in found)
    return theirs, ours


def wild(rng: random.Random, number: int) -> bytes:
    """Samples of five series, some with exemplars: in order, late, twice, too long; in series of their own or not."""
    request = messages.V1["WriteRequest"]()
    at = START + 1000 * number
    for host in "abcde":
        one = request.timeseries.add()
        identity = {"__name__": "sent", "host": host}
        for name, value in identity.items():
            one.labels.add(name=name, value=value)
        one.samples.add(value=number, timestamp=at)
        if rng.random() < 0.5:  # as Prometheus sends them
            one = request.timeseries.add()
            for name, value in identity.items():
                one.labels.add(name=name, value=value)
        for _ in range(rng.randrange(3)):
            exemplar = one.exemplars.add(
                value=rng.choice([0.0, 1.5, -2.0, 1e21, 1e-7, 123456789.0, float("inf"), 5e-324]),
                timestamp=at + rng.choice([-3000, -1, 0, 1, 1, 2, 500]),
            )
            size = rng.choice([0, 1, 3, 30, 119, 120, 121])
            exemplar.labels.add(name=b"trace_id", value="é".encode() * size)
            if rng.random() < 0.2:
                exemplar.labels.add(name=b"Span", value=b"1")
    one = request.timeseries.add()
    one.labels.add(name="__name__", value="never_sampled")
    one.exemplars.add(value=1.0, timestamp=at)
    found: bytes = request.SerializeToString()
    return found


def test_the_same_messages_give_the_same_answers(http: httpx.Client, server: Running, prometheus: str) -> None:
    rng = random.Random(7)
    bases = (prometheus, server.url)
    for number in range(40):
        body = snappy.pack(wild(rng, number))
        for base in bases:
            answer = http.post(f"{base}/api/v1/write", content=body, headers=HEADERS)
            assert answer.status_code == 204, answer.text
    span = {"start": str(START / 1000 - 10), "end": str(START / 1000 + 100)}
    for query in (
        "sent",
        'rate(sent{host=~"b|d"}[5m])',
        'sent{host="a"} / on() sum(sent{host!="c"})',
        "never_sampled",
        "1",
    ):
        theirs, ours = answers(http, bases, query=query, **span)
        assert theirs == ours
    assert len(answers(http, bases, query="sent", **span)[1][1]["data"]) == 5
    for start, end in ((0, 0.001), (5, 7.5), (6.999, 7.0), (39, 50)):
        asked = {"start": f"{START / 1000 + start:.3f}", "end": f"{START / 1000 + end:.3f}"}
        theirs, ours = answers(http, bases, query="sent", **asked)
        assert theirs == ours
    theirs, ours = answers(http, bases, query="sent")
    assert theirs == ours


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"query": ""},
        {"query": "sent{"},
        {"query": "sent", "start": "yesterday"},
        {"query": "sent", "end": "1e400"},
        {"query": "sent", "start": "2", "end": "1"},
        {"query": "time()"},
        {"query": '"text"'},
    ],
    ids=str,
)
def test_bad_input(http: httpx.Client, server: Running, prometheus: str, asked: dict[str, str]) -> None:
    theirs, ours = answers(http, (prometheus, server.url), **asked)
    assert theirs[0] == ours[0]
    if theirs[0] == 400:
        assert theirs[1]["errorType"] == ours[1]["errorType"]
    else:
        assert theirs == ours


def test_what_prometheus_scrapes_it_sends_on(http: httpx.Client, server: Running, prometheus: str) -> None:
    bases = (prometheus, server.url)

    def both() -> tuple[Any, Any]:
        end = f"{time.time() - 1:.3f}"
        (_, theirs), (_, ours) = answers(http, bases, query='{job="page"}', end=end)
        return theirs["data"], ours["data"]

    def same() -> bool:
        theirs, ours = both()
        return sum(len(each["exemplars"]) for each in theirs) >= 6 and theirs == ours

    # what it scraped before it was ready to send is not sent on, and an exemplar that stays is there once
    store = server.state.slot.get()
    assert eventually(lambda: len(store.promql('count_over_time(calls_total{job="page"}[1m]) > 3')))
    _Page.begun = True
    assert eventually(same), both()
    theirs, _ = both()
    assert {each["seriesLabels"]["__name__"] for each in theirs} == {"took_seconds_bucket", "calls_total"}
