"""Exemplars of OTLP's data points, labelled as Prometheus does: `trace_id`, `span_id`, and what else there is room for."""

from __future__ import annotations

import base64
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

from kymograph.model.exemplar import MAX_CHARACTERS, Exemplar
from kymograph.wire.otlp.names import text_of

Series = tuple[str, tuple[tuple[str, str], ...]]

_TRACE, _SPAN = 16, 8  # bytes of their ids


def exemplars_of(point: Any, samples: Sequence[tuple[Series, float]]) -> list[Exemplar]:
    """The exemplars of a data point, oldest first; of a histogram each in the lowest bucket that holds its value.

    Args:
        samples: what became of the point; those of buckets come first and ascend.
    """
    found = [one for each in getattr(point, "exemplars", ()) if (one := _exemplar(each, point, samples)) is not None]
    return sorted(found, key=lambda one: one.time or 0)


def _exemplar(told: Any, point: Any, samples: Sequence[tuple[Series, float]]) -> Exemplar | None:
    kind = told.WhichOneof("value")
    if kind is None:
        return None
    value = float(getattr(told, kind))
    name, series = _holder(samples, value)
    ids = dict(_ids(told))
    labels = {**{each.key: text_of(each.value) for each in told.filtered_attributes}, **ids}
    if sum(len(label) + len(text) for label, text in labels.items()) > MAX_CHARACTERS:
        labels = ids
    nanoseconds = told.time_unix_nano or point.time_unix_nano
    time = nanoseconds // 1000 if nanoseconds else None
    return Exemplar(name, labels, value, dict(series), time, stamped=told.time_unix_nano > 0)


def _holder(samples: Sequence[tuple[Series, float]], value: float) -> Series:
    """The series that an exemplar stands behind: the bucket, or the only one there is."""
    bounds = [
        float(dict(labels)["le"]) for (name, labels), _ in samples if name.endswith("_bucket") and _has_le(labels)
    ]
    place = min(bisect_left(bounds, value), len(bounds) - 1) if bounds and value == value else len(bounds) - 1
    return samples[max(0, place)][0]


def _has_le(labels: tuple[tuple[str, str], ...]) -> bool:
    return any(label == "le" for label, _ in labels)


def _ids(told: Any) -> Iterator[tuple[str, str]]:
    for label, data, size in (("trace_id", told.trace_id, _TRACE), ("span_id", told.span_id, _SPAN)):
        text = _hex(data, size)
        if text.strip("0"):
            yield label, text


def _hex(data: bytes, size: int) -> str:
    """An id as hexadecimal digits, "" where it has another size.

    OTLP's JSON has them as such digits, which protobuf's reader takes for base64.
    """
    if len(data) == size:
        return data.hex()
    return base64.b64encode(data).decode().lower() if 2 * len(data) == 3 * size else ""
