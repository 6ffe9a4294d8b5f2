"""Prometheus' JSON of any answer is, to the byte, what writing it sample by sample gives."""

from __future__ import annotations

import json
import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kymograph.promql.labels import Labels
from kymograph.promql.result import PromResult
from kymograph.server.routes.prometheus import samples
from kymograph.server.routes.prometheus.numerals import numbers, seconds, shown
from kymograph.server.routes.prometheus.samples import result_of
from tests.property.test_scaled import ODD, ODD_BITS, bits_of

MANY = settings(max_examples=200)

EDGES = [power * 10.0**exponent for exponent in (-7, -6, -5, 14, 15, 16, 20, 21) for power in (1, -1, 1.5, 9.999999999)]
NEAR = [math.nextafter(edge, toward) for edge in EDGES for toward in (-math.inf, math.inf)]
values = (
    st.integers(0, 2**64 - 1)
    | st.sampled_from(
        [*map(bits_of, [*ODD, *EDGES, *NEAR, 0.0, 1.0, 1e15 + 0.5, 123_456_789_012_345_678.0]), *ODD_BITS]
    )
    | st.floats(1e14, 1e22).map(bits_of)
    | st.floats(1e-8, 1e-5).map(bits_of)
    | st.integers(-(10**6), 10**6).map(lambda number: bits_of(number / 1000))
)
times = (
    st.integers(-(2**60), 2**60)
    | st.sampled_from([0, 1, -1, 999, 1000, -1000, 10**6, -(10**6)])
    | st.integers(-(10**9), 10**9).map(lambda number: number * 1000)
)
texts = st.text(st.characters(), max_size=6) | st.sampled_from(
    ['"', "\\", '"},{"', "]", "\0", "\x1f", "\x7f", "\u2028", "😀", "\ud800", "\udfff\udc00", "é" * 3000, "NaN"]
)
label_sets = st.dictionaries(texts, texts, max_size=4).map(lambda pairs: tuple(sorted(pairs.items())))


@st.composite
def results(draw: st.DrawFn) -> PromResult:
    """A vector or matrix; values stay the same now and then, and series share times."""
    kind = draw(st.sampled_from(["vector", "matrix"]))
    series = draw(st.lists(label_sets, max_size=6, unique=True))
    counts = [1 if kind == "vector" else draw(st.integers(1, 12)) for _ in series]
    some_times = draw(st.lists(times, min_size=1, max_size=5))
    some_values = draw(st.lists(values, min_size=1, max_size=5))
    picked = [
        draw(st.lists(st.sampled_from(some), min_size=sum(counts), max_size=sum(counts)))
        for some in (some_times, some_values)
    ]
    return PromResult(
        kind,  # type: ignore[arg-type]
        series,
        np.array(picked[0], np.int64),
        np.array(picked[1], np.uint64).view(np.float64),
        np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
    )


def number_of(value: float, plain: bool = False) -> str:
    """`plain`: never with an exponent, as Prometheus has it in scalars."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value and not plain and not 1e-6 <= abs(value) < 1e21:
        return repr(value)
    return f"{Decimal(repr(value)):f}".removesuffix(".0")


def time_of(micros: int) -> str:
    whole, rest = divmod(abs(micros), 10**6)
    fraction = "" if not rest else f".{rest // 1000:03d}" if rest % 1000 == 0 else f".{rest:06d}"
    return f"{'-' if micros < 0 else ''}{whole}{fraction}"


def metric_of(labels: Labels) -> str:
    text = json.dumps(dict(labels), ensure_ascii=False, separators=(",", ":"))
    return "".join("\ufffd" if "\ud800" <= one <= "\udfff" else one for one in text)


def slowly(result: PromResult, limit: int) -> bytes:
    found = []
    for place, labels in enumerate(result.series[: limit or None]):
        pairs = [
            f'[{time_of(int(time))},"{number_of(float(value))}"]'
            for time, value in zip(*result.samples_of(place), strict=True)
        ]
        shown = f'"value":{pairs[0]}' if result.type == "vector" else f'"values":[{",".join(pairs)}]'
        found.append(f'{{"metric":{metric_of(labels)},{shown}}}')
    return f'"resultType":"{result.type}","result":[{",".join(found)}]'.encode()


@MANY
@given(results(), st.integers(0, 7), st.integers(1, 9), st.sampled_from([0, 3, 200]))
def test_vectors_and_matrices(result: PromResult, limit: int, part: int, few: int) -> None:
    """Also where parts end within series, and whether the samples of a part are taken for few or for many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "PART", part)
        patch.setattr(samples, "_FEW", few)
        found = b"".join(result_of(result, limit))
    assert found == slowly(result, limit)
    json.loads(b"{" + found + b"}")


@MANY
@given(st.lists(values, max_size=20), st.lists(times, max_size=20))
def test_numbers_and_times(bits: list[int], micros: list[int]) -> None:
    floats = np.array(bits, np.uint64).view(np.float64)
    assert numbers(floats).to_pylist() == [number_of(value) for value in floats.tolist()]
    assert [shown(value) for value in floats.tolist()] == numbers(floats).to_pylist()
    assert seconds(np.array(micros, np.int64)).to_pylist() == [time_of(one) for one in micros]
    assert seconds(np.array(micros, np.int64), "(é", ")").to_pylist() == [f"(é{time_of(one)})" for one in micros]


@MANY
@given(values, times, texts)
def test_scalars_and_strings(bits: int, time: int, text: str) -> None:
    value = np.array([bits], np.uint64).view(np.float64)
    here = np.array([time], np.int64)
    scalar = b"".join(result_of(PromResult("scalar", [()], here, value, np.array([0, 1])), 0))
    shown = number_of(float(value[0]), plain=True)
    assert scalar == f'"resultType":"scalar","result":[{time_of(time)},"{shown}"]'.encode()
    string = b"".join(result_of(PromResult("string", times=here, text=text), 0))
    assert string.startswith(f'"resultType":"string","result":[{time_of(time)},'.encode())
    plain = "".join("\ufffd" if "\ud800" <= one <= "\udfff" else one for one in text)
    assert json.loads(b"{" + string + b"}")["result"][1] == plain


def test_label_texts_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """More texts than there is room for are made all the same."""
    monkeypatch.setattr(samples, "_ROOM", 10_000)
    some = [(("n", f"{number}{'x' * 500}"),) for number in range(100)]
    for _ in range(2):
        assert samples.metrics_of(some) == [metric_of(one) for one in some]
        assert sum(map(len, samples._METRICS.values())) < 10_000
