"""When turns are due: on the grid, never twice, never made up, whatever the clocks do."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from kymograph.collect.schedule import LONGEST_PAUSE, Schedule, backoff

INTERVAL = 1_000_000


def test_turns_fall_on_multiples_of_the_interval() -> None:
    schedule = Schedule(INTERVAL)
    wall, mono = 1_700_000_000_300_000, 5_000
    due = schedule.following(wall, mono)
    assert due == mono + 700_000
    # 40 ms late: the next is still on the grid
    assert schedule.following(wall + 740_000, due + 40_000) == due + INTERVAL


def test_missed_turns_are_skipped() -> None:
    schedule = Schedule(INTERVAL)
    due = schedule.following(0, 0)
    assert schedule.following(due + 3_400_000, due + 3_400_000) == due + 4 * INTERVAL


def test_a_pause_is_rounded_up_to_the_grid() -> None:
    assert Schedule(INTERVAL).following(250_000, 0, pause=2_000_000) == 2_750_000


def test_stamps_next_to_the_grid_are_put_on_it() -> None:
    schedule = Schedule(INTERVAL)
    assert schedule.stamp(5 * INTERVAL + 9_000) == 5 * INTERVAL
    assert schedule.stamp(5 * INTERVAL - 9_000) == 5 * INTERVAL
    assert schedule.stamp(5 * INTERVAL + 11_000) == 5 * INTERVAL + 11_000
    assert Schedule(100_000).stamp(500_900) == 500_000
    assert Schedule(100_000).stamp(501_100) == 501_100


@given(
    st.integers(100_000, 60_000_000),
    st.integers(0, 2 * 10**15),
    st.lists(st.tuples(st.integers(0, 5_000_000), st.integers(-(10**10), 10**10) | st.just(0)), max_size=30),
)
@settings(max_examples=200)
def test_turns_are_on_the_grid_and_apart(interval: int, wall: int, turns: list[tuple[int, int]]) -> None:
    """Each turn takes some time, and now and then somebody sets the clock."""
    schedule = Schedule(interval)
    mono, last = 0, None
    for took, step in turns:
        due = schedule.following(wall, mono)
        assert mono < due <= mono + 2 * interval
        assert last is None or due - last >= interval // 2
        on_grid = (wall + due - mono) % interval
        assert min(on_grid, interval - on_grid) <= interval // 100
        wall += due - mono + took + step
        last, mono = due, due + took


def test_backoff_doubles_to_a_minute() -> None:
    jitter = random.Random(1)
    pauses = [backoff(failures, jitter) for failures in range(1, 12)]
    for pause, middle in zip(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60], strict=True):
        assert 0.8e6 * middle <= pause <= 1.2e6 * middle
    assert backoff(10**9, jitter) <= 1.2 * LONGEST_PAUSE
    assert len({backoff(3, jitter) for _ in range(20)}) > 10
