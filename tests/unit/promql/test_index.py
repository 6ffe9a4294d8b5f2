"""The label index against matching every series one by one."""

from __future__ import annotations

import random
import re
import time

import pyarrow as pa
import pytest

from kymograph.promql.ast import LabelMatcher
from kymograph.promql.index import LabelIndex
from kymograph.promql.labels import Bools, labels_of, matcher_mask, regex_mask, shown, sort_key


def _series(count: int, seed: int = 1) -> dict[int, tuple[str, dict[str, str]]]:
    rng = random.Random(seed)
    return {
        number + 1: (
            f"metric_{rng.randrange(20)}",
            {label: f"{label}{rng.randrange(9)}" for label in "abc" if rng.random() < 0.7} | {"id": str(number)},
        )
        for number in range(count)
    }


def _brute(series: dict[int, tuple[str, dict[str, str]]], matchers: list[LabelMatcher]) -> list[int]:
    def holds(matcher: LabelMatcher, value: str) -> bool:
        if matcher.operator in ("=", "!="):
            return (value == matcher.value) == (matcher.operator == "=")
        return (re.fullmatch(matcher.value, value) is not None) == (matcher.operator == "=~")

    return [
        number
        for number, (name, labels) in series.items()
        if all(holds(m, {**labels, "__name__": name}.get(m.name, "")) for m in matchers)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_matches_as_one_by_one(seed: int) -> None:
    rng = random.Random(seed)
    series = _series(300, seed)
    index = LabelIndex()
    index.refresh(series)
    for _ in range(30):
        matchers = [
            LabelMatcher(
                rng.choice(["__name__", "a", "b", "c", "id", "nothing"]),
                operator := rng.choice(["=", "!=", "=~", "!~"]),  # type: ignore[arg-type]
                rng.choice(
                    ["", "a1", "b2", "metric_3"]
                    + ([".*", ".+", "a[12]|b.", "metric_1.?", "x?", ".*7", ".*1.*", "1.*7"] if "~" in operator else [])
                ),
            )
            for _ in range(rng.randrange(4))
        ]
        ids, labels = index.select(matchers)
        assert ids.tolist() == _brute(series, matchers)
        assert labels == [labels_of({**series[i][1], "__name__": series[i][0]}) for i in ids.tolist()]


def test_new_series_are_added() -> None:
    series = _series(100)
    index = LabelIndex()
    index.refresh(series)
    series[1001] = ("fresh", {"zone": "x"})
    index.refresh(series)
    index.refresh(series)
    assert index.select([LabelMatcher("zone", "=", "x")])[0].tolist() == [1001]
    assert len(index.select([LabelMatcher("zone", "=", "")])[0]) == 100


def test_regexes_are_re2() -> None:
    values = ["production", "canary", "a\nb", ""]
    assert regex_mask(values, "((?i)PRO).*").tolist() == [True, False, False, False]
    assert regex_mask(values, "a.b").tolist() == [False, False, True, False]
    assert regex_mask(values, "canary|prod").tolist() == [False, True, False, False]
    for pattern in (".*duc.*", ".*y", ".*b", ".*", ".*b.*", "a.*", ".*a.*y", ".*a|.*b", ".*(y)", ".*an+.*"):
        found = [re.fullmatch(pattern, value, re.DOTALL) is not None for value in values]
        assert regex_mask(values, pattern).tolist() == found, pattern
    assert matcher_mask(LabelMatcher("x", "!~", ".+"), pa.array(values)).tolist() == [False, False, False, True]


def test_a_hundred_thousand_series() -> None:
    """No time is asserted but one that nothing sane exceeds: matching reads distinct values, not series."""
    series = {n + 1: (f"m{n % 500}", {"host": f"h{n}", "job": f"j{n % 7}"}) for n in range(100_000)}
    index = LabelIndex()
    index.refresh(series)
    started = time.perf_counter()
    for matcher in (
        LabelMatcher("job", "=~", "j[12]"),
        LabelMatcher("host", "!~", "h.*7"),
        LabelMatcher("__name__", "=", "m7"),
    ):
        index.select([matcher, LabelMatcher("__name__", "!=", "m1")])
    assert time.perf_counter() - started < 2


def test_a_regex_looks_only_at_values_of_series_still_in_question(monkeypatch: pytest.MonkeyPatch) -> None:
    series = {n + 1: (f"m{n % 500}", {"host": f"h{n}"}) for n in range(10_000)}
    index = LabelIndex()
    index.refresh(series)
    looked = list[int]()

    def counting(matcher: LabelMatcher, values: pa.Array) -> Bools:
        looked.append(len(values))
        return matcher_mask(matcher, values)

    monkeypatch.setattr("kymograph.promql.index.matcher_mask", counting)
    ids, _ = index.select([LabelMatcher("host", "!~", "h.*7"), LabelMatcher("__name__", "=", "m7")])
    assert (looked, len(ids)) == ([20], 0)
    for _ in range(2):  # over all of them it is remembered, until there are others
        assert len(index.select([LabelMatcher("host", "=~", "h.*7")])[0]) == 1000
    assert looked == [20, 10_001]
    series[20_000] = ("m", {"host": "h-7"})
    index.refresh(series)
    assert len(index.select([LabelMatcher("host", "=~", "h.*7")])[0]) == 1001
    for number in range(10, 100):  # but not every one there ever was
        assert len(index.select([LabelMatcher("host", "=~", f"h.*{number}")])[0]) == 100
    assert len(index.select([LabelMatcher("host", "=~", "h.*7")])[0]) == 1001
    assert looked[2:] == [10_002] * 92


def test_label_sets() -> None:
    labels = labels_of({"b": "2", "__name__": "m", "a": "1", "empty": ""})
    assert labels == (("__name__", "m"), ("a", "1"), ("b", "2"))
    assert shown(labels_of({"A": "x", "__name__": "m", "é.f": 'q"'})) == '{A="x", __name__="m", "é.f"="q\\""}'
    assert sort_key(labels_of({"A": "x", "__name__": "m"})) < sort_key(labels_of({"__name__": "a"}))
