"""Policies as they are written."""

from __future__ import annotations

from typing import Any

import pytest

from kymograph.errors import InvalidInput
from kymograph.model.time import DAY, HOUR, MINUTE
from kymograph.store.rollups.definition import duration
from kymograph.store.rollups.lines import chosen_of, policy_of

USUAL = [(HOUR, MINUTE), (7 * DAY, 5 * MINUTE), (30 * DAY, HOUR)]


@pytest.mark.parametrize(
    "written",
    [
        "1h -> 1m, 1w -> 5m, 30d -> 1h",
        "older than 1 h → 1 m, a week → 5 m, a month → 1 h",
        "30d:1h;1h:1m;1w:5m",
        "an hour => a minute\n1w => 5m\n30d => one hour",
        [("1h", "1m"), ("1w", "5m"), ("30d", "1h")],
        [{"older_than": "1h", "interval": "1m"}, ("1w", "5m"), (30 * DAY, HOUR)],
    ],
)
def test_one_policy_in_many_words(written: Any) -> None:
    assert policy_of(written) == USUAL


@pytest.mark.parametrize(
    "written",
    [
        "1h",
        "1h -> ",
        "-> 1m",
        "1h -> 1m, 1w -> 1m",
        "1h -> 5m, 1w -> 1m",
        "1h -> 2m, 1w -> 5m",
        [],
        [("1h",)],
        [1],
        "1h -> 0s",
        "x -> 1m",
        "1h -> 10y",
        ",",
        [{"older_than": "1h"}],
    ],
)
def test_no_policies(written: Any) -> None:
    with pytest.raises(InvalidInput):
        policy_of(written)


def test_filters() -> None:
    assert chosen_of(None, None) == ()
    assert chosen_of("m", {"b": ["y", "x", "y"], "a": "z"}) == (("__name__", ("m",)), ("a", ("z",)), ("b", ("x", "y")))
    for labels in ({"a": []}, {"a": 1}, {"a": [1]}, {"a": {"b": "c"}}, "a=b"):
        with pytest.raises(InvalidInput):
            chosen_of(None, labels)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("micros", "text"),
    [(MINUTE, "1m"), (90 * MINUTE, "1h30m"), (DAY, "1d"), (1_500_000, "1s500ms"), (0, "0s"), (366 * DAY, "366d")],
)
def test_durations(micros: int, text: str) -> None:
    assert duration(micros) == text
