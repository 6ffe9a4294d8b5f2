"""Rollups of rollups: they hold what a rollup of the samples would."""

from __future__ import annotations

from kymograph.model.time import MINUTE, SECOND
from kymograph.store.store import Store
from tests.unit.store.rollups.ramps import BASE, ramp, rows


def test_tiers_are_made_of_tiers(store: Store) -> None:
    ramp(store, 60)
    store.create_rollup("m_1m")
    store.create_rollup("m_5m", "m_1m", "5m")
    store.create_rollup("m_15m", "m_5m", "15m")
    store.create_rollup("direct", "samples", "15m")
    assert rows(store, "m_15m") == rows(store, "direct")


def test_increases_of_shared_rows_add_up_in_tiers(store: Store) -> None:
    for host in ("a", "b"):
        for step in range(60):
            store.counter("c", float(step % 25), {"host": host}, time=BASE + step * 10 * SECOND)
    store.create_rollup("c_1m", "samples", "1m", by=[])
    store.create_rollup("c_5m", "c_1m", "5m")
    store.create_rollup("all_5m", "samples", "5m", by=[])
    tier, direct = rows(store, "c_5m"), rows(store, "all_5m")
    assert [row["increase"] for row in tier] == [row["increase"] for row in direct]
    assert sum(row["increase"] for row in direct) == 2 * (24 + 24 + 9)
    store.counter("c", 3.0, {"host": "a"}, time=BASE + 5 * MINUTE - 1)
    store.refresh_rollup("c_5m")
    store.refresh_rollup("all_5m")
    assert [row["increase"] for row in rows(store, "c_5m")] == [row["increase"] for row in rows(store, "all_5m")]


def test_tiers_by_labels_never_mix_metrics(store: Store) -> None:
    for name in ("m", "n"):
        for second in range(90):
            store.gauge(name, 1.0, {"host": "a", "disk": str(second % 2)}, time=BASE + second * SECOND)
    store.create_rollup("h_1m", "samples", "1m", by=["host", "disk"])
    store.create_rollup("h_5m", "h_1m", "5m", by=["host"])
    assert sorted((row["name"], row["host"], row["count"]) for row in rows(store, "h_5m")) == [
        ("m", "a", 90),
        ("n", "a", 90),
    ]


def test_tiers_follow_a_deletion_that_empties_no_bucket_below(store: Store) -> None:
    ramp(store, 60)
    store.create_rollup("m_1m")
    store.create_rollup("m_5m", "m_1m", "5m")
    # of every minute the first half
    for minute in range(10, 20):
        store.delete("samples", None, BASE + minute * MINUTE, BASE + minute * MINUTE + 30 * SECOND)
    store.refresh_rollup("m_5m")
    assert [row["count"] for row in rows(store, "m_5m")] == [30, 30, 15, 15, *[30] * 8]
