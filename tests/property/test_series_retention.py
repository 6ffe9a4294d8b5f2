"""Ages of series: any order of writes, ages, deletions, prunes and restarts leaves what a dictionary says, on both engines."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import kymograph
from kymograph import Retention
from kymograph.errors import NotFound
from kymograph.model.time import DAY, HOUR, MINUTE
from kymograph.store.jobs import now_micros
from kymograph.store.retention import verbs
from kymograph.store.rollups import rollups
from kymograph.store.store import Store

SERIES: list[tuple[str, dict[str, str]]] = [
    ("m", {}), ("m", {"team": "a"}), ("m", {"team": "b", "ü": "1"}), ("n.ü", {"team": "a"}),
]  # fmt: skip
# which of the series each finds; the last two say the same
SELECTORS = {
    "m": {0, 1, 2},
    '{team="a"}': {1, 3},
    '{team=~"a|b"}': {1, 2, 3},
    '{"ü"!=""}': {2},
    '{"n.ü"}': {3},
    '{team=~".+",team!="a"}': {2},
    'm{team=""}': {0},
    '{__name__="m",team=""}': {0},
}
# never a whole number of hours from now, so that no sample lies on an edge
AGES = st.integers(0, 30 * 24).map(lambda hours: hours * HOUR + 17 * MINUTE)
BASE = now_micros()
MOMENT = [BASE]


class Ages(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        MOMENT[0] = BASE
        self.folder = Path(tempfile.mkdtemp(prefix="kymograph-"))
        self.local = kymograph.connect(self.folder / "s", sync="off")
        self.memory = kymograph.connect("memory:")
        self.ages: dict[str, int] = {}
        self.there: list[set[int]] = [set() for _ in SERIES]
        for store in self.stores():
            store.series_ids(SERIES)

    def stores(self) -> list[Store]:
        return [self.memory, self.local]

    def teardown(self) -> None:
        for store in self.stores():
            store.close()
        shutil.rmtree(self.folder)

    @rule(of=st.sets(st.sampled_from(range(len(SERIES))), min_size=1), ages=st.lists(AGES, min_size=1, max_size=12))
    def write(self, of: set[int], ages: list[int]) -> None:
        times = np.array([BASE - age for age in ages])
        for number in of:
            self.there[number] |= set(times.tolist())
            for store in self.stores():
                store.append_samples(np.full(len(times), number + 1), times, np.ones(len(times)))

    @rule(series=st.sampled_from(sorted(SELECTORS)), hours=st.integers(1, 25 * 24))
    def bound(self, series: str, hours: int) -> None:
        self.ages[_said(series)] = hours * HOUR
        for store in self.stores():
            store.set_retention("samples", Retention(age=hours * HOUR), series=series)

    @rule(series=st.sampled_from(sorted(SELECTORS)))
    def unbound(self, series: str) -> None:
        known = self.ages.pop(_said(series), None)
        for store in self.stores():
            if known is None:
                with pytest.raises(NotFound):
                    store.set_retention("samples", None, series=series)
            else:
                store.set_retention("samples", None, series=series)

    @rule(hours=st.integers(1, 60))
    def wait(self, hours: int) -> None:
        MOMENT[0] += hours * HOUR

    @rule(number=st.sampled_from(range(len(SERIES))), age=AGES)
    def delete(self, number: int, age: int) -> None:
        old = {time for time in self.there[number] if time < BASE - age}
        self.there[number] -= old
        for store in self.stores():
            if "samples" in store.tables():
                assert store.delete("samples", {"series_id": number + 1}, None, BASE - age) == len(old)

    @rule()
    def seal(self) -> None:
        self.local.seal()

    @rule()
    def restart(self) -> None:
        self.local.close()
        self.local = kymograph.connect(self.folder / "s", sync="off")

    @rule()
    def prune_all(self) -> None:
        left = [{time for time in there if time >= self.edge(number)} for number, there in enumerate(self.there)]
        gone = sum(map(len, self.there)) - sum(map(len, left))
        for store in self.stores():
            assert store.prune(dry_run=True, force=True).rows == gone
            assert store.prune(force=True).rows == gone
        self.there = left

    @rule()
    def prune(self) -> None:
        would = [store.prune(dry_run=True).rows for store in self.stores()]
        assert [store.prune().rows for store in self.stores()] == would
        left = _stored(self.memory)
        for number, there in enumerate(self.there):
            gone = there - left[number]
            assert left[number] <= there
            assert all(time < self.edge(number) for time in gone)
        # what is due goes whole, also what came late
        assert sum(map(len, self.there)) - sum(map(len, left)) == would[0]
        self.there = left

    @invariant()
    def agree(self) -> None:
        for store in self.stores():
            assert _stored(store) == self.there
        told = [
            [(one["series"], one["age"], one["matched"]) for one in store.series_retention()] for store in self.stores()
        ]
        assert told[0] == told[1]
        assert sorted((age, len(SELECTORS[series])) for series, age in self.ages.items()) == sorted(
            (age, matched) for _, age, matched in told[0]
        )

    def edge(self, number: int) -> int:
        ages = [age for series, age in self.ages.items() if number in SELECTORS[series]]
        return MOMENT[0] - min(ages) if ages else BASE - 1000 * DAY


def _said(series: str) -> str:
    return 'm{team=""}' if series.startswith("{__name__=") else series


def _stored(store: Store) -> list[set[int]]:
    found: list[set[int]] = [set() for _ in SERIES]
    if "samples" in store.tables():
        rows = store.scan("samples")
        for number, time in zip(rows["series_id"].to_pylist(), rows["time"].cast("int64").to_pylist(), strict=True):
            found[number - 1].add(time)
    return found


@pytest.mark.parametrize("examples", [4, pytest.param(40, marks=pytest.mark.soak)])
def test_ages_of_series(monkeypatch: pytest.MonkeyPatch, examples: int) -> None:
    for module in (verbs, rollups):
        monkeypatch.setattr(module, "now_micros", lambda: MOMENT[0])
    run_state_machine_as_test(Ages, settings=settings(max_examples=examples, stateful_step_count=15))
