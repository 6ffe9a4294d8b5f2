"""Putting parts together gives what sorting all samples gives."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from kymograph.promql.runs import Part, edges, joined, picked

SIZE = 12


def parts_of(rng: np.random.Generator, shape: str) -> list[Part]:
    """Parts as scans give them: each sorted by series and time, no (series, time) twice."""
    keys = np.stack([rng.integers(0, SIZE, 4000), rng.integers(-(10**6), 10**6, 4000)], axis=1)
    keys = np.unique(keys, axis=0)
    values = rng.random(len(keys))
    if shape == "row groups":
        cuts = np.array_split(np.arange(len(keys)), 7)
    elif shape == "blocks":
        cuts = [np.flatnonzero(keys[:, 1] // 300_000 == slot) for slot in rng.permutation(np.arange(-4, 4))]
    else:
        owner = rng.integers(0, 4, len(keys))
        cuts = [np.flatnonzero(owner == one) for one in range(4)]
    return [Part.of(keys[rows, 0], keys[rows, 1], values[rows]) for rows in cuts]


@pytest.mark.parametrize("shape", ["row groups", "blocks", "late"])
@pytest.mark.parametrize("seed", range(5))
def test_joined_is_sorted_by_series_and_time(shape: str, seed: int) -> None:
    parts = parts_of(np.random.default_rng(seed), shape)
    rows = [
        (s, t, v)
        for p in parts
        for s, t, v in zip(np.repeat(p.series, np.diff(p.bounds)), p.times, p.values, strict=True)
    ]
    expected = sorted(rows)
    times, values, offsets = joined(parts, SIZE)
    assert np.array_equal(times, [time for _, time, _ in expected])
    assert np.array_equal(values, [value for _, _, value in expected])
    assert np.array_equal(offsets, np.searchsorted([series for series, _, _ in expected], np.arange(SIZE + 1)))


def test_short_runs_of_many_parts() -> None:
    parts = [Part.of(np.arange(SIZE), np.full(SIZE, time), np.arange(SIZE) + time / 10) for time in (3, 1, 2)]
    times, values, offsets = joined(parts, SIZE)
    assert times.tolist() == [1, 2, 3] * SIZE
    assert np.allclose(values, np.repeat(np.arange(SIZE), 3) + np.tile([0.1, 0.2, 0.3], SIZE))
    assert offsets.tolist() == list(range(0, 3 * SIZE + 1, 3))


def test_one_part_is_not_copied() -> None:
    part = Part.of(np.array([0, 0, 2]), np.array([1, 2, 1]), np.array([1.0, 2.0, 3.0]))
    times, values, offsets = joined([part], 4)
    assert times is part.times
    assert values is part.values
    assert offsets.tolist() == [0, 2, 2, 3, 3]


def test_samples_and_runs_are_left_out() -> None:
    part = Part.of(np.array([0, 0, 2, 5, 5]), np.array([1, 2, 1, 7, 8]), np.arange(5.0))
    less = part.less(np.array([False, True, True, False, False]))
    assert (less.series.tolist(), less.bounds.tolist(), less.values.tolist()) == ([0, 5], [0, 1, 3], [0.0, 3.0, 4.0])
    only = part.only(np.array([True, False, True]))
    assert (only.series.tolist(), only.bounds.tolist(), only.times.tolist()) == ([0, 5], [0, 2, 4], [1, 2, 7, 8])
    nothing = part.only(np.zeros(3, np.bool_))
    assert (len(nothing.series), nothing.bounds.tolist()) == (0, [0])


def test_nothing_at_all() -> None:
    times, values, offsets = joined([], 3)
    assert (len(times), len(values), offsets.tolist()) == (0, 0, [0, 0, 0, 0])
    assert edges(np.zeros(0, np.int64)).tolist() == [0]
    empty = Part.of(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    assert joined([empty], 3)[2].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("most", [3, 100])
def test_picked_is_a_copy_of_some_series(most: int) -> None:
    """Whether their runs are short or long."""
    counts = np.random.default_rng(most).integers(1, most, 20)
    offsets = np.concatenate(([0], np.cumsum(counts)))
    times = np.arange(offsets[-1])
    for rows in ([], [7], [3, 0, 19], list(range(20))):
        some, values, bounds = picked(times, times / 2, offsets, np.array(rows, np.int64))
        found = [some[low:high].tolist() for low, high in pairwise(bounds.tolist())]
        assert found == [times[offsets[row] : offsets[row + 1]].tolist() for row in rows]
        assert values.tolist() == (some / 2).tolist()
        assert not np.shares_memory(some, times)
