"""Rules loaded in place of others: what goes on, and what ends."""

from __future__ import annotations

from pathlib import Path

import pytest

import kymograph
from kymograph.errors import InvalidInput
from kymograph.store.store import Store

MINUTE = 60 * 10**6
BASE = 1_000_000 * MINUTE
RULES = """
groups:
- name: g
  rules:
  - {record: a, expr: x * 2}
  - {record: b, expr: x * 3, labels: {k: v}}
  - {alert: Slow, expr: x > 0, for: 5m}
- name: h
  rules:
  - {record: c, expr: x}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "rules.yml"
    found.write_text(RULES)
    return found


@pytest.fixture
def filled(store: Store) -> Store:
    for n in range(30):
        store.gauge("x", 1.0, time=BASE + n * MINUTE)
    return store


def evaluate(store: Store, path: Path, text: str, minute: int) -> None:
    path.write_text(text)
    store.load_rules([path], start=False).evaluate(BASE + minute * MINUTE)


def states(store: Store) -> list[tuple[str, int]]:
    return [
        (alert.state, (alert.active - BASE) // MINUTE)
        for group in store.rule_groups()
        for rule in group.rules
        if rule.book
        for alert in rule.book.active()
    ]


def there(store: Store, minute: int) -> set[str]:
    """Names of the recorded series that have not ended."""
    found = store.promql('{__name__=~"a|b|c|ALERTS"}', time=BASE + minute * MINUTE)
    return {labels["__name__"] for labels in found.labels}


def test_the_same_rules_go_on(filled: Store, path: Path) -> None:
    for minute in range(4):
        evaluate(filled, path, RULES, minute)
    before = filled.rule_groups()
    evaluate(filled, path, RULES, 4)
    assert [one is other for one, other in zip(before, filled.rule_groups(), strict=True)] == [True, True]
    assert states(filled) == [("pending", 0)]
    evaluate(filled, path, RULES, 5)
    assert states(filled) == [("firing", 0)]


def test_a_group_that_changed_goes_on_with_the_rules_that_did_not(filled: Store, path: Path) -> None:
    for minute in range(3):
        evaluate(filled, path, RULES, minute)
    changed = RULES.replace("x > 0, for: 5m", "x >= 1, for: 4m").replace("{k: v}", "{k: other}")
    evaluate(filled, path, changed, 4)
    assert states(filled) == [("firing", 0)]
    assert filled.promql("b", time=BASE + 4 * MINUTE).labels == [{"__name__": "b", "k": "other"}]


def test_what_is_gone_ends(filled: Store, path: Path) -> None:
    evaluate(filled, path, RULES, 0)
    assert there(filled, 0) == {"a", "b", "c", "ALERTS"}
    evaluate(filled, path, "groups: [{name: g, rules: [{record: a, expr: x * 2}]}]", 1)
    assert there(filled, 1) == {"a"}
    evaluate(filled, path, "groups: [{name: renamed, rules: [{record: a, expr: x * 2}]}]", 2)
    assert there(filled, 2) == {"a"}  # the last to write wins: another group goes on with it
    evaluate(filled, path, "groups: []", 3)
    assert there(filled, 3) == set()
    # ended once, not again and again
    evaluate(filled, path, "groups: []", 4)
    assert filled.promql("count_over_time(a[10m])", time=BASE + 4 * MINUTE).values.tolist() == [3.0]


def test_a_file_that_is_wrong_changes_nothing(filled: Store, path: Path) -> None:
    evaluate(filled, path, RULES, 0)
    before = filled.rule_groups()
    for wrong in ("groups: 5", "groups: [{name: g, rules: [{record: a, expr: 'x +'}]}]", "\0"):
        with pytest.raises(InvalidInput):
            evaluate(filled, path, wrong, 1)
    path.unlink()
    with pytest.raises(InvalidInput):
        filled.load_rules([path])
    assert filled.rule_groups() == before
    assert there(filled, 1) == {"a", "b", "c", "ALERTS"}


def test_on_schedule_groups_that_are_gone_end_at_once(path: Path) -> None:
    path.write_text("groups: [{name: g, interval: 1h, rules: [{record: a, expr: vector(1)}]}]")
    with kymograph.connect("memory:") as store:
        now = kymograph.store.jobs.now_micros()
        store.load_rules([path], start=False).evaluate(now - 10**6)
        later = (now - BASE) // MINUTE + 4  # after all that is done here, and not so late that "a" is forgotten
        assert there(store, later) == {"a"}
        store.load_rules([])
        assert there(store, later) == set()
