"""OTLP metrics (protobuf or JSON) as scalar samples in Prometheus' terms.

Histograms become classic buckets, exponential ones too; summaries become quantiles. The messages are decoded by the
compiled protobuf runtime, which the extra `otlp` brings: no default dependency, because it is pinned by many others.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kymograph.errors import InvalidInput, MissingDependency
from kymograph.model.exemplar import Exemplar
from kymograph.wire.otlp.exemplars import exemplars_of
from kymograph.wire.otlp.names import job_and_instance, labels_of, metric_name, text_of

Labels = tuple[tuple[str, str], ...]
Series = tuple[str, Labels]

# finer exponential histograms are made coarser: eight buckets for each doubling, so that series stay few and the same
FINEST_SCALE = 3
# the NaN by which Prometheus says that a series has ended
_STALE: float = struct.unpack("<d", (0x7FF0000000000002).to_bytes(8, "little"))[0]
# characters kept of a unit or description
_TEXT = 2000
_NO_VALUE = 1  # bit of a point's flags
_DELTA, _CUMULATIVE = 1, 2
_IDENTIFYING = ("service.name", "service.namespace", "service.instance.id")


@dataclass(frozen=True, slots=True)
class Point:
    """One data point as samples of one time.

    Attributes:
        time: µs; 0 where the message has none.
        delta: the values are what was added since the point before, to be summed up.
        samples: series and value of each.
        exemplars: of these series.
    """

    time: int
    delta: bool
    samples: Sequence[tuple[Series, float]]
    exemplars: Sequence[Exemplar] = ()


@dataclass
class Request:
    """What one request brings.

    Attributes:
        points: the data points that could be read.
        about: metadata by metric name.
        rejected: data points that were not taken; `reasons` says why, each reason once.
        stored: samples that became of the others, once they are stored.
        exemplars: how many exemplars were stored beside them.
    """

    points: list[Point] = field(default_factory=list)
    about: dict[str, dict[str, str]] = field(default_factory=dict)
    rejected: int = 0
    reasons: list[str] = field(default_factory=list)
    stored: int = 0
    exemplars: int = 0

    def reject(self, count: int, reason: str) -> None:
        self.rejected += count
        if reason not in self.reasons and len(self.reasons) < 10:
            self.reasons.append(reason)


def read_request(body: bytes, *, json: bool, promote: Iterable[str] = ()) -> Request:
    """The samples of an ExportMetricsServiceRequest.

    Args:
        json: the body is OTLP's JSON, otherwise protobuf.
        promote: resource attributes that become labels of every series; `*` is all of them. `job` and `instance` are
            always there, the others are labels of `target_info`.

    Raises:
        InvalidInput: not such a message. MissingDependency: the extra `otlp` is not installed.
    """
    message = _decoded(body, json)
    request = Request()
    for resource in message.resource_metrics:
        _Resource(resource.resource, frozenset(promote), request).read(resource.scope_metrics)
    return request


def answer(request: Request, *, json: bool) -> bytes:
    """The ExportMetricsServiceResponse: empty when all was taken, else how many points were not and why."""
    service, json_format = _messages()
    response = service.ExportMetricsServiceResponse()
    if request.rejected:
        response.partial_success.rejected_data_points = request.rejected
        response.partial_success.error_message = "; ".join(request.reasons)
    text = json_format.MessageToJson(response, indent=None).encode() if json else response.SerializeToString()
    return bytes(text)


def _messages() -> tuple[Any, Any]:
    try:
        from google.protobuf import json_format
        from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
    except ImportError:
        raise MissingDependency(
            "OTLP needs the package opentelemetry-proto", hint="pip install 'kymograph[otlp]'"
        ) from None
    return metrics_service_pb2, json_format


def _decoded(body: bytes, json: bool) -> Any:
    service, json_format = _messages()
    message = service.ExportMetricsServiceRequest()
    if json and not body.lstrip().startswith(b"{"):  # of an empty list protobuf's reader makes an empty message
        raise InvalidInput("the body is no OTLP metrics request: it is no JSON object")
    try:
        if json:
            json_format.Parse(body.decode(), message, ignore_unknown_fields=True)
        else:
            message.ParseFromString(body)
    except Exception as problem:  # each implementation of protobuf has errors of its own
        raise InvalidInput(f"the body is no OTLP metrics request: {str(problem)[:200]}") from None
    return message


class _Resource:
    """The metrics of one resource."""

    def __init__(self, resource: Any, promote: frozenset[str], request: Request) -> None:
        attributes = {each.key: text_of(each.value) for each in resource.attributes}
        self._target = job_and_instance(attributes)
        every = "*" in promote
        promoted = labels_of((key, value) for key, value in attributes.items() if every or key in promote)
        self._base = {**promoted, **self._target}
        self._info = labels_of((key, value) for key, value in attributes.items() if key not in _IDENTIFYING)
        self._request = request

    def read(self, scopes: Iterable[Any]) -> None:
        newest = 0
        for scope in scopes:
            for metric in scope.metrics:
                for point in self._points(metric):
                    newest = max(newest, point.time)
                    self._request.points.append(point)
        if newest and self._target and self._info:
            labels = _identity({**self._info, **self._target})
            self._request.points.append(Point(newest, False, [(("target_info", labels), 1.0)]))
            self._request.about["target_info"] = {"kind": "gauge", "help": "Attributes of the resource"}

    def _points(self, metric: Any) -> Iterator[Point]:
        kind = metric.WhichOneof("data")
        if kind is None:
            self._request.reject(0, f"metric {metric.name[:80]!r} has no data")
            return
        data = getattr(metric, kind)
        counter = kind == "sum" and data.is_monotonic
        name = metric_name(metric.name, metric.unit, counter=counter, gauge=kind == "gauge")
        temporality = getattr(data, "aggregation_temporality", _CUMULATIVE)
        points = data.data_points
        if not name or len(name) > 240:
            self._request.reject(len(points), f"{metric.name[:80]!r} cannot be the name of a metric")
        elif temporality not in (_DELTA, _CUMULATIVE):
            self._request.reject(len(points), f"metric {metric.name[:80]!r} says neither delta nor cumulative")
        else:
            self._describe(name, metric, "counter" if counter else _KINDS[kind])
            for point in points:
                try:
                    yield self._point(name, kind, point, temporality == _DELTA)
                except ValueError as problem:
                    self._request.reject(1, f"metric {metric.name[:80]!r}: {problem}")

    def _describe(self, name: str, metric: Any, kind: str) -> None:
        about = {"kind": kind, "unit": metric.unit[:_TEXT], "help": metric.description[:_TEXT]}
        suffixes = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}.get(kind, ("",))
        for suffix in suffixes:
            told = about if suffix in ("", "_sum") else {**about, "unit": ""}
            self._request.about[name + suffix] = {key: text for key, text in told.items() if text}

    def _point(self, name: str, kind: str, point: Any, delta: bool) -> Point:
        attributes = labels_of((each.key, text_of(each.value)) for each in point.attributes)
        labels = {**self._base, **attributes, **self._target}
        samples = _SAMPLES[kind](name, labels, point)
        if point.flags & _NO_VALUE:
            return Point(point.time_unix_nano // 1000, False, [(series, _STALE) for series, _ in samples])
        return Point(point.time_unix_nano // 1000, delta, samples, exemplars_of(point, samples))


def _identity(labels: dict[str, str]) -> Labels:
    return tuple(sorted(pair for pair in labels.items() if pair[1]))


def _number(name: str, labels: dict[str, str], point: Any) -> list[tuple[Series, float]]:
    kind = point.WhichOneof("value")
    if kind is None and not point.flags & _NO_VALUE:
        raise ValueError("a data point has no value")
    return [((name, _identity(labels)), float(getattr(point, kind)) if kind else 0.0)]


def _histogram(name: str, labels: dict[str, str], point: Any) -> list[tuple[Series, float]]:
    bounds, counts = np.array(point.explicit_bounds), np.array(point.bucket_counts, np.float64)
    if len(counts) not in (0, len(bounds) + 1):
        raise ValueError(f"a histogram has {len(bounds)} bounds and {len(counts)} buckets")
    if len(bounds) and not (np.diff(bounds) > 0).all():
        raise ValueError("the bounds of a histogram do not ascend")
    return _classic(name, labels, point, bounds[: max(0, len(counts) - 1)], np.cumsum(counts)[:-1])


def _exponential(name: str, labels: dict[str, str], point: Any) -> list[tuple[Series, float]]:
    scale = point.scale
    if not -32 <= scale <= 32:
        raise ValueError(f"an exponential histogram has the scale {scale}")
    below, below_counts = _powers(point.negative, scale)
    above, above_counts = _powers(point.positive, scale)
    # a bucket holds (base**i, base**(i + 1)]; mirrored below zero, its upper end is the one nearer to zero
    bounds = np.concatenate([-below[:-1][::-1], [point.zero_threshold], above[1:]])
    counts = np.cumsum(np.concatenate([below_counts[::-1], [float(point.zero_count)], above_counts]))
    if not (np.diff(bounds) >= 0).all():
        raise ValueError("the zero threshold of an exponential histogram reaches into its buckets")
    # the ends of a float's range come several times
    last = np.append(np.diff(bounds) > 0, True) & np.isfinite(bounds)
    return _classic(name, labels, point, bounds[last], counts[last])


def _powers(buckets: Any, scale: int) -> tuple[Any, Any]:
    """Ends of the buckets, one more than there are, and counts, at `FINEST_SCALE` or coarser."""
    counts = np.array(buckets.bucket_counts, np.float64)
    if not len(counts):
        return np.empty(0), counts
    coarser = max(0, scale - FINEST_SCALE)
    places = (buckets.offset + np.arange(len(counts))) >> coarser
    first = int(places[0])
    summed = np.bincount(places - first, counts)
    with np.errstate(over="ignore"):
        ends = np.exp2((first + np.arange(len(summed) + 1)) * 2.0 ** -(scale - coarser))
    return ends, summed


def _classic(name: str, labels: dict[str, str], point: Any, bounds: Any, below: Any) -> list[tuple[Series, float]]:
    """Cumulative buckets up to each bound, all of them, the sum where there is one, and the count."""
    total = float(point.count)
    texts = [np.format_float_positional(bound, trim="-") for bound in bounds.tolist()]
    samples = [
        ((name + "_bucket", _identity({**labels, "le": le})), value)
        for le, value in zip([*texts, "+Inf"], [*below.tolist(), total], strict=True)
    ]
    plain = _identity(labels)
    if point.HasField("sum"):
        samples.append(((name + "_sum", plain), point.sum))
    samples.append(((name + "_count", plain), total))
    return samples


def _summary(name: str, labels: dict[str, str], point: Any) -> list[tuple[Series, float]]:
    plain = _identity(labels)
    samples = [
        ((name, _identity({**labels, "quantile": np.format_float_positional(each.quantile, trim="-")})), each.value)
        for each in point.quantile_values
    ]
    return [*samples, ((name + "_sum", plain), point.sum), ((name + "_count", plain), float(point.count))]


_KINDS = {
    "gauge": "gauge",
    "sum": "gauge",
    "histogram": "histogram",
    "exponential_histogram": "histogram",
    "summary": "summary",
}
_SAMPLES: dict[str, Callable[[str, dict[str, str], Any], list[tuple[Series, float]]]] = {
    "gauge": _number,
    "sum": _number,
    "histogram": _histogram,
    "exponential_histogram": _exponential,
    "summary": _summary,
}
