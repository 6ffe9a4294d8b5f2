"""The times of a summary's samples in few numbers: what is held is found again, and even or few samples are told exactly."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

import kymograph.model.spacing
from kymograph.model.spacing import MOST, Spacing
from kymograph.model.summary import ceil_to, summarised

MINUTE = 60_000_000


def of(*rows: list[int]) -> Spacing:
    numbers = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    return Spacing.of(numbers, np.concatenate([np.array(row, np.int64) for row in rows]))


def test_texts() -> None:
    spacing = of([5], [0, 10, 20, 50, 60, 70], [1, 2, 4])
    assert spacing.text().to_pylist() == ["", "20x2,30x1,20x2", "1x1,2x1"]
    again = Spacing.read(spacing.text(), spacing.first, np.array([5, 70, 4]))
    assert again.text().equals(spacing.text())
    asked = [5, 4, 0, 10, 15, 20, 49, 50, 70, 71, -1, 3, 4]
    row = np.array([0, 0, *[1] * 9, 2, 2])
    wanted = [True, False, True, True, False, True, False, True, True, False, False, False, True]
    assert again.holds(row, np.array(asked)).tolist() == wanted


def test_unknown_times_are_all_there_may_be() -> None:
    spacing = Spacing.read(pa.array([None, ""], pa.string()), np.array([100, 7]), np.array([200, 7]))
    assert spacing.holds(np.array([0, 0, 0, 0, 1, 1]), np.array([99, 100, 150, 201, 7, 8])).tolist() == [
        False, True, True, False, True, False,
    ]  # fmt: skip
    assert spacing.text().to_pylist() == ["100x0", ""]


def test_too_uneven_ones_keep_their_holes() -> None:
    random = np.random.default_rng(1)
    times = np.cumsum(random.integers(900, 1100, 3 * MOST))
    times[MOST:] += 50_000
    spacing = of(times.tolist())
    assert spacing.text().to_pylist()[0].count(",") == 2
    hole = np.arange(times[MOST - 1] + 1, times[MOST])
    assert not spacing.holds(np.zeros(len(hole), np.int64), hole).any()
    assert spacing.holds(np.zeros(len(times), np.int64), times).all()
    more = spacing.with_samples(np.zeros(3, np.int64), hole[[10, 20, 500]])
    assert more.holds(np.zeros(3, np.int64), hole[[10, 20, 500]]).all()
    assert not more.holds(np.zeros(1, np.int64), hole[[21]]).any()


@pytest.mark.parametrize("seed", range(4))
def test_against_sets(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random rows, widened by later samples: what is held is found, and nothing else."""
    monkeypatch.setattr(kymograph.model.spacing, "MOST", 1000)
    random = np.random.default_rng(seed)
    have: list[set[int]] = [set(random.integers(0, 200, random.integers(1, 40)).tolist()) for _ in range(30)]
    spacing = of(*(sorted(row) for row in have))
    row, times = random.integers(0, 30, 300), random.integers(-20, 240, 300)
    pairs = np.unique(np.stack([row, times]), axis=1)
    fresh = np.array([time not in have[number] for number, time in pairs.T.tolist()])
    assert (~spacing.holds(pairs[0], pairs[1])).tolist() == fresh.tolist()
    more = spacing.with_samples(pairs[0][fresh], pairs[1][fresh])
    for number, time in pairs.T.tolist():
        have[number].add(time)
    assert more.text().equals(of(*(sorted(one) for one in have)).text())


def test_joined_is_that_of_all_samples() -> None:
    random = np.random.default_rng(7)
    times = np.unique(random.integers(0, 10, 300)[:, None] * MINUTE + random.integers(0, 8, (300, 2)) * 1_000_000)
    series = (times // 3) % 3
    order = np.lexsort((times, series))
    series, times = series[order], times[order]
    values = np.zeros(len(times))
    fine = summarised(series, ceil_to(times, MINUTE), times, values)
    row = np.unique(np.stack([series, ceil_to(times, MINUTE)]), axis=1, return_inverse=True)[1].ravel()
    bucket = ceil_to(fine.bucket, 5 * MINUTE)
    found = Spacing.of(row, times).joined(fine.of_bucket(bucket))
    coarse = np.unique(np.stack([series, ceil_to(times, 5 * MINUTE)]), axis=1, return_inverse=True)[1].ravel()
    assert found.text().equals(Spacing.of(coarse, times).text())
