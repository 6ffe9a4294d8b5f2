"""Rules: what promtool says they do, restarts, endings, files that are wrong."""

from __future__ import annotations

import math
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import kymograph
from kymograph.errors import InvalidInput, ReadOnly
from kymograph.store.rules.alerts import Notice
from kymograph.store.rules.files import parse_rules
from kymograph.store.store import Store
from tests.prometheus.servers import needed
from tests.promql.script import labels, points

RULES = Path(__file__).parent / "rules"
MINUTE = 60 * 10**6
SCRIPT = yaml.safe_load((RULES / "test.yml").read_text())
(TEST,) = SCRIPT["tests"]
FILES = [RULES / name for name in SCRIPT["rule_files"]]


def minutes(text: str) -> int:
    return int(text.removesuffix("m")) * MINUTE


def load(store: Store) -> None:
    """The input series of the script, a sample a minute."""
    for one in TEST["input_series"]:
        pairs, values = labels(one["series"]), points(one["values"])
        assert values is not None
        name = pairs.pop("__name__")
        number = store.series_ids([(name, pairs)])[0]
        there = [place for place, value in enumerate(values) if value is not None]
        store.append_samples(
            np.full(len(there), number), np.array(there) * MINUTE, np.array([values[place] for place in there])
        )


@pytest.fixture(scope="module")
def moments() -> dict[int, dict[str, Any]]:
    """What the rules give at every minute: samples by expression, firing alerts by name."""
    found: dict[int, dict[str, Any]] = {}
    with kymograph.connect("memory:") as store:
        load(store)
        rules = store.load_rules(FILES, start=False)
        for moment in range(0, 21 * MINUTE, MINUTE):
            rules.evaluate(moment)
            asked = {one["expr"] for one in TEST["promql_expr_test"] if minutes(one["eval_time"]) == moment}
            found[moment] = {
                "samples": {query: store.promql(query, time=moment) for query in asked},
                "alerts": [
                    (dict(alert.labels), dict(alert.annotations))
                    for group in store.rule_groups()
                    for rule in group.rules
                    for alert in (rule.book.active() if rule.book else [])
                    if alert.state == "firing"
                ],
            }
            assert not [rule.problem for group in store.rule_groups() for rule in group.rules if rule.problem]
    return found


