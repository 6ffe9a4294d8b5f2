"""The embedded engine's streams against the oracle's: any sequence of insertions, removals, folds, crashes and reopenings.

Sizes at which blocks are cut are made small, so that a few rows meet every seam. A crash is the folder as it lies on the
disk while the engine is open, copied and opened elsewhere.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from kymograph.engine.memory import MemoryEngine
from kymograph.errors import AlreadyExists, InvalidInput, NotFound
from kymograph.local.engine import LocalEngine
from kymograph.local.streams import block, changing, chunk, folding
from kymograph.local.streams.engine import LocalStreams
from kymograph.model.stream import Layout, StreamRetention, StreamSchema
from kymograph.options import StoreOptions
from tests.folders import copied

OPTIONS = StoreOptions(sync="off")
PATHS = ("/a/raw", "/a/b/raw")
SPAN = 3000
TIMES = st.integers(0, SPAN)


class Machine(RuleBasedStateMachine):
    layout = "uint16_2"

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="kymograph-"))
        self.folder = self.root / "0"
        self.generations = 0
        self.oracle: Any = MemoryEngine()
        self.local: Any = LocalEngine(self.folder, OPTIONS)

    def both(self, ask: Any) -> Any:
        """The same answer, or the same error, of both."""
        answers: list[Any] = []
        for engine in (self.oracle, self.local):
            try:
                answers.append(ask(engine.streams))
            except (InvalidInput, NotFound, AlreadyExists) as problem:
                answers.append((type(problem).__name__, problem.message))
        assert answers[0] == answers[1]
        return answers[0]

    @initialize()
    def create(self) -> None:
        self.both(lambda s: s.create(StreamSchema(PATHS[0], Layout.parse(self.layout))))
        self.both(lambda s: s.create(StreamSchema(PATHS[1], Layout.parse(self.layout), pyramid=False)))

    @rule(
        path=st.sampled_from(PATHS),
        start=TIMES,
        length=st.integers(0, 400),
        step=st.integers(1, 40),
        margin=st.integers(0, 3),
        seed=st.integers(0, 2**31),
    )
    def insert(self, path: str, start: int, length: int, step: int, margin: int, seed: int) -> None:
        times = start + margin + np.arange(length // step) * step
        dice = np.random.default_rng(seed)
        rows = np.empty(len(times), Layout.parse(self.layout).rows)
        rows["timestamp"] = times
        rows["data"] = dice.integers(0, 100, rows["data"].shape)
        end = start + length + margin
        self.both(lambda s: s.insert(path, rows, start, end))

    @rule(path=st.sampled_from(PATHS), length=st.integers(1, 200), step=st.integers(1, 7))
    def follow(self, path: str, length: int, step: int) -> None:
        """What a writer does: go on where the coverage ends."""
        extent = self.oracle.streams.coverage(path).extent if path in self.oracle.streams.streams() else None
        self.insert(path, extent[1] if extent else 0, length, step, 0, length)

    @rule(path=st.sampled_from(PATHS), start=TIMES, length=st.integers(-5, 800))
    def remove(self, path: str, start: int, length: int) -> None:
        self.both(lambda s: s.remove(path, start, start + length))

    @rule(path=st.sampled_from(PATHS), to=st.sampled_from(PATHS))
    def rename(self, path: str, to: str) -> None:
        self.both(lambda s: s.rename(path, to))

    @rule(path=st.sampled_from(PATHS), pyramid=st.booleans())
    def begin_again(self, path: str, pyramid: bool) -> None:
        self.both(lambda s: s.destroy(path))
        self.both(lambda s: s.create(StreamSchema(path, Layout.parse(self.layout), pyramid)))

    @rule()
    def fold(self) -> None:
        self.local.seal()
        for path in self.local.streams.streams():
            assert self.local.streams.statistics(path).hot_rows == 0

    @rule()
    def merge(self) -> None:
        self.local.compact()

    @rule()
    def reopen(self) -> None:
        self.local.close()
        self.local = LocalEngine(self.folder, OPTIONS)

    @rule()
    def crash(self) -> None:
        self.generations += 1
        copy = self.root / str(self.generations)
        copied(self.folder, copy)
        self.local.close()
        shutil.rmtree(self.folder)
        self.folder = copy
        self.local = LocalEngine(copy, OPTIONS)

    @rule(path=st.sampled_from(PATHS), start=st.none() | TIMES, end=st.none() | TIMES, level=st.integers(0, 5))
    def ask(self, path: str, start: int | None, end: int | None, level: int) -> None:
        self.both(lambda s: s.count(path, start, end))
        self.both(lambda s: list(s.coverage(path, start, end)))
        if path in self.oracle.streams.streams():
            self.same_rows(path, start, end, [1], level, 50)

    def same_rows(self, path: str, *asked: Any) -> None:
        expected, found = (list(engine.streams.read(path, *asked)) for engine in (self.oracle, self.local))
        coverage = self.oracle.streams.coverage(path)
        for array in found:
            assert 0 < len(array) <= asked[-1]
            assert len(set(coverage.locate(array["timestamp"]).tolist())) == 1
        assert bool(expected) == bool(found)
        if expected:
            same_arrays(np.concatenate(expected), np.concatenate(found))

    @invariant()
    def the_same(self) -> None:
        assert dict(self.local.streams.streams()) == dict(self.oracle.streams.streams())
        for path in self.oracle.streams.streams():
            for level in (0, 1, 3, 5, 6):
                self.same_rows(path, None, None, None, level, 1000)
            found, expected = (engine.streams.statistics(path) for engine in (self.local, self.oracle))
            for name in ("rows", "intervals", "start", "end", "covered"):
                assert getattr(found, name) == getattr(expected, name), name

    @invariant()
    def nothing_lies_about(self) -> None:
        files = {str(f.relative_to(self.folder)) for f in (self.folder / "streams").rglob("*") if f.is_file()}
        assert len(files) == sum(self.local.streams.statistics(path).blocks for path in self.local.streams.streams()), (
            files
        )

    def teardown(self) -> None:
        assert not self.local.check().damages
        self.local.close()
        shutil.rmtree(self.root, ignore_errors=True)


def same_arrays(one: Any, other: Any) -> None:
    """The same rows; the mean time of a group that was put together from parts may be some µs off."""
    assert one.dtype == other.dtype
    assert len(one) == len(other)
    for name in one.dtype.names:
        if name == "timestamp" and "mean" in one.dtype.names:
            assert (np.abs(one[name] - other[name]) <= 6).all()
        else:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk, "_CHUNK_ROWS", 64)
    monkeypatch.setattr(block, "_BLOCK_BYTES", 256 * 12)
    monkeypatch.setattr(block, "SUMMARY_GROUPS", 2)
    monkeypatch.setattr(changing, "DIRECT_BYTES", 100 * 12)
    monkeypatch.setattr(folding, "_MANY", 2)
    # what is done in the background is done by the rules, so that files can be counted between any two of them
    monkeypatch.setattr(LocalStreams, "maintain", lambda self: None)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("examples", [8, pytest.param(60, marks=pytest.mark.soak)])
@pytest.mark.parametrize("layout", ["uint16_2", "float64_3"])
def test_local_against_the_oracle(layout: str, examples: int) -> None:
    machine = type(f"Machine_{layout}", (Machine,), {"layout": layout})
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=25))


def test_retention_is_a_part_of_the_schema() -> None:
    kept = StreamSchema(
        "/a/b", Layout.parse("int8_1"), retention=StreamRetention(age="1d", keep="2h"), metadata={"x": [1]}
    )
    assert StreamSchema.from_json(kept.to_json()) == kept
