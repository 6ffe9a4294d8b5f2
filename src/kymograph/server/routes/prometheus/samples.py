"""Answers of queries as Prometheus' JSON, made in Arrow: times and values become text by columns, never one by one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.promql.result import PromResult, number
from kymograph.server.envelope import text_of

# texts are made for so many samples at one time, so that what they take beside the answer stays bounded
_PART = 262_144


def result_of(result: PromResult, limit: int) -> tuple[bytes, bool]:
    """`"resultType": …, "result": …` without the braces around it, and whether `limit` series cut it short."""
    head = b'"resultType":"%s","result":' % result.type.encode()
    if result.type == "scalar":
        return head + b'[%s,"%s"]' % (seconds(result.times)[0], number(float(result.values[0])).encode()), False
    if result.type == "string":
        return head + b"[%s,%s]" % (seconds(result.times)[0], text_of(result.text)), False
    count = min(len(result), limit) if limit else len(result)
    key = b"value" if result.type == "vector" else b"values"
    parts = []
    for first in _starts(result, count):
        parts += _series(result, first, _following(result, first, count), key)
    return head + b"[" + b",".join(parts) + b"]", count < len(result)


def _starts(result: PromResult, count: int) -> Sequence[int]:
    found = []
    first = 0
    while first < count:
        found.append(first)
        first = _following(result, first, count)
    return found


def _following(result: PromResult, first: int, count: int) -> int:
    """The first series of the next part."""
    most = int(result.offsets[first]) + _PART
    return min(count, max(first + 1, int(np.searchsorted(result.offsets, most, "right")) - 1))


def _series(result: PromResult, first: int, last: int, key: bytes) -> list[bytes]:
    low, high = int(result.offsets[first]), int(result.offsets[last])
    pairs = _pairs(result.times[low:high], result.values[low:high])
    if key == b"values":
        offsets = pa.array(result.offsets[first : last + 1] - low, pa.int32())
        pairs = pc.binary_join(pa.ListArray.from_arrays(offsets, pairs), ",")
        pairs = pc.binary_join_element_wise("[", pairs, "]", "")
    texts = pairs.to_pylist()
    return [
        b'{"metric":%s,"%s":%s}' % (metric(labels), key, text.encode())
        for labels, text in zip(result.labels[first:last], texts, strict=True)
    ]


def metric(labels: Mapping[str, str]) -> bytes:
    return text_of(dict(labels))


def _pairs(times: Any, values: Any) -> pa.Array:
    """`[seconds,"value"]` of each sample."""
    distinct, places = np.unique(times, return_inverse=True)
    texts = pa.array([text.decode() for text in seconds(distinct)], pa.string()).take(pa.array(places.ravel()))
    return pc.binary_join_element_wise(pc.binary_join_element_wise("[", texts, ',"', ""), numbers(values), '"]', "")


def seconds(times: Any) -> list[bytes]:
    """int64 µs as seconds with three digits of fraction, six where they are needed, none where it is zero."""
    found = []
    for micros in times.tolist():
        whole, rest = divmod(abs(micros), 10**6)
        sign = "-" if micros < 0 else ""
        fraction = "" if not rest else f".{rest // 1000:03d}" if rest % 1000 == 0 else f".{rest:06d}"
        found.append(f"{sign}{whole}{fraction}".encode())
    return found


def numbers(values: Any) -> pa.Array:
    """float64 as the shortest text that reads back the same; an exponent below 1e-6 and from 1e21 on."""
    texts = pc.cast(pa.array(values, pa.float64()), pa.string())
    # Arrow writes exponents from 1e15 on, and has other words for what is no number
    odd = np.flatnonzero(~((np.abs(values) < 1e15) & ((np.abs(values) >= 1e-6) | (values == 0))))
    if not len(odd):
        return texts
    mask = np.zeros(len(values), np.bool_)
    mask[odd] = True
    return pc.replace_with_mask(
        texts, pa.array(mask), pa.array([_odd(one) for one in values[odd].tolist()], pa.string())
    )


def _odd(value: float) -> str:
    size = abs(value)
    return repr(value) if math.isfinite(value) and (size < 1e-6 or size >= 1e21) else number(value)
