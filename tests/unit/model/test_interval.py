"""Intervals and coverage against sets of integers."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kymograph.errors import InvalidInput
from kymograph.model import coverage as coverages
from kymograph.model.coverage import Coverage
from kymograph.model.interval import Intervals

PAIRS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)).map(lambda p: (p[0], p[0] + p[1])), max_size=12)


def points(intervals: Intervals) -> set[int]:
    return {at for start, end in intervals for at in range(start, end)}


def assert_normal(intervals: Intervals) -> None:
    assert (intervals.starts < intervals.ends).all()
    assert (intervals.starts[1:] > intervals.ends[:-1]).all()


@settings(max_examples=200)
@given(PAIRS, PAIRS, st.integers(-2, 55), st.integers(-2, 55))
def test_sets(one: list[tuple[int, int]], other: list[tuple[int, int]], start: int, end: int) -> None:
    a, b = Intervals.of(one), Intervals.of(other)
    x, y = points(a), points(b)
    assert x == {at for low, high in one for at in range(low, high)}
    for found, expected in ((a | b, x | y), (a & b, x & y), (a - b, x - y)):
        assert points(found) == expected
        assert_normal(found)
    assert a.duration == len(x)
    assert points(a.clip(start, end)) == x & set(range(start, end))
    assert a.covers(start, end) == (set(range(start, end)) <= x)
    shared = a.overlap(start, end)
    assert (shared is not None) == bool(x & set(range(start, end)))
    times = np.arange(-2, 60)
    assert a.contains(times).tolist() == [at in x for at in times.tolist()]
    if start < end:
        assert points(a.complement(start, end)) == set(range(start, end)) - x
    assert a == Intervals.of(one[::-1])
    assert (a == b) == (x == y)


@settings(max_examples=150)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60), st.integers(1, 9)), max_size=60))
def test_coverage_page_by_page(steps: list[tuple[bool, int, int]]) -> None:
    kept, coverages._PAGE = coverages._PAGE, 3
    try:
        covered, expected = Coverage(), set[int]()
        for add, start, length in steps:
            span = set(range(start, start + length))
            before = set(expected)
            expected = expected | span if add else expected - span
            gone, came = covered.adding(start, start + length) if add else covered.removing(start, start + length)
            assert points(gone) <= before
            covered.replace(gone, came)
            found = covered.intervals()
            assert_normal(found)
            assert points(found) == expected
            assert (len(covered), covered.duration) == (len(found), len(expected))
            assert covered.extent == found.extent
            assert points(covered.intervals(start, start + length)) == expected & span
            assert points(Coverage(found).intervals()) == expected
    finally:
        coverages._PAGE = kept


def test_a_million_intervals() -> None:
    many = Intervals(np.arange(10**6) * 10, np.arange(10**6) * 10 + 5)
    others = Intervals(many.starts + 3, many.ends + 3)
    assert len(many | others) == 10**6
    assert (many - others).duration == 3 * 10**6
    assert (many & others).duration == 2 * 10**6
    covered = Coverage(many)
    began = time.perf_counter()
    for at in range(2000):
        place = at * 4999 * 10 % 10**7 + 6
        covered.replace(*covered.adding(place, place + 2))
    # a walk through a list of a million, or a copy of it, takes a minute
    assert time.perf_counter() - began < 20
    assert len(covered) == 10**6 + 2000


def test_what_is_no_interval() -> None:
    with pytest.raises(InvalidInput, match=r"\[5, 3\)"):
        Intervals.of([(1, 2), (5, 3)])
    with pytest.raises(InvalidInput):
        Intervals([1], [2, 3])
    far = Intervals.of([(-(2**62), 2**62)])
    assert far.duration == 2**63
