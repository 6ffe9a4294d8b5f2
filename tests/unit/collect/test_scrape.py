"""Scraping: labels, times, staleness, and a real node exporter."""

from __future__ import annotations

import math
import shutil
import socket
import struct
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest

from kymograph.collect.batch import Batch
from kymograph.collect.scrape import ACCEPT, STALE_BITS, ScrapeCollector
from kymograph.errors import InvalidInput
from kymograph.model.exemplar import Exemplar
from kymograph.store.metrics import Sample
from tests.ports import free_port
from tests.unit.collect.pages import Pages, serving
from tests.unit.collect.recorder import until

NOW = 1_795_000_000_000_000
OWN = ("up", "scrape_duration_seconds", "scrape_samples_scraped")


@pytest.fixture
def server() -> Iterator[Pages]:
    with serving() as pages:
        yield pages


def named(batch: Batch, name: str) -> list[Sample]:
    return [sample for sample in batch.samples if sample.name == name]


def value(batch: Batch, name: str) -> float:
    (sample,) = named(batch, name)
    return sample.value


def is_stale(sample: Sample) -> bool:
    return struct.pack("<d", sample.value) == STALE_BITS.to_bytes(8, "little")


def test_a_page_with_its_metadata(server: Pages) -> None:
    server.page(
        '# HELP hits_total Requests seen\n# TYPE hits_total counter\nhits_total{code="200"} 7\nplain 1 1700000000123\n'
    )
    batch = ScrapeCollector(server.url).collect(NOW)
    target = {"job": server.url[7:], "instance": server.url[7:]}
    assert list(batch.samples[:2]) == [
        Sample("hits_total", 7.0, target | {"code": "200"}, NOW, "counter"),
        Sample("plain", 1.0, target, 1_700_000_000_123_000, "untyped"),
    ]
    assert batch.describe["hits_total"] == {"kind": "counter", "help": "Requests seen"}
    assert value(batch, "up") == 1.0
    assert value(batch, "scrape_samples_scraped") == 2.0
    assert 0 < value(batch, "scrape_duration_seconds") < 30
    assert {sample.time for name in OWN for sample in named(batch, name)} == {NOW}
    assert named(batch, "up")[0].labels == target
    assert set(OWN) <= set(batch.describe)
    assert batch.problem == ""
    path, headers = server.requests[0]
    assert (path, headers["accept"]) == ("/metrics", ACCEPT)


def test_openmetrics_by_content_type(server: Pages) -> None:
    page = (
        "# TYPE latency_seconds histogram\n# UNIT latency_seconds seconds\n# HELP latency_seconds How long\n"
        'latency_seconds_bucket{le="+Inf"} 2\nlatency_seconds_count 2\nlatency_seconds_sum 0.5 1700000000.5\n'
        "latency_seconds_created 1.5e9\n# TYPE build info\nbuild_info 1\n# TYPE state stateset\n"
        'state{state="on"} 1\n# EOF\n'
    )
    server.page(page, "application/openmetrics-text; version=1.0.0; charset=utf-8")
    batch = ScrapeCollector(server.url).collect(NOW)
    assert batch.problem == ""
    assert {sample.name: sample.kind for sample in batch.samples if sample.name not in OWN} == {
        "latency_seconds_bucket": "histogram",
        "latency_seconds_count": "histogram",
        "latency_seconds_sum": "histogram",
        "latency_seconds_created": "gauge",
        "build_info": "gauge",
        "state": "gauge",
    }
    assert named(batch, "latency_seconds_sum")[0].time == 1_700_000_000_500_000
    assert batch.describe["latency_seconds_sum"] == {"kind": "histogram", "unit": "seconds", "help": "How long"}
    assert batch.describe["latency_seconds_count"] == {"kind": "histogram", "help": "How long"}
    assert batch.describe["latency_seconds_created"]["unit"] == "seconds"
    server.page(page.removesuffix("# EOF\n"), "application/openmetrics-text")
    assert "cut off" in ScrapeCollector(server.url).collect(NOW).problem


