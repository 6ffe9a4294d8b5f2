"""Random queries: nothing but our own errors comes out, and a range is the instants at its steps."""

from __future__ import annotations

import contextlib
import math
import random

import numpy as np
import pytest

from kymograph.engine.memory import MemoryEngine
from kymograph.errors import KymographError
from kymograph.model.schema import SAMPLES_SCHEMA
from kymograph.promql.engine import query_instant, query_range
from kymograph.promql.functions import AGGREGATORS, FUNCTIONS, PRECEDENCE
from kymograph.promql.result import PromResult
from kymograph.promql.source import STALE, Source
from kymograph.store.metrics import Sample
from kymograph.store.store import Store

S = 1_000_000
OF_THE_RANGE = {"start", "end", "step", "interpolate", "remove_resets", "keep_last_value", "keep_next_value", "sort",
    "quantiles_over_time"} | {
    name for name in FUNCTIONS if name.startswith(("range_", "running_")) and not name.endswith("over_time")
}  # fmt: skip


@pytest.fixture(scope="module")
def source() -> Source:
    rng = random.Random(5)
    engine = MemoryEngine()
    engine.create_table(SAMPLES_SCHEMA)
    stale = float(np.array([STALE]).view(np.float64)[0])
    samples = []
    for name in ("a", "b_total", "c_bucket"):
        for labels in ({"x": "1"}, {"x": "2", "y": "p"}, {"x": "2", "y": "q"}, {"le": "1"}, {"le": "+Inf"}):
            for at in range(0, 900, 15):
                value = rng.choice(
                    [rng.gauss(0, 10), float(rng.randrange(5)), math.nan, math.inf, -math.inf, stale, 0.0, 1e300]
                )
                if rng.random() < 0.7:
                    samples.append(Sample(name, value, labels, at * S + rng.randrange(1000)))
    Store(engine).record(samples)
    return Source(engine)


SEEDS = [*range(150), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(150, 400))]
_OPERATORS = sorted(PRECEDENCE)


class _Writer:
    """Writes expressions of a given type, most of them sound."""

    def __init__(self, seed: int, *, instant_only: bool) -> None:
        self._rng = random.Random(seed)
        self._without = OF_THE_RANGE if instant_only else set()

    def vector(self, depth: int) -> str:
        pick = self._rng.random()
        if depth <= 0 or pick < 0.2:
            return self._selector()
        if pick < 0.55:
            return self._call(depth)
        if pick < 0.75:
            return self._aggregate(depth)
        if pick < 0.8:
            return f"-{self.vector(depth - 1)}"
        return self._binary(depth)

    def scalar(self, depth: int) -> str:
        options = ["0.5", "2", "-1", "Inf", "NaN", "30", "time()", "pi()"]
        if depth > 0:
            options += [f"scalar({self.vector(depth - 1)})", f"({self.scalar(depth - 1)} * 2)"]
        return self._rng.choice(options)

    def matrix(self, depth: int) -> str:
        window = self._rng.choice(["1m", "40s", "5m", "1s"])
        if depth > 0 and self._rng.random() < 0.3:
            return f"({self.vector(depth - 1)})[{window}:{self._rng.choice(['', '10s', '37s'])}]{self._when()}"
        return f"{self._name()}[{window}]{self._when()}"

    def _when(self) -> str:
        return self._rng.choice([""] * 5 + [" offset 30s", " offset -1m", " @ 300", " @ 300 offset 10s"])

    def _name(self) -> str:
        name = self._rng.choice(["a", "b_total", "c_bucket", '{__name__=~".+"}', "nothing", "{x=~'1|2'}"])
        return name if "{" in name else name + self._rng.choice(["", "", '{x="1"}', '{y!="p"}', '{le=""}'])

    def _selector(self) -> str:
        return self._name() + self._when()

    def _call(self, depth: int) -> str:
        name = self._rng.choice(sorted(set(FUNCTIONS) - self._without))
        signature = FUNCTIONS[name]
        if signature.returns == "scalar":
            return f"vector({self.scalar(0)})"
        if name == "label_replace":
            return f'label_replace({self.vector(depth - 1)}, "{self._rng.choice(["x", "z", "__name__"])}", "v$1", "x", "(.*)")'
        kinds = [*signature.arguments]
        write = {"vector": self.vector, "scalar": self.scalar, "matrix": self.matrix, "string": lambda _: '"y"'}
        return f"{name}({', '.join(write[kind](depth - 1) for kind in kinds)})"

    def _aggregate(self, depth: int) -> str:
        name = self._rng.choice(sorted(AGGREGATORS))
        by = self._rng.choice(["", " by (x)", " without (x)", " by (x, y)", " without ()"])
        parameter = {"scalar": self.scalar(0) + ", ", "string": '"v", ', "": ""}[AGGREGATORS[name]]
        return f"{name}{by} ({parameter}{self.vector(depth - 1)})"

    def _binary(self, depth: int) -> str:
        operator = self._rng.choice(_OPERATORS)
        if operator == "default" and self._without:
            operator = "or"  # it fills the gaps of a range
        if operator in ("==", ">", "<="):
            operator += self._rng.choice(["", " bool"])
        right = self.vector(depth - 1)
        if operator[0] in "+-*/%^=!<>":
            matching = self._rng.choice(
                ["", "", " on(x)", " ignoring(y)", " on(x) group_left", " on(x) group_right(y)", " fill(1)"]
            )
            if self._rng.random() < 0.3:
                matching, right = "", self.scalar(depth - 1)
        else:
            matching = self._rng.choice(["", " on(x)", " ignoring(y)"])
        return f"({self.vector(depth - 1)}) {operator}{matching} ({right})"