def test_promtool_agrees() -> None:
    """The expectations are Prometheus', not ours."""
    tool = needed("promtool")
    done = subprocess.run(
        [tool, "test", "rules", RULES / "test.yml"], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("wanted", TEST["promql_expr_test"], ids=lambda one: f"{one['expr']} {one['eval_time']}")
def test_samples(wanted: dict[str, Any], moments: dict[int, dict[str, Any]]) -> None:
    result = moments[minutes(wanted["eval_time"])]["samples"][wanted["expr"]]
    found = {tuple(sorted(one.items())): value for one, value in zip(result.labels, result.values, strict=True)}
    expected = {tuple(sorted(labels(one["labels"]).items())): one["value"] for one in wanted["exp_samples"]}
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("wanted", TEST["alert_rule_test"], ids=lambda one: f"{one['alertname']} {one['eval_time']}")
def test_alerts(wanted: dict[str, Any], moments: dict[int, dict[str, Any]]) -> None:
    name = wanted["alertname"]
    found = [
        (told, annotations)
        for told, annotations in moments[minutes(wanted["eval_time"])]["alerts"]
        if told["alertname"] == name
    ]
    expected = [
        ({**one.get("exp_labels", {}), "alertname": name}, one.get("exp_annotations", {}))
        for one in wanted["exp_alerts"]
    ]
    assert sorted(found, key=str) == sorted(expected, key=str)


RULE = """
groups:
- name: g
  rules:
  - alert: Slow
    expr: x > 0
    for: 5m
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "rules.yml"
    path.write_text(text)
    return path


def states(store: Store) -> list[str]:
    return [
        alert.state
        for group in store.rule_groups()
        for rule in group.rules
        if rule.book
        for alert in rule.book.active()
    ]


@pytest.mark.parametrize(
    ("before", "away", "after", "expected"),
    [
        (3, 2, 0, "pending"),  # three minutes were spent pending, the time away does not count
        (3, 2, 1, "pending"),
        (3, 2, 2, "firing"),
        (6, 30, 0, "firing"),  # fired before: fires again at once
        (3, 90, 2, "pending"),  # too long ago
    ],
)
def test_restart(tmp_path: Path, before: int, away: int, after: int, expected: str) -> None:
    """An alert goes on where it was when the process ended."""
    path, base = written(tmp_path, RULE), 1_000_000 * MINUTE
    with kymograph.connect(tmp_path / "store", sync="off") as store:
        for n in range(300):
            store.gauge("x", 1.0, {"host": "a"}, time=base + n * MINUTE)
        rules = store.load_rules([path], start=False)
        for n in range(before + 1):
            rules.evaluate(base + n * MINUTE)
    with kymograph.connect(tmp_path / "store", sync="off") as store:
        rules = store.load_rules([path], start=False)
        for n in range(after + 1):
            rules.evaluate(base + (before + away + n) * MINUTE)
        assert states(store) == [expected]


def test_ended_alerts_are_not_restored(tmp_path: Path) -> None:
    """One that was over before the process ended begins anew."""
    path, base = written(tmp_path, RULE), 1_000_000 * MINUTE
    with kymograph.connect(tmp_path / "store", sync="off") as store:
        for n in range(20):
            store.gauge("x", 0.0 if n in (7, 8) else 1.0, time=base + n * MINUTE)
        rules = store.load_rules([path], start=False)
        for n in range(9):
            rules.evaluate(base + n * MINUTE)
        assert states(store) == []
    with kymograph.connect(tmp_path / "store", sync="off") as store:
        rules = store.load_rules([path], start=False)
        rules.evaluate(base + 9 * MINUTE)
        assert states(store) == ["pending"]


def test_notices(tmp_path: Path) -> None:
    """Told when it fires, again every minute, and once it has ended."""
    told: list[Notice] = []
    with kymograph.connect("memory:") as store:
        for n in range(60):
            store.gauge("x", float(n < 10), time=n * 15_000_000)
        text = RULE.replace("for: 5m", "for: 1m").replace("rules:", "interval: 15s\n  rules:", 1)
        rules = store.load_rules([written(tmp_path, text)], notify=told.extend, start=False)
        seen = []
        for n in range(40):
            told.clear()
            rules.evaluate(n * 15_000_000)
            seen += [(n, notice.starts // 15_000_000, notice.ends // 15_000_000) for notice in told]
    # pending from 0, firing from 4, told again after more than a minute, over at 10; its end is told again as well
    assert seen[:3] == [(4, 4, 4 + 16), (9, 4, 9 + 16), (10, 4, 10)]
    assert seen[3:] == [(n, 4, 10) for n in range(15, 40, 5)]


def test_a_failing_rule_stops_no_other(tmp_path: Path) -> None:
    text = """
groups:
- name: g
  rules:
  - record: a
    expr: x * on() y
  - record: b
    expr: "1"
  - record: c
    expr: 'label_replace(x, "n", "", "n", ".*")'
- name: h
  limit: 1
  rules:
  - record: d
    expr: x
  - alert: e
    expr: x
"""
    with kymograph.connect("memory:") as store:
        for n in "12":
            store.gauge("x", 1.0, {"n": n}, time=0)
            store.gauge("y", 1.0, {"n": n}, time=0)
        rules = store.load_rules([written(tmp_path, text)], start=False)
        rules.evaluate(MINUTE)
        problems = [rule.problem for group in store.rule_groups() for rule in group.rules]
        assert "many-to-many" in problems[0] or "duplicate series" in problems[0]
        assert problems[1] == ""
        assert "same labelset" in problems[2]
        assert problems[3:] == ["exceeded limit of 1 with 2 series", "exceeded limit of 1 with 2 alerts"]
        assert [rule.health for rule in store.rule_groups()[0].rules] == ["err", "ok", "err"]
        assert store.promql("b", time=MINUTE).values.tolist() == [1.0]


def test_offset_and_group_labels(tmp_path: Path) -> None:
    text = """
groups:
- name: g
  query_offset: 2m
  labels: {team: t, other: o}
  rules:
  - record: a
    expr: x
    labels: {other: mine}
"""
    with kymograph.connect("memory:") as store:
        for n in range(10):
            store.gauge("x", float(n), time=n * MINUTE)
        store.load_rules([written(tmp_path, text)], start=False).evaluate(9 * MINUTE)
        found = store.promql("a[20m]", time=9 * MINUTE)
        assert (found.labels, found.times.tolist(), found.values.tolist()) == (
            [{"__name__": "a", "other": "mine", "team": "t"}],
            [7 * MINUTE],
            [7.0],
        )


def test_on_schedule(tmp_path: Path) -> None:
    """A thread evaluates them at multiples of the interval, until the store closes."""
    from tests.server.running import eventually

    text = "groups: [{name: g, interval: 100ms, rules: [{record: a, expr: time()}]}]"
    store = kymograph.connect("memory:")
    rules = store.load_rules([written(tmp_path, text)])
    assert eventually(lambda: len(store.promql("a[1m]").values) >= 3)
    found = store.promql("a[1m]")
    assert all(time % 100_000 == 0 for time in found.times.tolist())
    assert found.values.tolist() == [time / 1e6 for time in found.times.tolist()]
    store.close()
    assert not rules.running


def test_a_slow_group_holds_up_no_other(tmp_path: Path) -> None:
    from tests.server.running import eventually

    text = """
groups:
- {name: slow, interval: 100ms, rules: [{alert: hangs, expr: time()}]}
- {name: quick, interval: 100ms, rules: [{record: a, expr: time()}]}
"""
    free = threading.Event()
    with kymograph.connect("memory:") as store:
        rules = store.load_rules([written(tmp_path, text)], notify=lambda _: bool(free.wait(200)) and None)
        assert eventually(lambda: rules.groups[0].rules[0].evaluated is not None)
        assert eventually(lambda: len(store.promql("a[1m]").values) >= 5)
        assert rules.groups[0].evaluated is None
        free.set()
        assert eventually(lambda: rules.groups[0].evaluated is not None)
        assert eventually(lambda: rules.missed > 0)


def test_loading_again_replaces(tmp_path: Path) -> None:
    with kymograph.connect("memory:") as store:
        first = store.load_rules([written(tmp_path, RULE)])
        with pytest.raises(InvalidInput):
            store.load_rules([tmp_path / "nothing.yml"])
        assert len(store.rule_groups()) == 1
        store.load_rules([])
        assert store.rule_groups() == []
        assert not first.running


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("groups: [", "file: not YAML"),
        ("\x00", "file: not YAML"),
        ("[]", "file: expected a mapping"),
        ("rules: []", "file: unknown field 'rules'"),
        ("groups: {}", "file: groups must be a list"),
        ("groups: [x]", "file: group 1: expected a mapping, not 'x'"),
        ("groups: [{rules: []}]", "file: group 1: a group needs a name"),
        ("groups: [{name: a}, {name: a}]", 'file: the group "a" is there twice'),
        ("groups: [{name: a, name: b}]", 'file: not YAML: "name" is there twice'),
        ("groups: [{name: a, interval: soon}]", "file: group \"a\": interval: 'soon' is not a duration"),
        ("groups: [{name: a, limit: -1}]", "file: group \"a\": limit: '-1' is not a number"),
        ("groups: [{name: a, color: red}]", "file: group 1: unknown field 'color'"),
        ("groups: [{name: a, rules: [{}]}]", 'file: group "a", rule 1: a rule needs either record or alert'),
        (
            "groups: [{name: a, rules: [{record: x, alert: y}]}]",
            'file: group "a", rule 1: a rule needs either record or alert',
        ),
        ("groups: [{name: a, rules: [{record: x}]}]", 'file: group "a", rule 1 "x": a rule needs an expr'),
        (
            "groups: [{name: a, rules: [{record: x, expr: 1}, {record: y, expr: sum(}]}]",
            'file: group "a", rule 2 "y": could not parse expr: 1:5: parse error: unclosed left parenthesis',
        ),
        ("groups: [{name: a, rules: [{record: x, expr: 'up[5m]'}]}]", "expr must give an instant vector or a scalar"),
        ("groups: [{name: a, rules: [{record: x, expr: up, for: 5m}]}]", "rule 1 \"x\": unknown field 'for'"),
        ("groups: [{name: a, rules: [{record: x, expr: up, annotations: {}}]}]", "unknown field 'annotations'"),
        ("groups: [{name: a, rules: [{alert: x, expr: up, labels: {__name__: y}}]}]", "'__name__' is not a name"),
        ("groups: [{name: a, rules: [{alert: x, expr: up, labels: {a: {}}}]}]", "labels: a must be text"),
        ("groups: [{name: a, rules: [{alert: x, expr: up, labels: []}]}]", "labels must be a mapping, not []"),
        ("groups: [{name: a, rules: [{alert: x, expr: up, labels: y}]}]", "labels must be a mapping"),
        (
            "groups: [{name: a, rules: [{alert: x, expr: up, annotations: {s: '{{ $labels.a'}}]}]",
            'rule 1 "x": annotations: s: unclosed {{',
        ),
        ("groups: [{name: a, rules: [{alert: x, expr: up, annotations: {s: '{{ nope }}'}}]}]", 'function "nope"'),
    ],
)
def test_wrong_files(text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_rules(text, "file")
    assert message in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with kymograph.connect("memory:") as store, pytest.raises(InvalidInput, match=r"nothing\.yml: No such file"):
        store.load_rules([tmp_path / "nothing.yml"])


def test_empty_files_have_no_groups() -> None:
    assert parse_rules("", "file") == parse_rules("groups:", "file") == parse_rules("# nothing", "file") == []


def test_numbers_stay_texts() -> None:
    (group,) = parse_rules("groups: [{name: a, rules: [{record: x, expr: 1, labels: {a: 010, b: yes}}]}]", "file")
    assert {name: text.text for name, text in group.rules[0].labels.items()} == {"a": "010", "b": "yes"}
    assert math.isclose(float(group.rules[0].query), 1.0)


def test_a_store_for_reading_takes_no_rules(tmp_path: Path) -> None:
    kymograph.connect(tmp_path / "store").close()
    with kymograph.connect(tmp_path / "store", read_only=True) as store, pytest.raises(ReadOnly):
        store.load_rules([written(tmp_path, RULE)])
