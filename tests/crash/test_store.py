"""What a store was set up with or told, killed at every durable step of it: done or not, and never half."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest

import kymograph
from tests.crash.forks import Forks
from tests.crash.store_script import SCRIPT, state

STEPS = 20  # one in so many is taken in a run of the suite, every one where long tests are run


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What is seen after each verb that nobody disturbed."""
    with kymograph.connect(tmp_path_factory.mktemp("store") / "s", sync="off") as store:
        found = [state(store)]
        for _, work in SCRIPT:
            work(store)
            found.append(state(store))
    return found


@pytest.mark.parametrize("first", [pytest.param(n, marks=[pytest.mark.soak] * (n > 0)) for n in range(STEPS)])
def test_killed_at_every_durable_step(forks: Forks, states: list[dict[str, Any]], tmp_path: Path, first: int) -> None:
    for k in itertools.count(first, STEPS):
        folder = tmp_path / f"{k}"
        end = forks.ended("store", folder=str(folder), k=k)
        done = end.done
        with kymograph.connect(folder, sync="off") as store:
            found = state(store)
            wanted = states[done], states[min(done + 1, len(SCRIPT))]
            where = f"step {k}, after {done} verbs ({SCRIPT[min(done, len(SCRIPT) - 1)][0]} under way)"
            # a metric is registered, and its samples or its ring come in a step of their own
            assert found["metadata"] in [one["metadata"] for one in wanted], where
            rest = [{key: one[key] for key in one if key != "metadata"} for one in (found, *wanted)]
            assert rest[0] in rest[1:], f"{where}: {difference(found, *wanted)}"
            assert not store.check().damages, where
            # and it can be gone on with, from where it was
            for _, work in SCRIPT[done:]:
                work(store)
            assert state(store) == states[-1], f"{where}, and the rest done: {difference(state(store), states[-1])}"
        shutil.rmtree(folder)
        if not end.killed:
            return


def difference(found: dict[str, Any], *wanted: dict[str, Any]) -> str:
    return "; ".join(
        f"{key} is {found[key]}, not {' or '.join(str(one[key]) for one in wanted)}"
        for key in found
        if found[key] not in [one[key] for one in wanted]
    )
