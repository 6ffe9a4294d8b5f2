"""Killed at every durable step and at random times: every acknowledged operation is there, none half."""

from __future__ import annotations

import itertools
import random
import time
from pathlib import Path

import pytest

from kymograph.engine.memory import MemoryEngine
from kymograph.local.engine import LocalEngine
from kymograph.options import StoreOptions
from tests.crash.forks import Forks
from tests.crash.script import SHORT, History, apply, copied, random_script, state
from tests.crash.tidy import assert_tidy

STORES, ROUNDS = 20, 10


@pytest.mark.parametrize("sync", ["full", "normal"])
def test_killed_at_every_durable_step(forks: Forks, tmp_path: Path, sync: str) -> None:
    history = History(SHORT)
    k = killed = 0
    while True:
        folder = tmp_path / f"{k}"
        end = forks.ended("short", folder=str(folder), k=k, sync=sync)
        done = end.done
        verify(
            folder, history, done, f"step {k}, after {done} operations ({SHORT[min(done, len(SHORT) - 1)]} under way)"
        )
        if not end.killed:
            break
        k, killed = k + 1, killed + 1
    assert killed > 40


def verify(folder: Path, history: History, done: int, where: str) -> None:
    """The state is right, before and after another clean closing, and goes on being written."""
    engine = LocalEngine(folder, StoreOptions(sync="off"))
    found = history.check(engine, done, where)
    assert_tidy(folder, engine)
    engine.close()
    engine = LocalEngine(folder, StoreOptions(sync="off"))
    assert state(engine) == found, f"{where}: another state after opening again"
    if not engine.tables():
        apply(engine, SHORT[0])
    rows = engine.statistics("t").rows
    apply(engine, ("append", 99, 100_000, 5, 1))
    engine.seal()
    assert engine.statistics("t").rows == rows + 5
    engine.close()


@pytest.mark.parametrize("store", [pytest.param(n, marks=[pytest.mark.soak] * (n >= 5)) for n in range(STORES)])
def test_killed_at_random_times(forks: Forks, tmp_path: Path, store: int) -> None:
    dice = random.Random(store)
    operations = 0
    folder = tmp_path / f"{store}"
    oracle = MemoryEngine()
    with_table = LocalEngine(folder, StoreOptions(sync="normal"))
    for engine in (oracle, with_table):
        apply(engine, ("create",))
    with_table.close()
    for round_ in range(ROUNDS):
        seed = store * ROUNDS + round_
        script = random_script(seed, 400)
        child = forks.run("busy", folder=str(folder), seed=seed, length=len(script))
        # from the middle of opening to some dozen operations later, and then at any moment
        acknowledged = dice.randrange(40) if round_ % 3 else 0
        lines = list(itertools.takewhile(bool, (child.line() for _ in range(acknowledged))))
        time.sleep(dice.uniform(0, 0.02))
        child.kill()
        lines += child.rest()
        child.wait()
        assert not any(line.startswith("error") for line in lines), lines[-1]
        done = sum(line.startswith("done") for line in lines)
        operations += done
        for operation in script[:done]:
            apply(oracle, operation)
        history = History(script[done : done + 1], oracle)
        where = (
            f"store {store}, round {round_}, after {done} operations ({script[min(done, len(script) - 1)]} under way)"
        )
        engine = LocalEngine(folder, StoreOptions(sync="normal", read_only=round_ % 2 == 0))
        history.check(engine, 0, where)
        if round_ % 2:
            assert_tidy(folder, engine)
        oracle = copied(engine)
        engine.close()
    assert operations > 30
