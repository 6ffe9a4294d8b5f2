"""Remote read: `prometheus.ReadRequest` to queries, and series of arrays to `prometheus.ReadResponse`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kymograph.errors import InvalidInput
from kymograph.wire.protobuf import BYTES, VARINT, Malformed, fields, put_bytes, put_varint, signed, text, varint

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
_OPERATORS = ("=", "!=", "=~", "!~")
_SAMPLES = 0
# queries of one request; Prometheus sends one
_MOST_QUERIES = 100


@dataclass(frozen=True)
class ReadQuery:
    """One query.

    Attributes:
        start, end: ms since 1970, both included.
        matchers: (label name, operator, value), at least one.
    """

    start: int
    end: int
    matchers: list[tuple[str, Any, str]]


def queries_of(data: bytes) -> list[ReadQuery]:
    """The queries of a ReadRequest.

    Raises:
        Malformed: not such a message.
        InvalidInput: too many queries, one without matchers, or a client that takes streamed chunks only.
    """
    found, accepted = [], []
    for number, kind, first, last in fields(data, 0, len(data)):
        if number == 1:
            _must_be(kind, BYTES, "ReadRequest", number)
            found.append(_query(data, first, last))
        elif number == 2:
            accepted += [first] if kind == VARINT else _packed(data, first, last)
    if accepted and _SAMPLES not in accepted:
        raise InvalidInput("of the accepted response types none is known", hint="SAMPLES is")
    if len(found) > _MOST_QUERIES:
        raise InvalidInput(f"{len(found)} queries are too many", hint=f"at most {_MOST_QUERIES} in one request")
    return found


def _packed(data: bytes, at: int, end: int) -> list[int]:
    numbers = []
    while at < end:
        number, at = varint(data, at, end)
        numbers.append(number)
    return numbers


def _query(data: bytes, at: int, end: int) -> ReadQuery:
    times = {1: 0, 2: 0}
    matchers = []
    for number, kind, first, last in fields(data, at, end):
        if number in times:
            _must_be(kind, VARINT, "Query", number)
            times[number] = signed(first)
        elif number == 3:
            _must_be(kind, BYTES, "Query", number)
            matchers.append(_matcher(data, first, last))
    if not matchers:
        raise InvalidInput("a query has no matcher", hint='{__name__=~".+"} selects everything')
    return ReadQuery(times[1], times[2], matchers)


def _matcher(data: bytes, at: int, end: int) -> tuple[str, str, str]:
    operator, texts = 0, {2: "", 3: ""}
    for number, kind, first, last in fields(data, at, end):
        if number == 1:
            _must_be(kind, VARINT, "LabelMatcher", number)
            operator = first
        elif number in texts:
            _must_be(kind, BYTES, "LabelMatcher", number)
            texts[number] = text(data, first, last)
    if operator >= len(_OPERATORS):
        raise InvalidInput(f"there is no matcher of type {operator}")
    return texts[2], _OPERATORS[operator], texts[3]


def _must_be(kind: int, wanted: int, what: str, number: int) -> None:
    if kind != wanted:
        raise Malformed(f"a {what}'s field {number} has the wire type {kind}")


def read_response(results: Sequence[bytes]) -> bytes:
    """A ReadResponse of QueryResults."""
    return b"".join(put_bytes(1, result) for result in results)


def query_result(labels: Sequence[Sequence[tuple[str, str]]], offsets: Ints, times: Ints, values: Floats) -> bytes:
    """A QueryResult: the series that have samples, ordered by their labels.

    Args:
        labels: of S series, `__name__` among them.
        offsets: int64, S + 1; samples [offsets[i], offsets[i + 1]) are series i's, ascending.
        times: int64 µs. Of several samples in one millisecond the last one is given.
        values: float64.
    """
    milliseconds = times // 1000
    kept = np.ones(len(times), np.bool_)
    kept[:-1] = milliseconds[1:] != milliseconds[:-1]
    kept[offsets[1:][offsets[1:] > offsets[:-1]] - 1] = True
    before = np.concatenate([[0], np.cumsum(kept)])
    data, ends = _samples(milliseconds[kept], values[kept])
    bounds = np.concatenate([[0], ends])[before[offsets]].tolist()
    view = memoryview(data)
    parts: list[bytes | memoryview] = []
    for order in sorted((sorted(pairs), place) for place, pairs in enumerate(labels)):
        pairs, place = order
        first, last = bounds[place], bounds[place + 1]
        if first < last:
            head = b"".join(
                put_bytes(1, put_bytes(1, name.encode()) + put_bytes(2, value.encode())) for name, value in pairs
            )
            parts += [b"\x0a", put_varint(len(head) + last - first), head, view[first:last]]
    return b"".join(parts)


def _samples(milliseconds: Ints, values: Floats) -> tuple[bytes, Ints]:
    """Field 2 of TimeSeries for every sample, one after the other, and where each ends."""
    numbers = milliseconds.view(np.uint64)
    lengths = np.ones(len(numbers), np.int64)
    for septet in range(1, 10):
        lengths += numbers >= np.uint64(1 << (7 * septet))
    ends = np.cumsum(lengths + 12)
    starts = ends - lengths - 12
    out = np.zeros(int(ends[-1]) if len(ends) else 0, np.uint8)
    out[starts] = 2 << 3 | BYTES
    out[starts + 1] = lengths + 10
    out[starts + 2] = 9
    out[starts[:, None] + np.arange(3, 11)] = np.ascontiguousarray(values, "<f8").view(np.uint8).reshape(-1, 8)
    out[starts + 11] = 16
    for septet in range(int(lengths.max(initial=0))):
        some = lengths > septet
        bits = (numbers[some] >> np.uint64(7 * septet)) & np.uint64(127)
        more = (lengths[some] > septet + 1).astype(np.uint8) << 7
        out[starts[some] + 12 + septet] = bits.astype(np.uint8) | more
    return out.tobytes(), ends