def test_labels_of_the_target_win_and_those_of_the_page_are_kept(server: Pages) -> None:
    server.page('m{job="j",instance="i",exported_job="e",none=""} 1\n')
    batch = ScrapeCollector(server.url, job="mine").collect(NOW)
    assert named(batch, "m")[0].labels == {
        "job": "mine",
        "instance": server.url[7:],
        "exported_job": "e",
        "exported_exported_job": "j",
        "exported_instance": "i",
    }


def test_series_that_vanish_end_with_the_staleness_marker(server: Pages) -> None:
    collector = ScrapeCollector(server.url)
    server.page('# TYPE m gauge\nm{a="1"} 1\nm{a="2"} 2\ntimed 3 1700000000000\n')
    collector.collect(NOW)
    server.page('# TYPE m gauge\nm{a="2"} 2\n')
    batch = collector.collect(NOW + 1)
    gone = [sample for sample in batch.samples if math.isnan(sample.value)]
    assert [(sample.name, sample.labels["a"], sample.time, sample.kind) for sample in gone] == [
        ("m", "1", NOW + 1, "gauge")
    ]
    assert is_stale(gone[0])
    assert value(batch, "scrape_samples_scraped") == 1.0
    # said once, and alive again when it is back
    assert not [sample for sample in collector.collect(NOW + 2).samples if math.isnan(sample.value)]
    server.page('m{a="1"} 1\nm{a="2"} 2\n')
    assert len(named(collector.collect(NOW + 3), "m")) == 2


def test_when_the_target_goes_down_all_its_series_end(server: Pages) -> None:
    collector = ScrapeCollector(server.url)
    server.page("a 1\nb 2\nc 3 1700000000000\n")
    collector.collect(NOW)
    server.answer = lambda handler: handler.send(b"busy", status=500)
    batch = collector.collect(NOW + 1)
    assert "HTTP 500" in batch.problem
    assert (value(batch, "up"), value(batch, "scrape_samples_scraped")) == (0.0, 0.0)
    assert sorted(sample.name for sample in batch.samples if is_stale(sample)) == ["a", "b"]
    again = collector.collect(NOW + 2)
    assert sorted(sample.name for sample in again.samples) == sorted(OWN)
    server.page("a 1\n")
    back = collector.collect(NOW + 3)
    assert (value(back, "up"), back.problem) == (1.0, "")


def test_a_page_that_cannot_be_read_is_a_target_that_is_down(server: Pages) -> None:
    collector = ScrapeCollector(server.url)
    for body, kind, words in (
        ("a 1\nb\n", "text/plain", "line 2"),
        ("<html>", "text/html", "no metrics page"),
        ("a 1\nb 1\nc 1\n", "text/plain", "more than allowed"),
        ("a" * 2000, "text/plain", "1,000 bytes"),
    ):
        server.page(body, kind)
        batch = ScrapeCollector(server.url, max_samples=2, max_bytes=1000).collect(NOW)
        assert words in batch.problem
        assert value(batch, "up") == 0.0
        assert sorted(sample.name for sample in batch.samples) == sorted(OWN)
    server.page("a 1\n", "")
    assert collector.collect(NOW).problem == ""


def test_a_series_given_twice_counts_once(server: Pages) -> None:
    server.page('m{a="1",b="2"} 1\nm{b="2",a="1"} 2\nt 1 5\nt 2 6\nt 3 6\n')
    batch = ScrapeCollector(server.url).collect(NOW)
    assert [(sample.value, sample.time) for sample in batch.samples if sample.name in "mt"] == [
        (1.0, NOW),
        (1.0, 5000),
        (2.0, 6000),
    ]


def test_series_that_change_all_the_time_do_not_pile_up(server: Pages) -> None:
    collector = ScrapeCollector(server.url)
    for turn in range(40):
        server.page("".join(f'm{{id="{turn}-{each}"}} 1\n' for each in range(100)))
        batch = collector.collect(NOW + turn)
        assert len(batch.samples) == 100 + 3 + (100 if turn else 0)
        fresh = {sample.labels["id"] for sample in named(batch, "m") if not is_stale(sample)}
        assert fresh == {f"{turn}-{each}" for each in range(100)}
    assert len(collector._cache) <= 1200


def test_what_is_recorded_never_holds_the_password(server: Pages) -> None:
    collector = ScrapeCollector(server.url.replace("//", "//user:secret@"))
    batch = collector.collect(NOW)
    assert "secret" not in f"{collector.name}{batch}"
    assert server.requests[0][1]["authorization"].startswith("Basic ")


