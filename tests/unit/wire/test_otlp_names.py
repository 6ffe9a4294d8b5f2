"""Names of instruments and attributes as Prometheus has them."""

from __future__ import annotations

import pytest

from kymograph.wire.otlp.names import job_and_instance, label_name, labels_of, metric_name


@pytest.mark.parametrize(
    ("name", "unit", "kind", "expected"),
    [
        ("http.server.duration", "ms", "", "http_server_duration_milliseconds"),
        ("http.server.duration_seconds", "s", "", "http_server_duration_seconds"),
        ("system.network.io", "By", "counter", "system_network_io_bytes_total"),
        ("requests_total", "1", "counter", "requests_total"),
        ("total.requests", "", "counter", "requests_total"),
        ("system.memory.utilization", "1", "gauge", "system_memory_utilization_ratio"),
        ("ratio.of", "1", "gauge", "of_ratio"),
        ("queue.length", "{item}", "gauge", "queue_length"),
        ("speed", "m/s", "gauge", "speed_meters_per_second"),
        ("disk.rate", "By/s", "", "disk_rate_bytes_per_second"),
        ("faults", "{fault}/s", "", "faults_per_second"),
        ("temp", "Cel", "gauge", "temp_celsius"),
        ("load", "%", "gauge", "load_percent"),
        ("odd", "furlong", "", "odd_furlong"),
        ("2xx.count", "", "", "_2xx_count"),
        ("a::b", "", "", "a::b"),
        ("__weird--name__", "", "", "weird_name"),
        ("größe", "By", "", "gr_e_bytes"),
        ("°", "", "", ""),
    ],
)  # fmt: skip
def test_metric_names(name: str, unit: str, kind: str, expected: str) -> None:
    assert metric_name(name, unit, counter=kind == "counter", gauge=kind == "gauge") == expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [("http.route", "http_route"), ("1st", "key_1st"), ("_x", "key_x"), ("__x", "__x"), ("é", "key_"), ("a-b", "a_b")],
)
def test_label_names(key: str, expected: str) -> None:
    assert label_name(key) == expected


def test_attributes_of_one_label_are_joined() -> None:
    assert labels_of([("a_b", "2"), ("a.b", "1"), ("c", "3")]) == {"a_b": "1;2", "c": "3"}


def test_job_and_instance() -> None:
    assert job_and_instance({"service.name": "a"}) == {"job": "a"}
    assert job_and_instance({"service.name": "a", "service.namespace": "n", "service.instance.id": "i"}) == {
        "job": "n/a", "instance": "i",
    }  # fmt: skip
    assert job_and_instance({"service.namespace": "n"}) == {}
