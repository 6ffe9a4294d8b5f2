"""What goes on when rules are loaded in place of others: groups that stayed as they were, and alerts of rules that did.

As in Prometheus, groups are the same by file and name, rules within them by kind, name and labels. What nobody goes on
with ends: its series get staleness markers.
"""

from __future__ import annotations

from collections.abc import Sequence

from kymograph.store.rules.evaluation import GroupState, RuleState, Series


def handed_over(groups: Sequence[GroupState], former: Sequence[GroupState]) -> tuple[list[GroupState], Series]:
    """The groups to evaluate from now on, and the series of the former ones that none of them goes on with."""
    left = {(state.group.file, state.group.name): state for state in former}
    found = []
    for state in groups:
        before = left.pop((state.group.file, state.group.name), None)
        if before is not None and (before.group, before.url) == (state.group, state.url):
            state = before
        elif before is not None:
            _take(state, before)
        found.append(state)
    return found, frozenset(key for state in left.values() for key in _series(state))


def _take(state: GroupState, before: GroupState) -> None:
    """A group that changed goes on with the rules that did not."""
    left = list(before.rules)
    for rule in state.rules:
        same = next((one for one in left if _identity(one) == _identity(rule)), None)
        if same is None:
            continue
        left.remove(same)
        rule.series, rule.restored = same.series, same.restored
        if rule.book is not None and same.book is not None:
            rule.book.alerts = same.book.alerts
    state.ended = before.ended | {key for rule in left for key in rule.series}


def _identity(state: RuleState) -> tuple[object, ...]:
    return state.rule.kind, state.rule.name, {name: template.text for name, template in state.rule.labels.items()}


def _series(state: GroupState) -> Series:
    return state.ended | {key for rule in state.rules for key in rule.series}
