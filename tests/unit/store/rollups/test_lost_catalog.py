"""Rollups after the catalog was lost and rebuilt from blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import kymograph
from kymograph import Retention
from kymograph.model.time import HOUR, MINUTE, SECOND
from kymograph.store.exchange.export import encode, write_file
from kymograph.store.exchange.imports import import_rows
from kymograph.store.jobs import now_micros
from kymograph.store.store import Store

BASE = now_micros() // HOUR * HOUR - 10 * HOUR
TEXT = "SELECT host, time_bucket('5m', time) AS t, count(*) AS n FROM metric.m GROUP BY 1, 2"


def fill(store: Store) -> None:
    ids = store.series_ids([("m", {"host": host}) for host in "ab"])
    times = BASE + np.arange(1440) * 10 * SECOND
    store.append_samples(np.repeat(ids, 1440), np.tile(times, 2), np.arange(2880.0))
    store.write("t", {"time": times, "room": "r", "volts": np.arange(1440.0)})
    store.create_rollup("m_1m", "samples", "1m", end_offset="2m")
    store.create_rollup("m_5m", "m_1m", "5m", start_offset="30d")
    store.create_rollup("h_1m", "samples", "1m", by=["host"])
    store.create_rollup("t_1m", "t", "1m", fields=["volts"], keep=Retention(age="1y"))
    store.create_rollup("m_sql", query=TEXT)
    store.drop_rollup("t_1m")
    store.create_rollup("t_2m", "t", "2m", fields=["volts"], keep=Retention(age="1y"))


def lost(path: Path) -> None:
    for file in path.glob("catalog.db*"):
        file.unlink()


def told(store: Store) -> list[dict[str, Any]]:
    names = ("name", "source", "query", "every", "by", "fields", "keep", "start_offset", "end_offset", "rows", "oldest")
    return [{name: one[name] for name in names} for one in store.rollups()]


def test_definitions_come_back(tmp_path: Path) -> None:
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        fill(store)
        store.seal()
        wanted = told(store)
        text = "SELECT host, avg(value) AS v, count(*) AS n FROM metric.m GROUP BY 1 ORDER BY 1"
        before = store.sql(text)
        assert before.tiers == ["m_5m", "raw"]
    lost(tmp_path / "s")
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        assert told(store) == wanted
        store.run_rollups()
        assert told(store) == wanted
        assert (store.sql(text).rows(), store.sql(text).tiers) == (before.rows(), before.tiers)
        assert not store.sql(text).approximate
        # and they are what they were: kept fresh, and asked for again
        store.gauge("m", 1e9, {"host": "a"}, time=BASE + 1)
        store.refresh_rollup("m_5m")
        assert store.sql("SELECT max(max) AS v FROM m_5m").rows() == [{"v": 1e9}]
        assert store.create_rollup("m_1m", "samples", "1m", end_offset="2m")["rows"] == wanted[1]["rows"]
        store.drop_rollup("m_sql")
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        assert "m_sql" not in [one["name"] for one in store.rollups()]


def test_what_only_the_rollups_have_stays(tmp_path: Path) -> None:
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        fill(store)
        store.set_retention("samples", Retention(age=now_micros() - BASE - HOUR - 30 * SECOND))
        store.prune(force=True)
        store.seal()
        before = store.sql("SELECT count(*) AS n, sum(value) AS s FROM metric.m").rows()
        assert before[0]["n"] == 2880
    lost(tmp_path / "s")
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        store.refresh_rollup("m_5m")
        store.refresh_rollup("h_1m")
        assert store.sql("SELECT count(*) AS n, sum(value) AS s FROM metric.m").rows() == before
        late = np.datetime64(BASE + MINUTE + 1, "us").item()
        assert store.sql("SELECT count(*) AS n FROM metric.m WHERE time > $late", late=late).approximate
    # nothing is left of the samples
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        store.delete("samples")
        store.seal()
    lost(tmp_path / "s")
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        assert [one["name"] for one in store.rollups()] == ["h_1m", "m_1m", "m_5m", "m_sql", "t_2m"]


def test_an_export_is_no_rollup(tmp_path: Path) -> None:
    with kymograph.connect(tmp_path / "s", sync="off") as store:
        fill(store)
        write_file(encode(store.reader("t_2m"), "parquet", store.tables()["t_2m"]), tmp_path / "t.parquet")
    with kymograph.connect(tmp_path / "other", sync="off") as store:
        import_rows(store, "t_2m", tmp_path / "t.parquet")
    with kymograph.connect(tmp_path / "other", sync="off") as store:
        assert store.rollups() == []
        assert store.tables()["t_2m"].definition == ""
