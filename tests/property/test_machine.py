"""The embedded engine against the oracle: any sequence of writes, seals, deletes, crashes and reopenings.

A crash is the folder as it lies on the disk while the engine is open, copied and opened elsewhere.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kymograph.engine.memory import MemoryEngine
from kymograph.errors import DuplicateRows
from kymograph.local.engine import LocalEngine
from kymograph.model.matcher import Matcher
from kymograph.model.schema import Duplicates, TableSchema, table_schema
from kymograph.model.time import MINUTE
from kymograph.options import Retention, StoreOptions
from tests.crash.tidy import TOP
from tests.folders import copied
from tests.rows import batch_of, ordered, rows_of, scanned
from tests.server.running import eventually

AGE = 3 * MINUTE
OPTIONS = StoreOptions(sync="off")
HOSTS = [None, "", "a", "b", "ü"]
# few times, on and around the edges of partitions before and after 1970, so that rows meet again
TIMES = [edge * MINUTE + off for edge in (-2, -1, 0, 1, 2, 3) for off in (-1, 0, 1, 17)]
ROWS = st.lists(
    st.tuples(
        st.sampled_from(TIMES), st.sampled_from(HOSTS), st.integers(0, 2**64 - 1), st.sampled_from(["", "x", None])
    ),
    min_size=1,
    max_size=25,
)
MATCHERS = st.lists(
    st.sampled_from(
        [
            Matcher("host", "=", "a"), Matcher("host", "=", ""), Matcher("host", "!=", "a"), Matcher("host", "=~", "a|ü"),
            Matcher("host", "!~", ".+"), Matcher("host", "in", frozenset({"b", None})),
        ]
    ),
    max_size=1,
)  # fmt: skip
EDGE = st.none() | st.sampled_from(TIMES)
# values of labels that come later; half of the rows have none
LATER = [None, "", "x", None]
LATER_MATCHERS = st.none() | st.sampled_from([("=", ""), ("=", "x"), ("!=", "x"), ("=~", ".+"), ("!~", "x")])


class Machine(RuleBasedStateMachine):
    policy: Duplicates = "overwrite"

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="kymograph-"))
        self.folder = self.root / "0"
        self.generations = 0
        self.oracle = MemoryEngine()
        self.local = LocalEngine(self.folder, OPTIONS)

    @property
    def schema(self) -> TableSchema:
        return self.oracle.tables()["t"]

    @initialize()
    def create(self) -> None:
        schema = table_schema("t", ["host"], {"bits": "float64", "s": "string"}, self.policy, "1m", Retention(age=AGE))
        self.oracle.create_table(schema)
        self.local.create_table(schema)

    @rule(rows=ROWS)
    def write(self, rows: list[tuple[Any, ...]]) -> None:
        times, hosts, bits, texts = zip(*rows, strict=True)
        floats = pa.array(bits, pa.uint64()).view(pa.float64())
        columns = {
            "time": list(times),
            "host": pa.array(hosts, pa.string()),
            "bits": floats,
            "s": pa.array(texts, pa.string()),
        }
        for name, _ in self.schema.fields[2:]:
            columns[name] = pa.array([bit % 128 for bit in bits], pa.int8())
        for place, name in enumerate(self.schema.labels[1:]):
            columns[name] = pa.array([LATER[(bit >> (8 + 2 * place)) % 4] for bit in bits], pa.string())
        batch = batch_of(self.schema, columns)
        answers = []
        for engine in (self.oracle, self.local):
            try:
                answers.append(engine.append("t", batch))
            except DuplicateRows:
                answers.append(-1)
        assert answers[0] == answers[1], answers

    @rule()
    def seal(self) -> None:
        self.local.seal()
        found = self.local.statistics("t")
        assert found.hot_rows == 0

    @rule()
    def compact(self) -> None:
        self.local.compact()

    @rule(matchers=MATCHERS, start=EDGE, end=EDGE)
    def delete(self, matchers: list[Matcher], start: int | None, end: int | None) -> None:
        assert self.local.delete("t", matchers, start, end) == self.oracle.delete("t", matchers, start, end)

    @rule(now=st.sampled_from([edge * MINUTE + off for edge in (1, 2, 3, 4) for off in (-1, 0, 1, 18)]))
    def prune(self, now: int) -> None:
        cutoff = now - AGE
        young = scanned(self.local, "t", start=cutoff)
        whole = self.local.prune(now=now, dry_run=True).rows
        assert self.local.prune(now=now).rows == whole
        assert scanned(self.local, "t", start=cutoff) == young
        expected = self.oracle.prune(now=now, force=True).rows
        forced = self.local.prune(now=now, dry_run=True, force=True).rows
        assert self.local.prune(now=now, force=True).rows == forced
        assert whole + forced == expected

    @precondition(lambda self: "t" in self.oracle.tables() and len(self.schema.fields) < 4)
    @rule()
    def extend(self) -> None:
        wider = self.schema.extended([(f"more{len(self.schema.fields)}", pa.int8())])
        self.oracle.alter_table(wider)
        self.local.alter_table(wider)

    @precondition(lambda self: "t" in self.oracle.tables() and len(self.schema.labels) < 3)
    @rule()
    def add_label(self) -> None:
        old = self.schema
        wider = old.extended(labels=[f"later{len(old.labels)}"])
        for engine in (self.oracle, self.local):
            engine.alter_table(wider)
        # made before the label came
        batch = batch_of(old, {"time": [MINUTE, 17], **{label: ["a", "b"] for label in old.labels}})
        for engine in (self.oracle, self.local):
            with contextlib.suppress(DuplicateRows):
                engine.append("t", batch)

    @precondition(lambda self: len(self.schema.labels) > 1)
    @rule(matcher=LATER_MATCHERS, start=EDGE, deleting=st.booleans())
    def by_later_label(self, matcher: tuple[Any, str] | None, start: int | None, deleting: bool) -> None:
        matchers = [] if matcher is None else [Matcher(self.schema.labels[-1], *matcher)]
        if deleting and matchers:
            assert self.local.delete("t", matchers, start) == self.oracle.delete("t", matchers, start)
        else:
            self.select(matchers, start, None, None)

    @rule(label=st.sampled_from(["a", "b", "c"]), value=st.none() | st.integers(0, 3))
    def keep_beside(self, label: str, value: int | None) -> None:
        for engine in (self.oracle, self.local):
            engine.put_document("kind", label, value)
            engine.register_series([("metric", {"label": label})])

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
        assert not self.local.check().damages
        assert_tidy(copy, self.local)

    @invariant()
    def the_same_rows(self) -> None:
        if "t" not in self.oracle.tables():
            return
        assert dict(self.local.tables()) == dict(self.oracle.tables())
        assert scanned(self.local, "t") == scanned(self.oracle, "t")
        assert ordered(rows_of(self.local.latest("t"))) == ordered(rows_of(self.oracle.latest("t")))
        found, expected = self.local.statistics("t"), self.oracle.statistics("t")
        for name in ("rows", "series", "oldest", "newest", "partitions"):
            assert getattr(found, name) == getattr(expected, name), name

    @rule(
        matchers=MATCHERS,
        start=EDGE,
        end=EDGE,
        columns=st.none() | st.sampled_from([["bits"], ["s", "time"], ["host"]]),
    )
    def select(self, matchers: list[Matcher], start: int | None, end: int | None, columns: list[str] | None) -> None:
        answers = [scanned(engine, "t", matchers, start, end, columns) for engine in (self.local, self.oracle)]
        assert answers[0] == answers[1]
        latest = [ordered(rows_of(engine.latest("t", matchers))) for engine in (self.local, self.oracle)]
        assert latest[0] == latest[1]

    @invariant()
    def the_same_beside(self) -> None:
        assert dict(self.local.documents("kind")) == dict(self.oracle.documents("kind"))
        names = [
            {(name, tuple(labels.items())) for name, labels in e.series().values()} for e in (self.local, self.oracle)
        ]
        assert names[0] == names[1]

    def teardown(self) -> None:
        self.local.close()
        shutil.rmtree(self.root, ignore_errors=True)


def assert_tidy(folder: Path, engine: LocalEngine) -> None:
    """No file that the catalog does not know."""
    blocks = [path for path in (folder / "blocks").rglob("*") if path.is_file()] if (folder / "blocks").exists() else []
    known = sum(engine.statistics(name).blocks for name in engine.tables())
    assert len(blocks) == known, f"{len(blocks)} files, {known} blocks"
    # a file that is about to be renamed is gone at the next look
    assert eventually(lambda: {path.name for path in folder.iterdir() if path.is_file()} <= TOP), list(folder.iterdir())


@pytest.mark.parametrize("examples", [8, pytest.param(25, marks=pytest.mark.soak)])
@pytest.mark.parametrize("policy", ["overwrite", "ignore", "reject"])
def test_local_against_the_oracle(policy: Duplicates, examples: int) -> None:
    machine = type(f"Machine_{policy}", (Machine,), {"policy": policy})
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=30))
