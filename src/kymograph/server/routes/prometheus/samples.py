"""Answers of queries as Prometheus' JSON, made in Arrow: labels, times and values become text by columns, never one by one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.promql.result import PromResult, number
from kymograph.server.envelope import text_of

# texts are made for so many samples, or series, at one time, so that what they take is bounded
PART = 262_144


def result_of(result: PromResult, limit: int) -> Iterator[bytes]:
    """`"resultType": …, "result": …` without the braces around it, of at most `limit` series (0: all), piece by piece."""
    yield b'"resultType":"%s","result":' % result.type.encode()
    if result.type == "scalar":
        yield b'[%s,"%s"]' % (seconds(result.times)[0].encode(), number(float(result.values[0])).encode())
        return
    if result.type == "string":
        yield b"[%s,%s]" % (seconds(result.times)[0].encode(), text_of(result.text))
        return
    count = min(len(result), limit) if limit else len(result)
    first, before = 0, b"["
    while first < count:
        last = _following(result, first, count)
        yield before
        yield _series(result, first, last)
        first, before = last, b","
    yield b"[]" if count == 0 else b"]"


def _following(result: PromResult, first: int, count: int) -> int:
    """The first series of the next part."""
    most = int(result.offsets[first]) + PART
    return min(count, first + PART, max(first + 1, int(np.searchsorted(result.offsets, most, "right")) - 1))


def _series(result: PromResult, first: int, last: int) -> bytes:
    low, high = int(result.offsets[first]), int(result.offsets[last])
    samples = _pairs(result.times[low:high], result.values[low:high]).cast(pa.large_string())
    key = "value"
    if result.type == "matrix":
        offsets = pa.array(result.offsets[first : last + 1] - low, pa.int64())
        samples = pc.binary_join(pa.LargeListArray.from_arrays(offsets, samples), _large(","))
        samples = pc.binary_join_element_wise(_large("["), samples, _large("]"), _large(""))
        key = "values"
    metrics = pa.array(metrics_of(result.labels[first:last]), pa.large_string())
    one = pc.binary_join_element_wise(
        _large('{"metric":'), metrics, _large(f',"{key}":'), samples, _large("}"), _large("")
    )
    whole = pa.LargeListArray.from_arrays(pa.array([0, len(one)], pa.int64()), one)
    return bytes(pc.binary_join(whole, _large(","))[0].as_buffer())


def _large(text: str) -> pa.Scalar:
    """For texts of more than 2 GiB together, which one long series may be."""
    return pa.scalar(text, pa.large_string())


def metrics_of(labels: Sequence[Mapping[str, str]]) -> list[str]:
    """The JSON of each label set."""
    return [_metric(tuple(one.items())) for one in labels]


@lru_cache(maxsize=65_536)
def _metric(pairs: tuple[tuple[str, str], ...]) -> str:
    # the same series are asked for again and again, and this is most of the work of an instant answer
    return text_of(dict(pairs)).decode()


def _pairs(times: Any, values: Any) -> pa.Array:
    """`[seconds,"value"]` of each sample."""
    distinct, places = np.unique(times, return_inverse=True)
    texts = pa.array([f'[{text},"' for text in seconds(distinct)], pa.string()).take(pa.array(places.ravel()))
    return pc.binary_join_element_wise(texts, numbers(values), '"]', "")


def seconds(times: Any) -> list[str]:
    """int64 µs as seconds with three digits of fraction, six where they are needed, none where it is zero."""
    found = []
    for micros in times.tolist():
        whole, rest = divmod(abs(micros), 10**6)
        sign = "-" if micros < 0 else ""
        fraction = "" if not rest else f".{rest // 1000:03d}" if rest % 1000 == 0 else f".{rest:06d}"
        found.append(f"{sign}{whole}{fraction}")
    return found


def numbers(values: Any) -> pa.Array:
    """float64 as the shortest text that reads back the same; an exponent below 1e-6 and from 1e21 on."""
    texts = pc.cast(pa.array(values, pa.float64()), pa.string())
    # Arrow writes exponents from 1e15 on, and has other words for what is no number
    sizes = np.abs(values)
    odd = np.flatnonzero(~((sizes < 1e15) & ((sizes >= 1e-6) | (values == 0))))
    if not len(odd):
        return texts
    mask = np.zeros(len(values), np.bool_)
    mask[odd] = True
    # there are few others among measured values, so that each is made once
    distinct, places = np.unique(values[odd].view(np.int64), return_inverse=True)
    others = pa.array([_odd(value) for value in distinct.view(np.float64).tolist()], pa.string())
    return pc.replace_with_mask(texts, pa.array(mask), others.take(pa.array(places.ravel())))


def _odd(value: float) -> str:
    size = abs(value)
    return repr(value) if math.isfinite(value) and (size < 1e-6 or size >= 1e21) else number(value)
