"""Exemplars over HTTP: every way in, what of a message a broken one costs, the answer, and their deletion."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider

from kymograph import Exemplar
from kymograph.model.schema import table_schema
from kymograph.wire import snappy
from tests.server.running import Running, running
from tests.unit.wire import messages

NOW = 1_772_409_600_000
V2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
CUMULATIVE = {"aggregationTemporality": 2}
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture
def server() -> Iterator[Running]:
    with running() as found:
        yield found


@pytest.fixture
def http(server: Running) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def found(http: httpx.Client, query: str = '{__name__=~".+"}', **asked: str) -> list[tuple[Any, ...]]:
    """(series labels, labels, value, timestamp) of each."""
    answer = http.post("/api/v1/query_exemplars", data={"query": query, **asked})
    assert answer.status_code == 200, answer.text
    return [
        (each["seriesLabels"], one["labels"], one["value"], one["timestamp"])
        for each in answer.json()["data"]
        for one in each["exemplars"]
    ]


def written(http: httpx.Client, message: Any, kind: str = "application/x-protobuf") -> tuple[str, str]:
    body = snappy.pack(message.SerializeToString())
    answer = http.post("/api/v1/write", content=body, headers={"Content-Type": kind, "Content-Encoding": "snappy"})
    assert answer.status_code == 204, answer.text
    kinds = ("samples", "exemplars")
    samples, exemplars = (answer.headers[f"x-prometheus-remote-write-{each}-written"] for each in kinds)
    return samples, exemplars


def test_remote_write_1(http: httpx.Client) -> None:
    message = messages.V1["WriteRequest"]()
    one = message.timeseries.add()
    one.labels.add(name="__name__", value="m")
    one.samples.add(value=1.0, timestamp=NOW)
    for text, time in ((b"a", NOW), (b"late", NOW - 1), (b"x" * 128, NOW + 1), (b"\xff", NOW + 1), (b"b", NOW + 1)):
        one.exemplars.add(value=0.5, timestamp=time).labels.add(name=b"trace_id", value=text)
    one.exemplars.add(value=0.5, timestamp=2**62)
    other = message.timeseries.add()
    other.labels.add(name="__name__", value="never_sampled")
    other.exemplars.add(value=1.0, timestamp=NOW)
    assert written(http, message) == ("1", "2")
    assert written(http, message) == ("1", "0")
    assert found(http) == [
        ({"__name__": "m"}, {"trace_id": "a"}, "0.5", NOW // 1000),
        ({"__name__": "m"}, {"trace_id": "b"}, "0.5", NOW / 1000 + 0.001),
    ]
    assert found(http, "never_sampled") == []


def test_remote_write_2(http: httpx.Client) -> None:
    message = messages.V2["Request"](symbols=["", "__name__", "m", "trace_id", "a"])
    one = message.timeseries.add(labels_refs=[1, 2])
    one.samples.add(value=1.0, timestamp=NOW)
    one.exemplars.add(labels_refs=[3, 99], value=0.5, timestamp=NOW)
    one.exemplars.add(labels_refs=[3, 4], value=0.5, timestamp=NOW)
    assert written(http, message, V2) == ("1", "1")
    assert found(http) == [({"__name__": "m"}, {"trace_id": "a"}, "0.5", NOW // 1000)]


def test_a_table_of_that_name_costs_no_samples(server: Running, http: httpx.Client) -> None:
    server.state.slot.get().engine.create_table(table_schema("exemplars", [], {"x": "float64"}))
    message = messages.V1["WriteRequest"]()
    one = message.timeseries.add()
    one.labels.add(name="__name__", value="m")
    one.samples.add(value=1.0, timestamp=NOW)
    one.exemplars.add(value=0.5, timestamp=NOW)
    assert written(http, message) == ("1", "0")


def test_a_page_of_openmetrics(http: httpx.Client) -> None:
    page = """# TYPE took histogram
