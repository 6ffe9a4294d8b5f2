"""OTLP: the real SDK and exporter write to a running server; and requests that no SDK would send."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, UpDownCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

from kymograph.server.limits import Limits
from kymograph.store.store import Store
from tests.server.running import Running, running

T = 1_700_000_000_000_000_000
PATHS = ["/v1/metrics", "/api/v1/otlp/v1/metrics"]


@pytest.fixture
def server() -> Iterator[Running]:
    with running() as found:
        yield found


def store_of(server: Running) -> Store:
    return server.state.slot.get()


def latest(server: Running, selector: str) -> dict[tuple[tuple[str, str], ...], float]:
    """Newest value by labels, without the name and what the resource says."""
    found = {}
    for labels, _, values in raw(server, selector):
        kept = {k: v for k, v in labels.items() if k not in ("__name__", "job", "instance")}
        found[tuple(sorted(kept.items()))] = values[-1]
    return found


def raw(server: Running, name: str) -> list[tuple[dict[str, str], list[int], list[float]]]:
    """Labels, times and values of every series of a metric."""
    store = store_of(server)
    rows = store.sql(f'SELECT * FROM metric."{name}" ORDER BY time').arrow()
    times = rows["time"].cast("int64").to_pylist()
    found: dict[tuple[tuple[str, str], ...], tuple[list[int], list[float]]] = {}
    for row, time in zip(rows.drop_columns("time").to_pylist(), times, strict=True):
        labels = {k: v for k, v in row.items() if k not in ("value", "series_id", "labels") and isinstance(v, str)}
        series = found.setdefault(tuple(sorted(labels.items())), ([], []))
        series[0].append(time)
        series[1].append(row["value"])
    return [(dict(labels), *both) for labels, both in found.items()]


def provider(url: str, **how: Any) -> MeterProvider:
    views = how.pop("views", ())
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(url, **how), export_interval_millis=60_000)
    resource = Resource.create(
        {"service.name": "shop", "service.namespace": "eu", "service.instance.id": "one", "host.name": "box"}
    )
    return MeterProvider([reader], resource, views=views)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("compression", [Compression.Gzip, Compression.NoCompression])
def test_the_sdk_writes_every_kind(server: Running, path: str, compression: Compression) -> None:
    metrics = provider(server.url + path, compression=compression)
    meter = metrics.get_meter("test")
    meter.create_counter("http.requests", unit="{request}", description="Answered").add(3, {"http.route": "/a"})
    meter.create_up_down_counter("queue.size").add(-2)
    meter.create_gauge("cpu.utilization", unit="1").set(0.25, {"ok": True, "n": 1, "list": ["a", "b"]})
    histogram = meter.create_histogram("wait", unit="ms", explicit_bucket_boundaries_advisory=[1, 5, 10.5])
    for value in (0.5, 1, 3, 7, 100):
        histogram.record(value)
    assert metrics.force_flush()
    metrics.shutdown()
    assert latest(server, "http_requests_total") == {(("http_route", "/a"),): 3}
    assert latest(server, "queue_size") == {(): -2}
    assert latest(server, "cpu_utilization_ratio") == {(("list", '["a", "b"]'), ("n", "1"), ("ok", "true")): 0.25}
    assert latest(server, "wait_milliseconds_bucket") == {
        (("le", "1"),): 2, (("le", "5"),): 3, (("le", "10.5"),): 4, (("le", "+Inf"),): 5,
    }  # fmt: skip
    assert latest(server, "wait_milliseconds_sum") == {(): 111.5}
    assert latest(server, "wait_milliseconds_count") == {(): 5}
    labels = raw(server, "queue_size")[0][0]
    assert (labels["job"], labels["instance"]) == ("eu/shop", "one")
    info = raw(server, "target_info")[0]
    assert info[0]["host_name"] == "box"
    assert set(info[2]) == {1.0}
    about = {each["name"]: each for each in store_of(server).metrics()}
    assert about["http_requests_total"]["kind"] == "counter"
    assert about["http_requests_total"]["help"] == "Answered"
    assert about["wait_milliseconds_bucket"]["kind"] == "histogram"
    assert about["cpu_utilization_ratio"]["kind"] == "gauge"


def test_deltas_of_the_sdk_become_totals(server: Running) -> None:
    delta = AggregationTemporality.DELTA
    metrics = provider(
        server.url + PATHS[0], preferred_temporality={Counter: delta, Histogram: delta, UpDownCounter: delta}
    )
    meter = metrics.get_meter("test")
    counter, histogram = meter.create_counter("c"), meter.create_histogram("h", explicit_bucket_boundaries_advisory=[1])
    for step in range(1, 4):
        counter.add(step)
        histogram.record(0.5)
        histogram.record(2)
        assert metrics.force_flush()
    metrics.shutdown()
    assert raw(server, "c_total")[0][2] == [1, 3, 6]
    assert {labels["le"]: values for labels, _, values in raw(server, "h_bucket")} == {
        "1": [1, 2, 3],
        "+Inf": [2, 4, 6],
    }


def test_exponential_histograms_of_the_sdk_are_classic_buckets(server: Running) -> None:
    metrics = provider(
        server.url + PATHS[0], views=[View(instrument_name="*", aggregation=ExponentialBucketHistogramAggregation())]
    )
    histogram = metrics.get_meter("test").create_histogram("h")
    values = [0.0, *(1.01**n for n in range(500)), 3.0, 4.0]
    for value in values:
        histogram.record(value)
    metrics.force_flush()
    metrics.shutdown()
    found = {float(labels["le"]): counts[-1] for labels, _, counts in raw(server, "h_bucket")}
    assert found[math.inf] == len(values)
    assert found[0.0] == 1
    assert len(found) < 100  # the finest scale would give 300
    for bound, count in found.items():
        # a bucket's own end may go either way, where it is no float
        assert sum(v < bound * (1 - 1e-12) for v in values) <= count <= sum(v <= bound * (1 + 1e-12) for v in values)


def request(metric: dict[str, Any], resource: dict[str, str] | None = None) -> bytes:
    attributes = [{"key": key, "value": {"stringValue": value}} for key, value in (resource or {}).items()]
    return json.dumps(
        {"resourceMetrics": [{"resource": {"attributes": attributes}, "scopeMetrics": [{"metrics": [metric]}]}]}
    ).encode()


def sent(server: Running, body: bytes, path: str = PATHS[0], **headers: str) -> Any:
    with server.client() as http:
        answer = http.post(path, content=body, headers={"Content-Type": "application/json", **headers})
    assert answer.status_code == 200, answer.text
    return answer.json()


def gauge(name: str, *points: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "gauge": {"dataPoints": list(points)}, **more}


def at(second: int, **point: Any) -> dict[str, Any]:
    return {"timeUnixNano": str(T + second * 10**9), **point}


def test_json_as_the_specification_has_it(server: Running) -> None:
    exemplars = [{"traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "EEE19B7EC3C1B174", "asDouble": 1}]
    body = request(
        gauge("m", at(0, asInt="9007199254740992"), at(1, asDouble=0.1, exemplars=exemplars), unknownField=1)
    )
    assert sent(server, gzip.compress(body), **{"Content-Encoding": "gzip"}) == {}
    assert raw(server, "m")[0][1:] == ([T // 1000, T // 1000 + 10**6], [9007199254740992.0, 0.1])


def test_a_point_without_a_value_is_stale_and_other_bits_are_kept(server: Running) -> None:
    sent(
        server,
        request(gauge("m", at(0, asDouble=1), at(1, flags=1), at(2, asDouble="NaN"), at(3, asDouble="-Infinity"))),
    )
    values = store_of(server).scan("samples")["value"].to_numpy()
    assert [f"{bits:x}" for bits in values.view("uint64")][1] == "7ff0000000000002"
    assert math.isnan(values[2])
    assert values[3] == -math.inf


def test_summaries(server: Running) -> None:
    quantiles = [{"quantile": 0.5, "value": 2}, {"quantile": 0.99, "value": 9}, {"quantile": 1, "value": 11}]
    point = at(0, count="4", sum=10.5, quantileValues=quantiles)
    sent(server, request({"name": "s", "unit": "s", "summary": {"dataPoints": [point]}}))
    assert {labels["quantile"]: values for labels, _, values in raw(server, "s_seconds")} == {
        "0.5": [2], "0.99": [9], "1": [11],
    }  # fmt: skip
    assert latest(server, "s_seconds_sum") == {(): 10.5}
    assert latest(server, "s_seconds_count") == {(): 4}


def test_negative_exponential_buckets(server: Running) -> None:
    point = at(
        0, count="10", sum=1.0, scale=0, zeroCount="2", zeroThreshold=0.25,
        positive={"offset": 0, "bucketCounts": ["1", "2"]}, negative={"offset": -1, "bucketCounts": ["4", "1"]},
    )  # fmt: skip
    metric = {"name": "e", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [point]}}
    assert sent(server, request(metric)) == {}
    assert {labels["le"]: values[0] for labels, _, values in raw(server, "e_bucket")} == {
        "-1": 1, "-0.5": 5, "0.25": 7, "2": 8, "4": 10, "+Inf": 10,
    }  # fmt: skip


def test_resource_attributes_are_promoted_when_asked(server: Running) -> None:
    resource = {"service.name": "a", "host.name": "box", "k8s.pod.name": "p"}
    body = request(gauge("m", at(0, asDouble=1, attributes=[{"key": "x.y", "value": {"intValue": "5"}}])), resource)
    sent(server, body, PATHS[0] + "?promote=host.name")
    assert raw(server, "m")[0][0].items() >= {"x_y": "5", "host_name": "box", "job": "a"}.items()
    sent(server, body.replace(b'"m"', b'"n"'), PATHS[0] + "?promote=*")
    assert raw(server, "n")[0][0].items() >= {"k8s_pod_name": "p", "service_name": "a"}.items()


def test_what_cannot_be_taken_is_told_and_the_rest_is_taken(server: Running) -> None:
    point = at(0, asDouble=1)
    for metric, reason in (
        (gauge("°", point), "name of a metric"),
        ({"name": "x", "sum": {"dataPoints": [point]}}, "neither delta nor cumulative"),
        (gauge("x", at(0)), "no value"),
        ({"name": "x", "histogram": {"aggregationTemporality": 2, "dataPoints": [
            at(0, count="1", bucketCounts=["1"], explicitBounds=[1, 2])]}}, "2 bounds and 1 buckets"),
        ({"name": "x", "histogram": {"aggregationTemporality": 2, "dataPoints": [
            at(0, count="1", bucketCounts=["1", "0", "0"], explicitBounds=[2, 1])]}}, "do not ascend"),
        (gauge("x", {**point, "attributes": [{"key": "__name__", "value": {"stringValue": "y"}}]}), "__name__"),
    ):  # fmt: skip
        document = json.loads(request(metric))
        document["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].append(gauge("good", at(1, asDouble=1)))
        told = sent(server, json.dumps(document).encode())["partialSuccess"]
        assert told["rejectedDataPoints"] == "1"
        assert reason in told["errorMessage"]
    assert raw(server, "good")[0][2] == [1.0]
    assert "x" not in {each["name"] for each in store_of(server).metrics() if each["series"]}


def test_a_delta_is_counted_once(server: Running) -> None:
    def delta(second: int, value: float) -> bytes:
        data = {"aggregationTemporality": 1, "isMonotonic": True, "dataPoints": [at(second, asDouble=value)]}
        return request({"name": "d", "sum": data})

    assert sent(server, delta(1, 5)) == {}
    assert sent(server, delta(1, 5))["partialSuccess"]["rejectedDataPoints"] == "1"
    assert sent(server, delta(0, 5))["partialSuccess"]["rejectedDataPoints"] == "1"
    assert sent(server, delta(2, 1)) == {}
    assert raw(server, "d_total")[0][2] == [5, 6]


def test_protobuf_answers_in_protobuf(server: Running) -> None:
    message = ExportMetricsServiceRequest()
    metric = message.resource_metrics.add().scope_metrics.add().metrics.add(name="x")
    metric.gauge.data_points.add(time_unix_nano=T)
    with server.client() as http:
        headers = {"Content-Type": "application/x-protobuf"}
        answer = http.post(PATHS[0], content=message.SerializeToString(), headers=headers)
        assert answer.headers["content-type"] == "application/x-protobuf"
        assert ExportMetricsServiceResponse.FromString(answer.content).partial_success.rejected_data_points == 1
        broken = http.post(PATHS[0], content=b"\xff\xff\xff", headers=headers)
        assert broken.status_code == 400
        assert b"no OTLP metrics request" in broken.content


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"resourceMetrics": 5}', b"\xff", b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":{"dataPoints":[{"asDouble":"x"}]}}]}]}]}'])  # fmt: skip
def test_garbage_is_a_400(server: Running, body: bytes) -> None:
    with server.client() as http:
        answer = http.post(PATHS[0], content=body, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_input")


def test_other_types_are_a_415(server: Running) -> None:
    with server.client() as http:
        for kind in ("", "text/plain", "application/grpc"):
            answer = http.post(PATHS[0], content=b"x", headers={"Content-Type": kind})
            assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")
        assert http.post(PATHS[0], content=b"", headers={"Content-Type": "application/x-protobuf"}).status_code == 200


def test_bodies_are_bounded() -> None:
    with running(limits=Limits(write_bytes=1000)) as server, server.client() as http:
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
        assert http.post(PATHS[0], content=gzip.compress(b"\0" * 10_000), headers=headers).status_code == 413
