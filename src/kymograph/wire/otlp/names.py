"""Names of OpenTelemetry as names of Prometheus, the way Prometheus 3 does by default.

That is its strategy UnderscoreEscapingWithSuffixes: whatever a classic name may not hold becomes `_`, units and kinds
become suffixes. Source: OpenTelemetry specification, "Prometheus and OpenMetrics Compatibility".
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

_UNITS = {
    "d": "days",
    "h": "hours",
    "min": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "By": "bytes",
    **{f"{short}iBy": f"{long}bibytes" for short, long in (("K", "ki"), ("M", "me"), ("G", "gi"), ("T", "te"))},
    **{f"{short}By": f"{long}bytes" for short, long in (("K", "kilo"), ("M", "mega"), ("G", "giga"), ("T", "tera"))},
    "m": "meters",
    "V": "volts",
    "A": "amperes",
    "J": "joules",
    "W": "watts",
    "g": "grams",
    "Cel": "celsius",
    "Hz": "hertz",
    "1": "",
    "%": "percent",
}
_PER = {"s": "second", "m": "minute", "min": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year"}
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9:]+")
_NOT_IN_LABELS = re.compile(r"[^a-zA-Z0-9_]")
_ANNOTATION = re.compile(r"\{[^}]*\}")


def metric_name(name: str, unit: str, *, counter: bool = False, gauge: bool = False) -> str:
    """The metric of an instrument: `http.server.duration` in `ms` is `http_server_duration_milliseconds`.

    Args:
        counter: a monotonic sum: `_total` goes last.
        gauge: of the unit 1: `_ratio` goes last.

    Returns:
        "" when nothing of the name is left.
    """
    words = [word for word in _NOT_IN_NAMES.split(name) if word]
    if not words:
        return ""
    for suffix in _suffixes(unit):
        if not any(words[at : at + len(suffix)] == suffix for at in range(len(words))):
            words += suffix
    for wanted, last in ((counter, "total"), (gauge and unit.strip() == "1", "ratio")):
        if wanted:
            words = [word for word in words if word != last] + [last]
    joined = "_".join(words)
    return f"_{joined}" if joined[0].isdigit() else joined


def _suffixes(unit: str) -> list[list[str]]:
    """The words of a unit: By/s is bytes, per second. What stands in braces is a remark and no unit."""
    main, _, per = _ANNOTATION.sub("", unit.strip()).partition("/")
    found = []
    main, per = main.strip(), per.strip()
    for text, words, known in ((main, [], _UNITS), (per, ["per"], _PER)):
        word = [part for part in _NOT_IN_NAMES.split(known.get(text, text)) if part]
        if word:
            found.append([*words, *word])
    return found


def label_name(key: str) -> str:
    """The label of an attribute: `k8s.pod.name` is `k8s_pod_name`."""
    name = _NOT_IN_LABELS.sub("_", key)
    if name[:1].isdigit():
        return f"key_{name}"
    return f"key{name}" if name.startswith("_") and not name.startswith("__") else name


def labels_of(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Attributes as labels. Those that come to one name have their values joined by `;`, in the order of their keys."""
    found: dict[str, list[str]] = {}
    for key, value in sorted(pairs):
        if key:
            found.setdefault(label_name(key), []).append(value)
    return {name: values[0] if len(values) == 1 else ";".join(values) for name, values in found.items()}


def text_of(value: Any) -> str:
    """The text of an attribute's value (an `AnyValue` message): JSON where it has parts, base64 of bytes."""
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return str(value.string_value)
    plain = _plain(value)
    return plain if isinstance(plain, str) else "" if plain is None else json.dumps(plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(each) for each in value.array_value.values]
    if kind == "kvlist_value":
        return {each.key: _plain(each.value) for each in value.kvlist_value.values}
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return getattr(value, kind) if kind else None


def job_and_instance(resource: Mapping[str, str]) -> dict[str, str]:
    """The labels by which Prometheus knows a target."""
    name, space = resource.get("service.name", ""), resource.get("service.namespace", "")
    found = {"job": f"{space}/{name}" if space and name else name, "instance": resource.get("service.instance.id", "")}
    return {label: value for label, value in found.items() if value}
