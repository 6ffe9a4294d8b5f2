"""What every engine does for streams, asked through the store."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kymograph.errors import (
    AlreadyExists,
    InvalidInput,
    KymographError,
    NotFound,
    Overlap,
    ReadOnly,
    SchemaError,
    StoreClosed,
)
from kymograph.model.stream import TYPES, Layout, StreamRetention, StreamSchema
from kymograph.options import StoreOptions
from kymograph.store.store import Store
from kymograph.streams import Intervals, Stream
from tests.contract.base import Suite

PATH = "/meter/1/raw"


def made(layout: str, times: Any, seed: int = 0) -> Any:
    """Rows with random bits at given times."""
    kind = Layout.parse(layout)
    rows = np.empty(len(times), kind.rows)
    rows["timestamp"] = times
    dice = np.random.default_rng(seed)
    rows["data"] = np.frombuffer(dice.bytes(rows["data"].nbytes), kind.dtype).reshape(rows["data"].shape)
    return rows


class StreamsOf(Suite):
    """Streams: values, coverage, levels, bounds."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        store = Store(self.open(tmp_path / "store"))
        yield store
        store.close()

    def settled(self, stream: Stream) -> Stream:
        """The stream in the state that this variant of the suite is about."""
        self.after_write(stream._store.engine)
        return stream

    @pytest.mark.parametrize("kind", TYPES)
    @pytest.mark.parametrize("count", [1, 3])
    def test_every_type_comes_back_bit_for_bit(self, store: Store, kind: str, count: int) -> None:
        stream = store.stream(PATH, f"{kind}_{count}")
        # before 1970, far from it, close together and far apart
        times = np.concatenate([[-(2**61), -5, 0, 1], np.cumsum(np.arange(1, 700)) * 7 + 10, [2**61]])
        rows = made(f"{kind}_{count}", times)
        assert stream.insert(rows) == len(rows)
        self.settled(stream)
        found = stream.read()
        assert found.dtype == Layout.parse(f"{kind}_{count}").rows
        assert found.tobytes() == rows.tobytes()
        assert stream.read(0, 20, columns=[count - 1])["data"].tobytes() == rows[2:5]["data"][:, count - 1].tobytes()
        assert stream.count(1, 2**61) == len(rows) - 4

    def test_coverage_is_what_was_inserted(self, store: Store) -> None:
        stream = store.stream(PATH, "uint8_1")
        stream.insert(made("uint8_1", [10, 20]), 5, 30)
        stream.insert([], 30, 40)
        stream.insert([], 50, 60)
        stream.insert(made("uint8_1", [100]))
        assert list(self.settled(stream).intervals()) == [(5, 40), (50, 60), (100, 101)]
        assert list(stream.intervals(8, 55)) == [(8, 40), (50, 55)]
        assert list(stream.intervals(diff=Intervals.of([(0, 10), (55, 200)]))) == [(10, 40), (50, 55)]
        assert (stream.count(), stream.count(11, 100), stream.count(11, 101)) == (3, 1, 2)
        numbers = stream.statistics()
        assert (numbers.rows, numbers.intervals, numbers.start, numbers.end, numbers.covered) == (3, 3, 5, 101, 46)

    @pytest.mark.parametrize(
        ("times", "start", "end", "words"),
        [
            ([10, 20, 20], None, None, "row 2 .*20.* row 1 .*20"),
            ([10, 30, 20], None, None, "row 2 .*20.* row 1 .*30"),
            ([10, 20], 11, None, "row 0 .*10.* start .*11"),
            ([10, 20, 30], 0, 20, "row 1 .*20.* end .*20"),
            ([], 20, 10, "no interval"),
            ([], 20, None, "both"),
        ],
    )
    def test_what_does_not_fit_is_refused_whole(
        self, store: Store, times: list[int], start: int | None, end: int | None, words: str
    ) -> None:
        stream = store.stream(PATH, "int16_2")
        with pytest.raises(InvalidInput, match=words):
            stream.insert(made("int16_2", times), start, end)
        assert (len(stream.intervals()), stream.count()) == (0, 0)

    @pytest.mark.parametrize(("start", "end"), [(0, 11), (19, 30), (12, 13), (0, 100), (10, 20)])
    def test_an_overlap_is_refused_and_named(self, store: Store, start: int, end: int) -> None:
        stream = store.stream(PATH, "int16_2")
        stream.insert(made("int16_2", [12, 15]), 10, 20)
        self.settled(stream)
        with pytest.raises(Overlap, match=r"\[10, 20\)"):
            stream.insert(made("int16_2", [start]), start, end)
        assert list(stream.intervals()) == [(10, 20)]
        assert stream.insert(made("int16_2", [20]), 20, 30) == 1
        assert stream.insert(made("int16_2", [9]), 5, 10) == 1
        assert list(stream.intervals()) == [(5, 30)]

    def test_arrays_of_all_shapes(self, store: Store) -> None:
        stream = store.stream(PATH, "uint16_2")
        stream.insert([[10, 1, 2], [20, 3, 65535]])
        stream.insert(np.array([[30.0, 5, 6]]))
        swapped = np.zeros(1, [("data", ">u2", (2,)), ("timestamp", ">i8")])
        swapped["timestamp"], swapped["data"] = 40, [7, 8]
        stream.insert(swapped)
        flat = self.settled(stream).read(flatten=True)
        assert flat.tolist() == [[10, 1, 2], [20, 3, 65535], [30, 5, 6], [40, 7, 8]]
        for wrong in ([[50.5, 1, 2]], [[50, -1, 2]], [[50, 1, 65536]], [[50, 1.5, 2]], [[50, 1]], [50, 1, 2], "x"):
            with pytest.raises(InvalidInput):
                stream.insert(wrong)
        with pytest.raises(InvalidInput, match="exactly"):
            stream.insert(np.array([[2.0**53, 1, 2]]))
        assert stream.count() == 4

    def test_removing_uncovers_and_counts(self, store: Store) -> None:
        stream = store.stream(PATH, "float32_1")
        stream.insert(made("float32_1", np.arange(0, 3000, 3)), 0, 3000)
        self.settled(stream)
        assert stream.remove(300, 600) == 100
        assert stream.remove(300, 600) == 0
        assert stream.remove(1, 2) == 0
        assert list(stream.intervals()) == [(0, 1), (2, 300), (600, 3000)]
        assert stream.count() == 900
        stream.insert(made("float32_1", [400]), 300, 600)
        assert list(stream.intervals()) == [(0, 1), (2, 3000)]
        assert self.settled(stream).remove() == 901
        assert (stream.count(), len(stream.intervals())) == (0, 0)

    def test_names(self, store: Store) -> None:
        stream = store.stream(PATH, "PrepData")
        assert stream.layout.name == "float32_8"
        stream.insert(made("float32_8", [1, 2]))
        with pytest.raises(AlreadyExists, match="float32_8"):
            store.stream(PATH, "uint16_6")
        with pytest.raises(NotFound):
            store.stream("/no/such")
        for wrong in ("x", "/one", "/a//b", "/a/b/", "/a/b~c", "/a/\n", 5, "/a/b~decim-5", "/a" * 400):
            with pytest.raises(InvalidInput):
                store.stream(wrong, "uint8_1")  # type: ignore[arg-type]
        for layout in ("uint16", "uint16_0", "uint16_1025", "bool_1", "float16_2", "string_1", "", None):
            with pytest.raises((InvalidInput, NotFound)):
                store.stream("/a/b", layout)
        stream.rename("/ümläut/with space")
        assert [entry.path for entry in store.streams()] == ["/ümläut/with space"]
        assert store.stream("/ümläut/with space").count() == 2
        other = store.stream("/a/b", "uint8_1")
        with pytest.raises(AlreadyExists):
            other.rename("/ümläut/with space")
        assert [entry.path for entry in store.streams("/a/*")] == ["/a/b"]
        stream.destroy()
        for gone in (stream.count, stream.read, stream.destroy, stream.statistics, lambda: stream.insert([[1, 2]])):
            with pytest.raises(NotFound):
                gone()
        # the path is free, and what comes there is another stream
        assert store.stream("/ümläut/with space", "int8_1").count() == 0

    def test_metadata(self, store: Store) -> None:
        stream = store.stream(PATH, "int8_2")
        stream.set_metadata({"source": "meter", "deep": {"a": [1, None]}})
        stream.describe(1, name="current", unit="A", scale=0.5, offset=-3, display=(0, 10))
        assert stream.columns == ("c0", "current")
        assert stream.metadata["columns"][1] == {
            "name": "current", "unit": "A", "scale": 0.5, "offset": -3, "display": [0, 10],
        }  # fmt: skip
        stream.update_metadata({"source": None})
        assert "source" not in stream.metadata
        stream.insert([[1, 2, 3]])
        assert stream.read(columns=["current", "c0"])["data"].tolist() == [[3, 2]]
        for wrong in ({"columns": [{}, {}, {}]}, {"x": float("nan")}, {"x": object()}, {1: 2}, {"": 1}):
            with pytest.raises(InvalidInput):
                stream.set_metadata(wrong)  # type: ignore[arg-type]
        for about in ({"name": "c0"}, {"name": "time"}, {"scale": "1"}, {"display": [1]}, {"colour": "red"}):
            with pytest.raises(InvalidInput):
                stream.describe(1, **about)
        with pytest.raises(InvalidInput, match="no column"):
            stream.read(columns=["volt"])
        schema = stream.schema
        with pytest.raises(SchemaError):
            store.engine.streams.alter(StreamSchema(PATH, schema.layout, not schema.pyramid))

    def test_levels(self, store: Store) -> None:
        stream = store.stream(PATH, "int32_2")
        with stream.writer(rows=1000) as writer:
            for at in range(0, 5000, 37):
                writer.write(made("int32_2", np.arange(at, min(at + 37, 5000)) * 100, at))
            writer.gap()
            writer.write(made("int32_2", 10**6 + np.arange(10), 1))
        self.settled(stream)
        rows = stream.read()
        zoomed = stream.read(max_rows=100)
        assert (zoomed.level, zoomed.factor, len(zoomed)) == (3, 64, 80)
        for at in (0, 40, 78):
            group = rows[at * 64 : min(at * 64 + 64, 5000)]
            one = zoomed.rows[at]
            assert one["mean"].tolist() == [group["data"][:, k].astype(float).sum() / len(group) for k in (0, 1)]
            assert one["min"].tolist() == group["data"].min(axis=0).tolist()
            assert one["max"].tolist() == group["data"].max(axis=0).tolist()
            assert abs(one["timestamp"] - group["timestamp"].mean()) <= 3
        # a rest is kept, and nothing reaches across the gap
        assert zoomed.rows["timestamp"][-1] >= 10**6
        level = store.stream(f"{PATH}~decim-64")
        assert level.read().tobytes() == zoomed.rows.tobytes()
        assert (level.level, level.count()) == (3, 80)
        assert stream.read(max_rows=5010).level == 0
        assert len(stream.read(max_rows=1).rows) == 2
        assert zoomed.rows.dtype["mean"].base == np.float64
        assert stream.read(max_rows=100, flatten=True).rows.shape == (80, 7)
        with pytest.raises(InvalidInput, match="level"):
            level.insert([[1, 2, 3]])
        for wrong in (0, -1, True, 1.5):
            with pytest.raises(InvalidInput):
                stream.read(max_rows=wrong)  # type: ignore[call-overload]

    def test_chunks_never_cross_a_gap(self, store: Store) -> None:
        stream = store.stream(PATH, "uint8_1")
        for start in (0, 100, 200):
            stream.insert(made("uint8_1", np.arange(start, start + 50)))
        stream.insert(made("uint8_1", np.arange(250, 260)))
        chunks = [chunk["timestamp"].tolist() for chunk in self.settled(stream).chunks(rows=30)]
        assert [time for chunk in chunks for time in chunk] == [*range(50), *range(100, 150), *range(200, 260)]
        assert all(1 <= len(chunk) <= 30 and chunk[-1] - chunk[0] == len(chunk) - 1 for chunk in chunks)

    def test_a_writer_has_no_holes_but_its_gaps(self, store: Store) -> None:
        stream = store.stream(PATH, "uint8_1")
        with stream.writer(start=0, rows=10) as writer:
            for at in range(5, 100, 5):
                writer.write(made("uint8_1", [at, at + 1]))
            with pytest.raises(InvalidInput, match="before"):
                writer.write(made("uint8_1", [96]))
            writer.gap(end=150)
            writer.write(made("uint8_1", [200]))
        assert list(stream.intervals()) == [(0, 150), (200, 201)]
        assert stream.count() == 39
        with pytest.raises(Overlap), stream.writer() as writer:
            writer.write(made("uint8_1", [20]))
        assert stream.count() == 39

    def test_a_writer_commits_by_time(self, store: Store) -> None:
        stream = store.stream(PATH, "uint8_1")
        with stream.writer(seconds=0.01) as writer:
            writer.write(made("uint8_1", [1, 2]))
            tail = stream.tail(since=0, timeout=60)
            assert next(tail)["timestamp"].tolist() == [1, 2]

    def test_following(self, store: Store) -> None:
        stream = store.stream(PATH, "uint8_1")
        stream.insert(made("uint8_1", [1, 2]))
        seen: list[int] = []
        follower = stream.tail(timeout=60)

        def follow() -> None:
            for chunk in follower:
                seen.extend(chunk["timestamp"].tolist())
                if len(seen) >= 4:
                    break

        thread = threading.Thread(target=follow)
        first = stream.tail(since=2, timeout=60)
        assert next(first)["timestamp"].tolist() == [2]
        thread.start()
        at = 1000
        while thread.is_alive():
            stream.insert(made("uint8_1", [at]))
            thread.join(0.01)
            at += 1
        # it begins after what was there when it first asked, and leaves nothing out
        assert seen[0] >= 1000
        assert seen == list(range(seen[0], seen[0] + len(seen)))
        assert list(stream.tail(timeout=0)) == []

    def test_bounds(self, store: Store) -> None:
        stream = store.stream(PATH, "uint8_1", retention=StreamRetention(keep=100))
        for start in (0, 1000, 2000):
            stream.insert(made("uint8_1", np.arange(start, start + 60)), start, start + 60)
        self.settled(stream)
        plan = stream.cleanup(dry_run=True)
        assert (plan.before, plan.rows, plan.covered) == (1020, 80, 80)
        assert plan.needed is not None
        assert stream.count() == 180
        assert stream.cleanup() == plan.__class__(**{**plan.__dict__, "dry_run": False})
        assert list(stream.intervals()) == [(1020, 1060), (2000, 2060)]
        assert stream.cleanup().before is None
        old = stream.cleanup(StreamRetention(age="1s"), now=2010 + 10**6, dry_run=True)
        assert (old.before, old.rows) == (2010, 50)
        stream.set_retention(None)
        assert stream.retention == StreamRetention()

    def test_a_prune_applies_the_bounds(self, store: Store) -> None:
        stream = store.stream(PATH, "uint8_1", retention=StreamRetention(age=100))
        stream.insert(made("uint8_1", np.arange(0, 300)))
        self.settled(stream)
        report = store.engine.prune(now=350, dry_run=True, force=True)  # type: ignore[attr-defined]
        assert (report.rows, [victim.table for victim in report.victims]) == (250, [PATH])
        assert store.engine.prune(now=350, force=True).rows == 250  # type: ignore[attr-defined]
        assert list(stream.intervals()) == [(250, 300)]
        assert stream.count() == 50

    def test_many_writers_at_once(self, store: Store) -> None:
        problems: list[BaseException] = []

        def write(number: int) -> None:
            try:
                own = store.stream(f"/own/{number}", "uint16_1")
                shared = store.stream(PATH, "uint16_1")
                for at in range(12):
                    own.insert(made("uint16_1", [at * 10]), at * 10, at * 10 + 10)
                    base = (at * 4 + number) * 100
                    shared.insert(made("uint16_1", np.arange(base, base + 50)), base, base + 100)
            except KymographError as problem:
                problems.append(problem)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert problems == []
        shared = self.settled(store.stream(PATH))
        assert list(shared.intervals()) == [(0, 4800)]
        assert shared.count() == 48 * 50
        assert [entry.statistics.rows for entry in store.streams("/own/*")] == [12] * 4

    def test_a_closed_store_and_a_reader(self, tmp_path: Path) -> None:
        store = Store(self.open(tmp_path / "other"))
        stream = store.stream(PATH, "uint8_1")
        stream.insert(made("uint8_1", [1]))
        store.close()
        for gone in (stream.count, stream.read, lambda: stream.insert(made("uint8_1", [5])), stream.intervals):
            with pytest.raises(StoreClosed):
                gone()

    def test_read_only(self, tmp_path: Path) -> None:
        writing = Store(self.open(tmp_path / "other"))
        writing.stream(PATH, "uint8_1").insert(made("uint8_1", [1]))
        reading = Store(self.open(tmp_path / "other", read_only=True), StoreOptions(read_only=True))
        with pytest.raises(ReadOnly):
            reading.engine.streams.create(StreamSchema("/x/y", Layout.parse("uint8_1")))
        if reading.engine.streams.streams():  # the memory engine shares nothing
            stream = reading.stream(PATH)
            tail = stream.tail(since=0, timeout=60)
            assert next(tail)["timestamp"].tolist() == [1]
            writing.stream(PATH).insert(made("uint8_1", [2, 3]))
            assert next(tail)["timestamp"].tolist() == [2, 3]
            writing.stream(PATH).remove(1, 2)
            assert list(stream.intervals()) == [(2, 4)]
            with pytest.raises(ReadOnly):
                stream.remove()
        reading.close()
        writing.close()