took_bucket{le="1"} 3 1772409600.5 # {trace_id="of the sample"} 0.7
took_bucket{le="+Inf"} 4 1772409600.5 # {trace_id="own \\"time\\""} 9 1772409599.25
took_count 4 1772409600.5
# TYPE c counter
c_total 3 1772409600 # {a="1",a="2"} 1
d_total 3 1772409600 # {} 1 1e300
e_total 3 1772409600 # {a="%s"} 1
# EOF
""" % ("x" * 128)
    for _ in range(2):  # seen again
        answer = http.post(
            "/api/v1/import/prometheus?extra_label=job=x", content=page, headers={"Content-Type": OPENMETRICS}
        )
        assert answer.status_code == 204, answer.text
    took = {"__name__": "took_bucket", "job": "x"}
    assert found(http) == [
        (took | {"le": "+Inf"}, {"trace_id": 'own "time"'}, "9", NOW / 1000 - 0.75),
        (took | {"le": "1"}, {"trace_id": "of the sample"}, "0.7", NOW / 1000 + 0.5),
    ]
    assert len(http.get("/api/v1/series", params={"match[]": '{job="x"}'}).json()["data"]) == 6


def test_a_page_that_is_none(http: httpx.Client) -> None:
    """Prometheus refuses such a page too."""
    for broken in ("# {a=1} 1", '# {a="1"}', '# {a="1"} one', '# {"a"} 1', '# {a="1"} 1 NaN', "# 1"):
        page = f"good 1\nc_total 3 {broken}\n# EOF\n"
        answer = http.post("/api/v1/import/prometheus", content=page, headers={"Content-Type": OPENMETRICS})
        assert answer.status_code == 400, broken
        assert "line 2" in answer.json()["error"]["message"]
    # the text format has no exemplars
    assert http.post("/api/v1/import/prometheus", content='c_total 3 # {a="1"} 1\n').status_code == 400
    assert http.get("/api/v1/series", params={"match[]": '{__name__=~".+"}'}).json()["data"] == []


def otlp(**points: Any) -> dict[str, Any]:
    """A request of metrics by name: kind and one data point."""
    metrics = [{"name": name, kind: {"dataPoints": [point], **more}} for name, (kind, point, more) in points.items()]
    return {"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}


def test_otlp_json(http: httpx.Client) -> None:
    ids = {"traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "EEE19B7EC3C1B174"}
    attribute = {"key": "user.id", "value": {"stringValue": "u"}}
    long = {"key": "long", "value": {"stringValue": "x" * 200}}
    at = str(NOW * 10**6)
    exemplars = [
        {"timeUnixNano": str((NOW + 2) * 10**6), "asDouble": 5.0, **ids, "filteredAttributes": [attribute]},
        {"timeUnixNano": str((NOW + 1) * 10**6), "asInt": "1", "filteredAttributes": [long], **ids},
        {"asDouble": 77, "spanId": "0000000000000000", "traceId": "00000000000000000000000000000000"},
        {"timeUnixNano": at},  # without a value
    ]
    histogram = {"timeUnixNano": at, "count": "3", "sum": 6, "bucketCounts": ["1", "1", "1"], "explicitBounds": [1, 5]}
    body = otlp(
        calls=(
            "sum",
            {"timeUnixNano": at, "asInt": "3", "exemplars": exemplars[:1]},
            {"isMonotonic": True} | CUMULATIVE,
        ),
        took=("histogram", {**histogram, "exemplars": exemplars}, CUMULATIVE),
        load=("gauge", {"timeUnixNano": at, "asInt": "3", "exemplars": [{"asDouble": 1.0, "traceId": "abcd"}]}, {}),
    )
    answer = http.post("/v1/metrics", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.json() == {}
    hexadecimal = {"trace_id": ids["traceId"].lower(), "span_id": ids["spanId"].lower()}
    bucket = {"__name__": "took_bucket"}
    assert found(http) == [
        ({"__name__": "calls_total"}, hexadecimal | {"user.id": "u"}, "5", NOW / 1000 + 0.002),
        ({"__name__": "load"}, {}, "1", NOW // 1000),
        (bucket | {"le": "+Inf"}, {}, "77", NOW // 1000),
        (bucket | {"le": "1"}, hexadecimal, "1", NOW / 1000 + 0.001),
        (bucket | {"le": "5"}, hexadecimal | {"user.id": "u"}, "5", NOW / 1000 + 0.002),
    ]


def test_otlp_of_the_sdk(server: Running, http: httpx.Client) -> None:
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(f"{server.url}/v1/metrics"), export_interval_millis=60_000
    )
    metrics = MeterProvider([reader], exemplar_filter=AlwaysOnExemplarFilter())
    took = metrics.get_meter("test").create_histogram("took", unit="s")
    with TracerProvider().get_tracer("test").start_as_current_span("work") as span:
        took.record(7.0)
    context = span.get_span_context()
    metrics.shutdown()
    ((series, labels, value, _),) = found(http)
    assert (series["__name__"], series["le"], value) == ("took_seconds_bucket", "10", "7")
    assert labels == {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def test_otlp_protobuf_that_no_sdk_sends(http: httpx.Client) -> None:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="m")
    point = metric.gauge.data_points.add(as_double=1.0, time_unix_nano=NOW * 10**6)
    point.exemplars.add(as_double=1.0, time_unix_nano=2**64 - 1)
    point.exemplars.add(as_double=2.0, trace_id=b"short", span_id=b"\xff" * 8)
    body = request.SerializeToString()
    answer = http.post("/v1/metrics", content=body, headers={"Content-Type": "application/x-protobuf"})
    assert answer.status_code == 200
    assert found(http) == [
        ({"__name__": "m"}, {"span_id": "f" * 16}, "2", NOW // 1000),
        ({"__name__": "m"}, {}, "1", 18446744073.709),
    ]


def test_delete_series(server: Running, http: httpx.Client) -> None:
    store = server.state.slot.get()
    for host in "ab":
        store.gauge("m", 1.0, {"host": host}, time=NOW * 1000)
    store.record_exemplars([Exemplar("m", {}, 1.0, {"host": host}, NOW * 1000) for host in "ab"])
    assert http.post("/api/v1/admin/tsdb/delete_series", params={"match[]": 'm{host="a"}'}).status_code == 204
    assert [series["host"] for series, *_ in found(http)] == ["b"]


def test_the_ends_are_in_the_range(server: Running, http: httpx.Client) -> None:
    store = server.state.slot.get()
    store.gauge("m", 1.0, time=NOW * 1000)
    store.record_exemplars([Exemplar("m", {}, 1.0, {}, NOW * 1000 + n) for n in (0, 999, 1000, 1999, 2000)])
    at = NOW / 1000
    assert len(found(http, "m", start=f"{at:.3f}", end=f"{at:.3f}")) == 2
    assert len(found(http, "m", start=f"{at + 0.001:.3f}", end=f"{at + 0.001:.3f}")) == 2
    assert len(found(http, "m", end=f"{at + 0.001:.3f}")) == 4
    assert len(found(http, "m", start=f"{at + 0.002:.3f}")) == 1