@pytest.mark.parametrize("url", ["localhost:9100", "file:///etc/passwd", "http://"])
def test_a_url_that_cannot_be_scraped(url: str) -> None:
    with pytest.raises(InvalidInput, match="URL"):
        ScrapeCollector(url)


def test_numbers_out_of_range() -> None:
    for options in ({"timeout": 0.0}, {"max_bytes": 0}, {"max_samples": -1}):
        with pytest.raises(InvalidInput, match="positive"):
            ScrapeCollector("http://h", **options)  # type: ignore[arg-type]


@pytest.fixture
def node_exporter() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Address and process of a real node exporter."""
    binary = shutil.which("prometheus-node-exporter") or shutil.which("node_exporter")
    if binary is None:
        pytest.skip("prometheus-node-exporter is not installed")
    port = free_port()
    process = subprocess.Popen(
        [binary, f"--web.listen-address=127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:

        def listening() -> bool:
            assert process.poll() is None, "the node exporter ended"
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        until(listening)
        yield f"127.0.0.1:{port}", process
    finally:
        process.terminate()
        process.wait(10)


def test_a_real_node_exporter(node_exporter: tuple[str, subprocess.Popen[bytes]]) -> None:
    address, _ = node_exporter
    collector = ScrapeCollector(f"http://{address}", job="node")
    first = collector.collect(NOW)
    assert first.problem == ""
    assert value(first, "up") == 1.0
    assert value(first, "scrape_samples_scraped") > 200
    assert all(sample.labels["instance"] == address for sample in first.samples)
    assert first.describe["node_cpu_seconds_total"] == {
        "kind": "counter",
        "help": "Seconds the CPUs spent in each mode.",
    }
    kinds = {sample.kind for sample in first.samples}
    assert {"counter", "gauge", "summary"} <= kinds
    with open("/proc/meminfo") as meminfo:
        total = int(meminfo.readline().split()[1]) * 1024
    assert value(first, "node_memory_MemTotal_bytes") == total
    # every line of the page that is a sample became one
    with urllib.request.urlopen(f"http://{address}/metrics") as answer:
        lines = [line for line in answer.read().decode().splitlines() if line and line[0] != "#"]
    assert abs(len(lines) - value(first, "scrape_samples_scraped")) <= 5
    second = collector.collect(NOW + 1_000_000)
    before = {str(sample.labels): sample.value for sample in named(first, "node_cpu_seconds_total")}
    after = {str(sample.labels): sample.value for sample in named(second, "node_cpu_seconds_total")}
    assert before.keys() == after.keys()
    assert all(after[key] >= before[key] for key in before)


def test_a_node_exporter_that_dies(node_exporter: tuple[str, subprocess.Popen[bytes]]) -> None:
    address, process = node_exporter
    collector = ScrapeCollector(f"http://{address}")
    alive = collector.collect(NOW)
    process.terminate()
    process.wait(10)
    dead = collector.collect(NOW + 1_000_000)
    assert "refused" in dead.problem
    assert value(dead, "up") == 0.0
    ended = [sample for sample in dead.samples if is_stale(sample)]
    assert len(ended) == value(alive, "scrape_samples_scraped")


def test_exemplars_of_a_page(server: Pages) -> None:
    page = """# TYPE hits counter
hits_total{job="theirs"} 7 # {trace_id="a"} 1.5
other_total 7 1700000000.5 # {} 2
third_total 7 # {trace_id="b"} 3 1700000000.25
# EOF
"""
    server.page(page, "application/openmetrics-text; version=1.0.0")
    target = {"job": server.url[7:], "instance": server.url[7:]}
    assert list(ScrapeCollector(server.url).collect(NOW).exemplars) == [
        Exemplar("hits_total", {"trace_id": "a"}, 1.5, target | {"exported_job": "theirs"}, NOW, stamped=False),
        Exemplar("other_total", {}, 2.0, target, 1_700_000_000_500_000, stamped=False),
        Exemplar("third_total", {"trace_id": "b"}, 3.0, target, 1_700_000_000_250_000),
    ]
