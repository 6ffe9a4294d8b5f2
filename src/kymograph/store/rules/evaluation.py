"""One group over one store: its rules asked in order, what they give stored, series that end marked as ended."""

from __future__ import annotations

import logging
import time as clock
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from kymograph.errors import KymographError, LimitExceeded, QueryError, StoreClosed
from kymograph.promql.labels import NAME
from kymograph.promql.result import PromResult
from kymograph.promql.source import STALE
from kymograph.store.rules.alerts import ALERTNAME, AlertBook, Labels, Notice
from kymograph.store.rules.rule import Group, Rule

if TYPE_CHECKING:
    from kymograph.store.store import Store

log = logging.getLogger("kymograph.store")

Notify = Callable[[Sequence[Notice]], None]
ALERTS, FOR_STATE = "ALERTS", "ALERTS_FOR_STATE"
# alerts of before a stop are looked for this far back, µs
_TOLERANCE = 3600 * 10**6
_STALE = float(np.array([STALE], np.int64).view(np.float64)[0])

Found = list[tuple[Mapping[str, str], float]]
Samples = dict[tuple[str, Labels], float]
# metric names and labels
Series = frozenset[tuple[str, Labels]]


@dataclass
class RuleState:
    """One rule and how its last evaluation went.

    Attributes:
        problem: why it failed, "" when it did not.
        seconds: how long it took.
        evaluated: for which time, µs; None before the first one.
    """

    rule: Rule
    book: AlertBook | None
    problem: str = ""
    seconds: float = 0.0
    evaluated: int | None = None
    series: Series = frozenset()
    restored: bool = False

    @property
    def health(self) -> str:
        return "unknown" if self.evaluated is None else "err" if self.problem else "ok"


@dataclass
class GroupState:
    """One group, evaluated again and again from one thread; others may read.

    Attributes:
        url: where this server is reached, for templates.
        ended: series of rules that were in its place, which end with the next evaluation.
    """

    group: Group
    url: str = ""
    rules: list[RuleState] = field(default_factory=list)
    seconds: float = 0.0
    evaluated: int | None = None
    ended: Series = frozenset()

    def __post_init__(self) -> None:
        for rule in self.group.rules:
            self.rules.append(RuleState(rule, AlertBook(rule) if rule.kind == "alerting" else None))

    def evaluate(self, store: Store, now: int, notify: Notify | None = None) -> None:
        """Every rule once, as of `now`, µs. A rule that fails says so and does not stop the others.

        Raises:
            StoreClosed: there is no store to ask any more.
        """
        began = clock.monotonic()
        for state in self.rules:
            started = clock.monotonic()
            try:
                self._one(store, state, now)
                problem = ""
            except StoreClosed:
                raise
            except KymographError as error:
                problem = str(error)
            except Exception as error:  # a defect in one rule's evaluation is no reason to stop all others
                log.exception("rule %s of group %s failed", state.rule.name, self.group.name)
                problem = f"{type(error).__name__}: {error}"
            if problem and problem != state.problem:
                log.warning("rule %s of group %s: %s", state.rule.name, self.group.name, problem)
            state.problem, state.evaluated, state.seconds = problem, now, clock.monotonic() - started
            if state.book is not None and notify is not None:
                notices = state.book.due(now, self.group.interval)
                if notices:
                    notify(notices)
        end(store, self.ended.difference(*(state.series for state in self.rules)), now - self.group.offset)
        self.ended = frozenset()
        self.seconds, self.evaluated = clock.monotonic() - began, now

    def _one(self, store: Store, state: RuleState, now: int) -> None:
        found = _found(store.promql(state.rule.query, time=now - self.group.offset))
        samples = self._recorded(state.rule, found) if state.book is None else self._alerts(store, state, found, now)
        # a series that was there last time and is not now ends here
        ended = [key for key in state.series if key not in samples]
        series, values = [*samples, *ended], [*samples.values(), *[_STALE] * len(ended)]
        if series:
            ids = store.series_ids([(name, dict(labels)) for name, labels in series])
            store.append_samples(ids, np.full(len(ids), now - self.group.offset), np.array(values, np.float64))
        state.series = frozenset(samples)

    def _recorded(self, rule: Rule, found: Found) -> Samples:
        samples: Samples = {}
        said = {name: template.text for name, template in rule.labels.items()}
        for labels, value in found:
            made = {**{name: text for name, text in labels.items() if name != NAME}, **said}
            key = (rule.name, tuple(sorted((name, text) for name, text in made.items() if text)))
            if key in samples:
                raise QueryError("vector contains metrics with the same labelset after applying rule labels")
            samples[key] = value
        limit = self.group.limit
        if limit and len(samples) > limit:
            raise LimitExceeded(f"exceeded limit of {limit} with {len(samples)} series")
        return samples

    def _alerts(self, store: Store, state: RuleState, found: Found, now: int) -> Samples:
        book = state.book
        assert book is not None
        new = book.update(found, now, self.url)
        if not state.restored:
            if new and state.rule.hold:
                _restore(store, state.rule, {alert.labels: alert for alert in new}, now)
            state.restored = True
        book.fire(now)
        active, limit = book.active(), self.group.limit
        if limit and len(active) > limit:
            book.alerts.clear()
            raise LimitExceeded(f"exceeded limit of {limit} with {len(active)} alerts")
        samples: Samples = {}
        for alert in active:
            samples[ALERTS, tuple(sorted((*alert.labels, ("alertstate", alert.state))))] = 1.0
            samples[FOR_STATE, alert.labels] = float(alert.active // 10**6)
        return samples


def end(store: Store, series: Series, now: int) -> None:
    """Mark series as ended at `now`, µs; where that fails they end once nobody looks back to them."""
    if not series:
        return
    try:
        ids = store.series_ids([(name, dict(labels)) for name, labels in series])
        store.append_samples(ids, np.full(len(ids), now), np.full(len(ids), _STALE))
    except StoreClosed:
        raise
    except KymographError as error:
        log.warning("series of former rules cannot be marked as ended: %s", error)


def _found(result: PromResult) -> Found:
    if result.type == "vector":
        return list(zip(result.labels, result.values.tolist(), strict=True))
    return [({}, float(result.values[0]))]


def _restore(store: Store, rule: Rule, alerts: Mapping[Labels, object], now: int) -> None:
    """Take up the time that alerts were active before this process: the time in between does not count."""
    name = rule.name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    selector = f'{FOR_STATE}{{{ALERTNAME}="{name}"}}'
    since = store.promql(selector, time=now, lookback=_TOLERANCE)
    told = store.promql(f"timestamp({selector})", time=now, lookback=_TOLERANCE)
    last = {_key(labels): value for labels, value in zip(told.labels, told.values.tolist(), strict=True)}
    for labels, value in zip(since.labels, since.values.tolist(), strict=True):
        key = _key(labels)
        alert = alerts.get(key)
        if alert is None or key not in last:
            continue
        active = int(value * 10**6)
        stopped = int(last[key] * 10**6)
        held = stopped - active
        # it has fired before: it does so again at once
        shift = 0 if held >= rule.hold else now - stopped
        alert.active = active + shift  # type: ignore[attr-defined]


def _key(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted((name, text) for name, text in labels.items() if name != NAME))
