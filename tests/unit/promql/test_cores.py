"""Parts of a query on several threads: in order, in the caller's context, and stopped by the first failure."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from kymograph.promql.cores import each


def test_answers_come_in_order() -> None:
    for count in (0, 1, 3, 4, 100):
        assert list(each(lambda part: part * 2, range(count))) == [2 * part for part in range(count)]


def test_few_parts_stay_on_the_thread() -> None:
    assert set(each(lambda _: threading.current_thread(), range(3))) == {threading.current_thread()}


def test_the_error_state_of_numpy_is_the_callers() -> None:
    with np.errstate(all="ignore"):
        found = list(each(lambda part: np.ones(2) / np.zeros(2) * part, range(20)))
    assert len(found) == 20
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        list(each(lambda _: np.ones(2) / np.zeros(2), range(20)))


def test_a_failure_ends_it() -> None:
    made = []

    def parts() -> Iterator[int]:
        for part in range(10_000):
            made.append(part)
            yield part

    def fail(part: int) -> int:
        if part == 5:
            raise ValueError("five")
        return part

    with pytest.raises(ValueError, match="five"):
        list(each(fail, parts()))
    assert len(made) < 200
