"""How answers spell numbers, times and label sets, and how names in paths are read."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kymograph.promql.parse import parse
from kymograph.server.routes.prometheus.escaping import unescaped
from kymograph.server.routes.prometheus.numerals import numbers, seconds
from kymograph.server.routes.prometheus.samples import metrics_of
from kymograph.server.routes.prometheus.tree import tree_of


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "-0"),
        (1e15, "1000000000000000"),
        (123_456_789_012_345_678.0, "123456789012345680"),
        (1e21, "1e+21"),
        (9.99e20, "999000000000000000000"),
        (1e-6, "0.000001"),
        (9.9e-7, "9.9e-07"),
        (5e-324, "5e-324"),
        (0.1 + 0.2, "0.30000000000000004"),
        (float("nan"), "NaN"),
        (float("inf"), "+Inf"),
        (float("-inf"), "-Inf"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert numbers(np.array([value, 1.5])).to_pylist() == [text, "1.5"]


def test_numbers_read_back() -> None:
    values = np.random.default_rng(3).integers(0, 2**64, 20_000, np.uint64).view(np.float64)
    values = values[np.isfinite(values)]
    assert [float(text) for text in numbers(values).to_pylist()] == values.tolist()


@pytest.mark.parametrize(
    ("micros", "text"),
    [(0, "0"), (1_500_000, "1.500"), (-1_500_000, "-1.500"), (-1, "-0.000001"), (10**15 + 20_000, "1000000000.020")],
)
def test_seconds(micros: int, text: str) -> None:
    assert seconds(np.array([micros])).to_pylist() == [text]


def test_label_sets_that_look_like_json() -> None:
    """Label sets are told apart whatever their texts."""
    labels = [
        {"a": 'x"},{"b', "c": '"},{"'},
        {"},{": "}", '"': "{"},
        {"a": "\\", "b": '\\"'},
        {"a": '\\"},{\\"'},
        {"a\ud800": "\udc80"},
    ]
    texts = metrics_of([tuple(one.items()) for one in labels])
    assert [json.loads(text) for text in texts] == [*labels[:4], {"a\ufffd": "\ufffd"}]
    assert metrics_of([(), (("a", "b"),)]) == ["{}", '{"a":"b"}']


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("job", "job"),
        ("U__a_2e_b", "a.b"),
        ("U__a__b", "a_b"),
        ("U___1F600_", "😀"),
        ("U__a_2e", "U__a_2e"),
        ("U___d800_", "U___d800_"),
        ("U___110000_", "U___110000_"),
    ],
)
def test_unescaped(name: str, plain: str) -> None:
    assert unescaped(name) == plain


def test_trees_tell_what_stands_at_the_edges() -> None:
    for query, edges in (("m", (False, False)), ("m[5m] anchored", (True, False)), ("m smoothed", (False, True))):
        tree = tree_of(parse(query))
        assert (tree["anchored"], tree["smoothed"]) == edges
    assert "anchored" not in tree_of(parse("m[5m:1m]"))
