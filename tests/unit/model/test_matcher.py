"""Predicates on labels; a missing label counts as the empty text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kymograph.errors import InvalidInput
from kymograph.model.matcher import Matcher, matchers_of, of_series


@pytest.mark.parametrize(
    ("operator", "value", "taken"),
    [
        ("=", "a", ["a"]),
        ("=", "", ["", None]),
        ("!=", "a", ["ab", "", None, "a\nb", "ü"]),
        ("!=", "", ["a", "ab", "a\nb", "ü"]),
        ("=~", "a", ["a"]),  # anchored
        ("=~", "a.*", ["a", "ab", "a\nb"]),  # the dot takes line ends
        ("=~", "", ["", None]),
        ("=~", ".*", ["a", "ab", "", None, "a\nb", "ü"]),
        ("=~", ".+", ["a", "ab", "a\nb", "ü"]),
        ("=~", "a|ü", ["a", "ü"]),
        ("!~", "a.*", ["", None, "ü"]),
        ("!~", ".*", []),
        ("!~", "", ["a", "ab", "a\nb", "ü"]),
        ("in", frozenset({"a", "ü", "zz"}), ["a", "ü"]),
        ("in", frozenset({""}), ["", None]),
        ("in", frozenset({None}), ["", None]),
        ("in", frozenset(), []),
    ],
)
def test_operators(operator: Any, value: Any, taken: list[str | None]) -> None:
    values = ["a", "ab", "", None, "a\nb", "ü"]
    matcher = Matcher("l", operator, value)
    assert [v for v in values if matcher.matches(v)] == taken
    assert matcher.mask(pa.array(values)).tolist() == [v in taken for v in values]


def test_series_ids_are_numbers_and_zero_is_one() -> None:
    assert Matcher("series_id", "=", 7).matches(7)
    assert not Matcher("series_id", "=", "7").matches(7)
    assert not Matcher("series_id", "in", frozenset({None})).matches(0)
    assert Matcher("series_id", "in", frozenset({0, 7})).mask(pa.array([0, 1, 7])).tolist() == [True, False, True]


def test_matchers_of_mappings() -> None:
    assert matchers_of(None) == ()
    assert matchers_of({"a": "x", "b": ["y", None], "c": None, "d": 5}) == (
        Matcher("a", "=", "x"),
        Matcher("b", "in", frozenset({"y", None})),
        Matcher("c", "=", ""),
        Matcher("d", "=", 5),
    )
    one = Matcher("a", "=~", "x.*")
    assert matchers_of([one]) == (one,)


@pytest.mark.parametrize("labels", [{"a": 1.5}, {"a": True}, {"a": b"x"}, {"a": [1.5]}, {"a": {}}, ["a"], "ab"])
def test_what_is_no_matcher(labels: Any) -> None:
    with pytest.raises(InvalidInput):
        matchers_of(labels)


@pytest.mark.parametrize(
    ("operator", "value"), [("~", "a"), ("=~", "("), ("!~", "*"), ("in", "a"), ("=", frozenset({"a"}))]
)
def test_what_no_matcher_can_be(operator: Any, value: Any) -> None:
    with pytest.raises(InvalidInput):
        Matcher("l", operator, value)


def test_all_series_need_no_matcher() -> None:
    assert of_series(np.array([1, 2]), 2) == []
    assert of_series(np.array([1, 2]), 3) == [Matcher("series_id", "in", frozenset({1, 2}))]
    assert of_series(np.array([], np.int64), 3) == [Matcher("series_id", "in", frozenset())]
