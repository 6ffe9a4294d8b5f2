"""Rings: slots, late samples, sizes, and their samples as rows of `samples`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kymograph.engine.rings import MAX_SLOTS, Ring, Rings
from kymograph.errors import AlreadyExists, InvalidInput, LimitExceeded, NotFound, ReadOnly, SchemaError, StoreClosed
from kymograph.model.matcher import Matcher
from kymograph.model.schema import SAMPLES_SCHEMA
from kymograph.model.time import MAX_TIME, MIN_TIME
from tests.contract.base import Suite
from tests.rows import scanned

S = 1_000_000


def ringed(engine: Any, count: int = 1, step: int = S, slots: int = 10) -> list[int]:
    """Series that are rings."""
    engine.create_table(SAMPLES_SCHEMA)
    ids: list[int] = engine.register_series([("ring", {"n": str(n)}) for n in range(count)])
    engine.rings.define({number: Ring(step, slots) for number in ids})
    return ids


def put(engine: Any, number: int, samples: Sequence[tuple[int, float]]) -> None:
    times, values = zip(*samples, strict=True)
    ids = np.full(len(times), number, np.int64)
    assert engine.rings.write(ids, np.array(times, np.int64), np.array(values, np.float64)) == len(times)


def held(engine: Any, *args: Any) -> list[tuple[int, int, float]]:
    return list(zip(*(column.tolist() for column in engine.rings.read(*args)), strict=True))


class RingsOf(Suite):
    """What every engine's rings do."""

    def test_it_has_rings(self, engine: Any) -> None:
        assert isinstance(engine.rings, Rings)
        assert dict(engine.rings.all()) == {}
        assert held(engine) == []

    def test_the_last_write_into_a_slot_wins(self, engine: Any) -> None:
        (one,) = ringed(engine)
        put(engine, one, [(3 * S + 5, 1.0), (3 * S + 1, 2.0)])
        put(engine, one, [(3 * S + 9, 3.0), (3 * S, 4.0)])
        assert held(engine) == [(one, 3 * S, 4.0)]

    def test_a_late_sample_never_takes_a_newer_slot(self, engine: Any) -> None:
        (one,) = ringed(engine)
        put(engine, one, [(13 * S, 1.0)])
        put(engine, one, [(3 * S, 2.0)])
        put(engine, one, [(24 * S, 3.0), (4 * S, 4.0), (14 * S, 5.0)])
        put(engine, one, [(5 * S, 6.0)])  # older than a lap, but its slot is free
        assert held(engine) == [(one, 5 * S, 6.0), (one, 13 * S, 1.0), (one, 24 * S, 3.0)]

    def test_times_before_1970_and_far_ones(self, engine: Any) -> None:
        one, two = ringed(engine, 2, step=7, slots=64)
        times = [-1, -7, -8, 0, 6, MIN_TIME, MAX_TIME]
        put(engine, one, [(time, float(n)) for n, time in enumerate(times)])
        put(engine, two, [(MAX_TIME, 1.0)])
        put(engine, two, [(MAX_TIME - 64 * 7, 2.0)])
        # -1 and -7 are of one step, so are 0 and 6
        assert held(engine, [one]) == [
            (one, time, value) for time, value in [(MIN_TIME, 5.0), (-8, 2.0), (-7, 1.0), (6, 4.0), (MAX_TIME, 6.0)]
        ]
        assert held(engine, [two]) == [(two, MAX_TIME, 1.0)]

    def test_bits_are_kept(self, engine: Any) -> None:
        (one,) = ringed(engine)
        bits = np.array([0x7FF0000000000002, 0xFFF8000000000ABC, 0x8000000000000000, 1], np.uint64)
        values = bits.view(np.float64)
        engine.rings.write(np.full(4, one), np.arange(4) * S, values)
        assert engine.rings.read().values.view(np.uint64).tolist() == bits.tolist()
        found = engine.scan("samples", columns=["value"]).table()["value"].combine_chunks().to_numpy()
        assert found.view(np.uint64).tolist() == bits.tolist()

    def test_ranges_and_ids(self, engine: Any) -> None:
        one, two, three = ringed(engine, 3)
        for number in (one, two):
            put(engine, number, [(t * S, float(t)) for t in range(5)])
        assert held(engine, [two, one], 2 * S, 4 * S) == [(n, t * S, float(t)) for n in (one, two) for t in (2, 3)]
        assert held(engine, [three, 999]) == []
        assert held(engine, [one], 4 * S + 1) == []
        assert held(engine, [one], None, 1) == [(one, 0, 0.0)]
        assert held(engine, []) == []

    def test_samples_of_rings_are_rows(self, engine: Any) -> None:
        ring = ringed(engine)[0]
        other = engine.register_series([("plain", {})])[0]
        rows = {"time": [0, 0, 10 * S, 4 * S, S], "series_id": [ring, other, ring, other, ring], "value": range(5)}
        assert self.append(engine, "samples", rows) == 5
        expected = [(0, other, 1.0), (S, ring, 4.0), (4 * S, other, 3.0), (10 * S, ring, 2.0)]
        columns = ["time", "series_id", "value"]

        def rows_of(**asked: Any) -> list[Any]:
            table = engine.scan("samples", **asked).table()
            times = table["time"].cast("int64").to_pylist()
            return sorted(zip(times, table["series_id"].to_pylist(), table["value"].to_pylist(), strict=True))

        assert rows_of() == rows_of(columns=columns) == expected
        assert rows_of(matchers=[Matcher("series_id", "=", ring)]) == [r for r in expected if r[1] == ring]
        assert rows_of(matchers=[Matcher("series_id", "!=", ring)]) == [r for r in expected if r[1] == other]
        assert rows_of(matchers=[Matcher("series_id", "in", frozenset([ring, 77]))], start=2) == [
            r for r in expected if r[1] == ring
        ]
        assert rows_of(start=S, end=10 * S) == expected[1:3]
        scanned(engine, "samples")  # checks what a scan promises
        assert engine.scan("samples", columns=[]).table().num_rows == 4
        assert sorted(engine.latest("samples")["value"].to_pylist()) == [2.0, 3.0]
        assert engine.latest("samples", [Matcher("series_id", "=", ring)])["value"].to_pylist() == [2.0]
        numbers = engine.statistics("samples")
        assert (numbers.rows, numbers.series, numbers.oldest, numbers.newest) == (4, 2, 0, 10 * S)

    def test_nothing_of_a_batch_with_a_null_for_a_ring(self, engine: Any) -> None:
        ring = ringed(engine)[0]
        other = engine.register_series([("plain", {})])[0]
        with pytest.raises(SchemaError):
            self.append(engine, "samples", {"time": [1, 2], "series_id": [other, ring], "value": [1.0, None]})
        assert scanned(engine, "samples") == []

    def test_deletes_reach_rings(self, engine: Any) -> None:
        one, two = ringed(engine, 2)
        for number in (one, two):
            put(engine, number, [(t * S, float(t)) for t in range(5)])
        assert engine.delete("samples", [Matcher("series_id", "=", one)], 2 * S, 4 * S) == 2
        assert held(engine, [one]) == [(one, t * S, float(t)) for t in (0, 1, 4)]
        assert engine.delete("samples", [], None, S) == 2
        assert engine.delete("samples", [], None, S) == 0
        assert engine.delete("samples") == 6
        assert held(engine) == []
        assert engine.statistics("samples").rows == 0
        put(engine, one, [(0, 7.0)])
        assert held(engine) == [(one, 0, 7.0)]

    def test_ages_do_not_reach_rings(self, tmp_path: Path) -> None:
        engine: Any = self.open(tmp_path / "aged", age=S)
        (one,) = ringed(engine)
        put(engine, one, [(0, 1.0)])
        engine.prune(now=100 * S, force=True)
        assert held(engine) == [(one, 0, 1.0)]
        engine.close()

    def test_defining(self, engine: Any) -> None:
        with pytest.raises(NotFound):
            engine.rings.define({1: Ring(S, 10)})
        ring = ringed(engine)[0]
        put(engine, ring, [(0, 1.0)])
        engine.rings.define({ring: Ring(S, 10)})
        assert held(engine) == [(ring, 0, 1.0)]
        for other in (Ring(S, 11), Ring(S + 1, 10), Ring(S, 10, "counter")):
            with pytest.raises(AlreadyExists):
                engine.rings.define({ring: other})
        plain, fresh = engine.register_series([("plain", {}), ("fresh", {})])
        self.append(engine, "samples", {"time": [1], "series_id": [plain], "value": [1.0]})
        with pytest.raises(AlreadyExists):
            engine.rings.define({fresh: Ring(S, 10), plain: Ring(S, 10)})
        with pytest.raises(NotFound):
            engine.rings.define({fresh: Ring(S, 10), 999: Ring(S, 10)})
        assert dict(engine.rings.all()) == {ring: Ring(S, 10)}
        with pytest.raises(NotFound):
            engine.rings.write(np.array([ring, fresh]), np.array([S, S]), np.array([1.0, 2.0]))
        assert held(engine) == [(ring, 0, 1.0)]

    @pytest.mark.parametrize(
        "given",
        [(0, 1), (-1, 1), (1, 0), (1, -5), (1, MAX_SLOTS + 1), (MAX_TIME + 1, 1), (1.5, 1), (1, True)],
        ids=repr,
    )
    def test_no_rings(self, given: Any) -> None:
        with pytest.raises(InvalidInput):
            Ring(*given)

    def test_resizing(self, engine: Any) -> None:
        one, two = ringed(engine, 2, slots=100)
        for number in (one, two):
            put(engine, number, [(t * S, float(t)) for t in range(130)])
        assert [time for _, time, _ in held(engine, [one])] == [t * S for t in range(30, 130)]
        engine.rings.resize(one, 10 * S, 5)
        assert held(engine, [one]) == [(one, t * S, float(t)) for t in (89, 99, 109, 119, 129)]
        engine.rings.resize(one, S, 1000)
        put(engine, one, [(200 * S, 1.0)])
        assert len(held(engine, [one])) == 6
        assert engine.rings.all()[one] == Ring(S, 1000)
        assert len(held(engine, [two])) == 100
        with pytest.raises(NotFound):
            engine.rings.resize(999, S, 10)
        with pytest.raises(InvalidInput):
            engine.rings.resize(one, S, 0)
        assert len(held(engine, [one])) == 6

    def test_dropping(self, engine: Any) -> None:
        one, two = ringed(engine, 2)
        for number in (one, two):
            put(engine, number, [(0, 1.0)])
        engine.rings.drop([one, 999])
        assert held(engine) == [(two, 0, 1.0)]
        assert list(engine.rings.all()) == [two]
        self.append(engine, "samples", {"time": [5, 5], "series_id": [one, two], "value": [2.0, 3.0]})
        assert held(engine) == [(two, 5, 3.0)]
        assert engine.statistics("samples").rows == 2
        engine.drop_table("samples")
        assert dict(engine.rings.all()) == {}
        engine.create_table(SAMPLES_SCHEMA)
        assert scanned(engine, "samples") == []

    def test_rings_leave_most_of_the_cap(self, tmp_path: Path) -> None:
        engine: Any = self.open(tmp_path / "capped", cap=8_000_000)
        (one,) = ringed(engine, slots=100_000)
        second = engine.register_series([("second", {})])[0]
        with pytest.raises(LimitExceeded):
            engine.rings.define({second: Ring(S, 100_000)})
        with pytest.raises(LimitExceeded):
            engine.rings.resize(one, S, 200_000)
        engine.rings.resize(one, S, 50_000)
        engine.rings.define({second: Ring(S, 50_000)})
        engine.close()

    def test_after_close(self, engine: Any) -> None:
        (one,) = ringed(engine)
        engine.close()
        none = np.zeros(1, np.int64)
        for call in (
            engine.rings.all, engine.rings.read, engine.rings.usage, lambda: engine.rings.define({one: Ring(1, 1)}),
            lambda: engine.rings.write(none + one, none, none + 0.0), lambda: engine.rings.resize(one, 1, 1),
            lambda: engine.rings.drop([one]),
        ):  # fmt: skip
            with pytest.raises(StoreClosed):
                call()

    def test_read_only(self, tmp_path: Path) -> None:
        writer: Any = self.open(tmp_path / "store")
        (one,) = ringed(writer)
        reader: Any = self.open(tmp_path / "store", read_only=True)
        for call in (
            lambda: reader.rings.define({one: Ring(1, 1)}), lambda: reader.rings.resize(one, 1, 1),
            lambda: reader.rings.drop([one]),
            lambda: reader.rings.write(np.array([one]), np.array([0]), np.array([0.0])),
        ):  # fmt: skip
            with pytest.raises(ReadOnly):
                call()
        reader.close()
        writer.close()

    def test_many_threads(self, engine: Any) -> None:
        """Eight write one ring; whoever has the newest sample of a slot, has it."""
        engine.create_table(SAMPLES_SCHEMA)
        (one,) = engine.register_series([("ring", {})])
        barrier = threading.Barrier(8)

        def write(thread: int) -> None:
            barrier.wait()
            engine.rings.define({one: Ring(S, 50)})
            for lap in range(20):
                times = np.arange(50) * S + lap * 50 * S + thread
                engine.rings.write(np.full(50, one), times, np.full(50, lap * 8.0 + thread))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(8)))
        found = engine.rings.read()
        assert len(found.ids) == 50
        assert set(found.times // S) == set(range(950, 1000))
        assert (found.values // 8 == 19).all()
        assert (found.values % 8 == found.times % S).all()

    def test_series_become_rings_under_writers(self, engine: Any) -> None:
        """Nobody's rows end up beside the ring they belong to."""
        engine.create_table(SAMPLES_SCHEMA)
        ids = engine.register_series([("m", {"n": str(n)}) for n in range(16)])
        barrier = threading.Barrier(5)
        made: set[int] = set()

        def write(thread: int) -> None:
            barrier.wait()
            for t in range(40):
                columns = {"time": [t * 4 + thread] * 16, "series_id": ids, "value": [float(thread)] * 16}
                self.append(engine, "samples", columns)

        def define() -> None:
            barrier.wait()
            for number in ids:
                try:
                    engine.rings.define({number: Ring(1, 1000)})
                    made.add(number)
                except AlreadyExists:
                    pass

        with ThreadPoolExecutor(5) as pool:
            futures = [pool.submit(write, thread) for thread in range(4)] + [pool.submit(define)]
            for future in futures:
                future.result()
        assert set(engine.rings.all()) == made
        assert {number for number, _, _ in held(engine)} == made
        assert len(scanned(engine, "samples")) == 16 * 160  # also checks that no row is there twice
