"""Stores of a few hosts, of a table and of odd names."""

from __future__ import annotations

import numpy as np

from kymograph.server.state import ServerState

START = 1_767_225_600
COUNT = 4320


def fill(state: ServerState) -> None:
    """`m` of three hosts every 15 s for 10 minutes, a table, odd names."""
    store = state.slot.get()
    ids = store.series_ids([("m", {"host": host}) for host in "abc"])
    times = (START + 15 * np.arange(40)) * 1_000_000
    for place, number in enumerate(ids):
        store.append_samples(np.full(40, number), times, np.arange(40) + 100.0 * place)
    store.gauge("http.requests", 1.5, {"service.name": "é", "b": 'quo"te\\'}, time=START * 10**6 + 1)
    store.write("room", {"time": [START * 10**6], "name": ["cellar"], "temp": [12.5]})


def fill_many(state: ServerState) -> None:
    """The same, and `many` of 200 series every 20 s for a day."""
    fill(state)
    store = state.slot.get()
    ids = store.series_ids([("many", {"n": str(n)}) for n in range(200)])
    times = (START + 20 * np.arange(COUNT)) * 1_000_000
    values = np.random.default_rng(1).random(COUNT)
    store.append_samples(np.repeat(ids, COUNT), np.tile(times, 200), np.tile(values, 200))
