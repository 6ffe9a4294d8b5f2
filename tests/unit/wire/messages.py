"""The messages of remote write and remote read in Google's protobuf: the oracle, and the encoder of the tests."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_TYPES = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _TYPES.TYPE_STRING,
    "bytes": _TYPES.TYPE_BYTES,
    "double": _TYPES.TYPE_DOUBLE,
    "int64": _TYPES.TYPE_INT64,
    "uint64": _TYPES.TYPE_UINT64,
    "uint32": _TYPES.TYPE_UINT32,
    "int32": _TYPES.TYPE_INT32,  # stands for enums, which are coded alike
}
# message: {field: (number, type, repeated)}
_V1 = {
    "Sample": {"value": (1, "double", False), "timestamp": (2, "int64", False)},
    "Label": {"name": (1, "string", False), "value": (2, "string", False)},
    # text on the wire too; Go's decoder, unlike this one, refuses no message whose text is not UTF-8
    "LabelBytes": {"name": (1, "bytes", False), "value": (2, "bytes", False)},
    "Exemplar": {"labels": (1, "LabelBytes", True), "value": (2, "double", False), "timestamp": (3, "int64", False)},
    "Histogram": {"count_int": (1, "uint64", False), "sum": (3, "double", False), "timestamp": (15, "int64", False)},
    "TimeSeries": {
        "labels": (1, "Label", True),
        "samples": (2, "Sample", True),
        "exemplars": (3, "Exemplar", True),
        "histograms": (4, "Histogram", True),
    },
    "MetricMetadata": {
        "type": (1, "int32", False),
        "metric_family_name": (2, "string", False),
        "help": (4, "string", False),
        "unit": (5, "string", False),
    },
    "WriteRequest": {"timeseries": (1, "TimeSeries", True), "metadata": (3, "MetricMetadata", True)},
    "LabelMatcher": {"type": (1, "int32", False), "name": (2, "string", False), "value": (3, "string", False)},
    "ReadHints": {"step_ms": (1, "int64", False), "func": (2, "string", False)},
    "Query": {
        "start_timestamp_ms": (1, "int64", False),
        "end_timestamp_ms": (2, "int64", False),
        "matchers": (3, "LabelMatcher", True),
        "hints": (4, "ReadHints", False),
    },
    "ReadRequest": {"queries": (1, "Query", True), "accepted_response_types": (2, "int32", True)},
    "QueryResult": {"timeseries": (1, "TimeSeries", True)},
    "ReadResponse": {"results": (1, "QueryResult", True)},
}
_V2 = {
    "Sample": _V1["Sample"],
    "Histogram": _V1["Histogram"],
    "Exemplar": {"labels_refs": (1, "uint32", True), "value": (2, "double", False), "timestamp": (3, "int64", False)},
    "Metadata": {"type": (1, "int32", False), "help_ref": (3, "uint32", False), "unit_ref": (4, "uint32", False)},
    "TimeSeries": {
        "labels_refs": (1, "uint32", True),
        "samples": (2, "Sample", True),
        "histograms": (3, "Histogram", True),
        "exemplars": (4, "Exemplar", True),
        "metadata": (5, "Metadata", False),
        "created_timestamp": (6, "int64", False),
    },
    "Request": {"symbols": (4, "string", True), "timeseries": (5, "TimeSeries", True)},
}


def _classes(package: str, messages: dict[str, dict[str, tuple[int, str, bool]]]) -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            label = _TYPES.LABEL_REPEATED if repeated else _TYPES.LABEL_OPTIONAL
            one = message.field.add(name=field, number=number, label=label)
            if kind in _SCALARS:
                one.type = _SCALARS[kind]
            else:
                one.type, one.type_name = _TYPES.TYPE_MESSAGE, f".{package}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in messages}


V1 = _classes("prometheus", _V1)
V2 = _classes("io.prometheus.write.v2", _V2)


def write_v1(series: list[tuple[dict[str, str], list[tuple[int, float]]]]) -> bytes:
    """A WriteRequest: label sets with `__name__`, and their samples (ms, value)."""
    request = V1["WriteRequest"]()
    for labels, samples in series:
        one = request.timeseries.add()
        for name, value in labels.items():
            one.labels.add(name=name, value=value)
        for time, value in samples:
            one.samples.add(timestamp=time, value=value)
    found: bytes = request.SerializeToString()
    return found


def write_v2(
    series: list[tuple[dict[str, str], list[tuple[int, float]]]], about: dict[str, tuple[int, str, str]] | None = None
) -> bytes:
    """A Request of version 2; `about` is kind, help and unit by metric name."""
    request = V2["Request"]()
    symbols = {"": 0}

    def ref(text: str) -> int:
        return symbols.setdefault(text, len(symbols))

    for labels, samples in series:
        one = request.timeseries.add()
        for name, value in labels.items():
            one.labels_refs.extend([ref(name), ref(value)])
        for time, value in samples:
            one.samples.add(timestamp=time, value=value)
        kind, text, unit = (about or {}).get(labels.get("__name__", ""), (0, "", ""))
        if kind or text or unit:
            one.metadata.type, one.metadata.help_ref, one.metadata.unit_ref = kind, ref(text), ref(unit)
    request.symbols.extend(symbols)
    found: bytes = request.SerializeToString()
    return found
