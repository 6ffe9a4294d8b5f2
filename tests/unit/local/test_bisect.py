"""Bisecting many series at once finds what bisecting each alone finds, regular or not."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kymograph.local.rows import bisect

TIMES = st.integers(-(2**62), 2**62) | st.integers(-20, 20)
regular = st.builds(lambda n, step, first: [first + step * i for i in range(n)], st.integers(0, 9), st.just(7), TIMES)
anywhere = st.lists(TIMES, max_size=9, unique=True).map(sorted)


@given(st.lists(regular | anywhere, min_size=1, max_size=4), st.data())
@settings(max_examples=300)
def test_each_as_if_alone(series: list[list[int]], data: st.DataObject) -> None:
    times = np.array([time for one in series for time in one], np.int64)
    ends = np.cumsum([len(one) for one in series])
    starts = ends - [len(one) for one in series]
    bound = data.draw(st.sampled_from(times.tolist()) | TIMES if len(times) else TIMES)
    wanted = [low + int(np.searchsorted(times[low:high], bound)) for low, high in zip(starts, ends, strict=True)]
    assert bisect(times, starts, ends, bound).tolist() == wanted
    bounds = np.array(data.draw(st.lists(TIMES, min_size=len(series), max_size=len(series))), np.int64)
    wanted = [low + int(np.searchsorted(times[low:high], b)) for low, high, b in zip(starts, ends, bounds, strict=True)]
    assert bisect(times, starts, ends, bounds).tolist() == wanted
