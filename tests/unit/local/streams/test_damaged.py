"""A stream with a damaged log under a cap: its blocks go like those of others, and everybody goes on writing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np

import kymograph
from kymograph.store.store import Store

START = 1_700_000_000_000_000
PATH = "/meter/raw"


def insert(store: Store, start: int, rows: int) -> None:
    streams = store.engine.streams
    found = np.zeros(rows, streams.streams()[PATH].layout.rows)
    found["timestamp"] = np.arange(start, start + rows)
    found["data"] = np.random.default_rng(start).normal(size=found["data"].shape)
    streams.insert(PATH, found, start, start + rows)


def test_the_cap_holds(tmp_path: Path) -> None:
    with kymograph.connect(tmp_path / "s", sync="off", cap="8MB") as store:
        store.stream(PATH, layout="float32_8")
        for number in range(30):
            insert(store, number * 4000, 4000)
        store.seal()
        insert(store, 10**6, 10)
    with closing(sqlite3.connect(tmp_path / "s" / "catalog.db")) as db:
        db.execute("UPDATE stream_hot SET crc = crc + 1")
        db.commit()
    with kymograph.connect(tmp_path / "s", sync="off", cap="8MB") as store:
        before = store.engine.streams.statistics(PATH).blocks
        for number in range(80):
            times = START + number * 3000 + np.arange(3000)
            values = np.random.default_rng(number).normal(size=(2, 3000))
            store.write("t", {"time": times, "a": ["x"] * 3000, "v": values[0], "w": values[1]})
        assert store.engine.streams.statistics(PATH).blocks < before
        assert store.engine.usage() < 8_000_000