def _cells(result: PromResult) -> dict[tuple[object, int], float]:
    return {
        (tuple(sorted(labels.items())), time): value
        for place, labels in enumerate(result.labels)
        for time, value in zip(*(column.tolist() for column in result.samples_of(place)), strict=True)
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_a_range_is_its_instants(source: Source, seed: int) -> None:
    query = _Writer(seed, instant_only=True).vector(3)
    start, step, count = 200 * S, 61 * S, 5
    try:
        span = _cells(query_range(source, query, start, start + (count - 1) * step, step))
    except KymographError:
        return
    found: dict[tuple[object, int], float] = {}
    for at in range(start, start + count * step, step):
        found |= _cells(query_instant(source, query, at))
    assert span.keys() == found.keys(), query
    for key, value in span.items():
        other = found[key]
        same = value == other or (math.isnan(value) and math.isnan(other)) or math.isclose(value, other, rel_tol=1e-9)
        assert same, (query, key, value, other)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_but_our_own_errors(source: Source, seed: int) -> None:
    query = _Writer(seed + 10_000, instant_only=False).vector(4)
    for ask in (
        lambda: query_instant(source, query, 500 * S),
        lambda: query_range(source, query, 0, 900 * S, 100 * S),
        lambda: query_range(source, query, 10**10 * S, 10**10 * S, S),
    ):
        try:
            result = ask()
        except KymographError:
            continue
        assert len({tuple(sorted(labels.items())) for labels in result.labels}) == len(result)


@pytest.mark.parametrize("seed", range(200))
def test_broken_text_is_refused(source: Source, seed: int) -> None:
    rng = random.Random(seed)
    text = list(_Writer(seed, instant_only=False).vector(3))
    for _ in range(3):
        place = rng.randrange(len(text))
        text[place : place + rng.randrange(3)] = rng.choice(
            ["", "(", ")", "[", "}", '"', "\\", "1", " by ", "@", ":", "é", "\0"]
        )
    with contextlib.suppress(KymographError):
        query_instant(source, "".join(text), 500 * S)
