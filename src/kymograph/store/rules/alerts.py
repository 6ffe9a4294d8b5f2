"""The alerts of one rule: what each evaluation makes of them, and which ones are to be told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from kymograph.errors import QueryError
from kymograph.promql.labels import NAME
from kymograph.store.rules.rule import MINUTE, Rule
from kymograph.store.rules.template import Facts

ALERTNAME = "alertname"
# an alert that is over is told about for so long, in case its end was not heard of
_REMEMBERED = 15 * MINUTE
# an alert that fires is told again so often
RESEND = MINUTE

Labels = tuple[tuple[str, str], ...]
State = Literal["inactive", "pending", "firing"]


@dataclass
class Alert:
    """One alert. Times are µs, None where there is no such time.

    Attributes:
        labels: sorted by name; they identify it.
        active: since when the query gives it.
        fired, resolved: when it began and ended to fire.
        kept: since when only `keep_firing_for` keeps it firing.
        sent: when it was told last.
    """

    labels: Labels
    annotations: dict[str, str]
    value: float
    active: int
    state: State = "pending"
    fired: int | None = None
    resolved: int | None = None
    kept: int | None = None
    sent: int | None = None


@dataclass(frozen=True)
class Notice:
    """An alert to tell about, as it was at one time. `ends` is when it ended, or will be taken to have without news."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts: int
    ends: int
    query: str


@dataclass
class AlertBook:
    """All alerts of one rule. Not for several threads at once."""

    rule: Rule
    alerts: dict[Labels, Alert] = field(default_factory=dict)

    def update(self, found: Iterable[tuple[Mapping[str, str], float]], now: int, url: str) -> list[Alert]:
        """Take in what the query gives at `now`, µs. Returns the alerts that are new.

        Raises:
            QueryError: two series become one alert; nothing is changed.
        """
        seen: dict[Labels, Alert] = {}
        for labels, value in found:
            alert = self._alert(labels, value, now, url)
            if alert.labels in seen:
                raise QueryError("vector contains metrics with the same labelset after applying alert labels")
            seen[alert.labels] = alert
        new = []
        for key, alert in seen.items():
            known = self.alerts.get(key)
            if known is not None and known.state != "inactive":
                known.value, known.annotations, known.kept = alert.value, alert.annotations, None
            else:
                self.alerts[key] = alert
                new.append(alert)
        for key in [key for key in self.alerts if key not in seen]:
            self._gone(key, now)
        return new

    def fire(self, now: int) -> None:
        """Alerts that have been pending for long enough fire."""
        for alert in self.alerts.values():
            if alert.state == "pending" and now - alert.active >= self.rule.hold:
                alert.state, alert.fired = "firing", now

    def _alert(self, labels: Mapping[str, str], value: float, now: int, url: str) -> Alert:
        facts = Facts(labels, value, url)
        said = {name: template.expand(facts) for name, template in self.rule.labels.items()}
        made = {**{name: text for name, text in labels.items() if name != NAME}, **said, ALERTNAME: self.rule.name}
        annotations = {name: template.expand(facts) for name, template in self.rule.annotations.items()}
        return Alert(tuple(sorted((name, text) for name, text in made.items() if text)), annotations, value, now)

    def _gone(self, key: Labels, now: int) -> None:
        """The query gives it no more."""
        alert = self.alerts[key]
        if alert.state == "firing" and self.rule.keep:
            alert.kept = now if alert.kept is None else alert.kept
            if now - alert.kept < self.rule.keep:
                return
        if alert.state == "pending" or (alert.resolved is not None and now - alert.resolved > _REMEMBERED):
            del self.alerts[key]
        elif alert.state == "firing":
            alert.state, alert.resolved = "inactive", now

    def active(self) -> list[Alert]:
        """Pending and firing ones."""
        return [alert for alert in list(self.alerts.values()) if alert.state != "inactive"]

    def due(self, now: int, interval: int) -> list[Notice]:
        """What is to be told now; it counts as told from here on."""
        found = []
        pause = max(RESEND, interval)
        for alert in self.alerts.values():
            if alert.state == "pending" or alert.fired is None:
                continue
            ended = alert.resolved is not None and (alert.sent is None or alert.resolved > alert.sent)
            if not ended and alert.sent is not None and now - alert.sent <= RESEND:
                continue
            alert.sent = now
            ends = now + 4 * pause if alert.resolved is None else alert.resolved
            found.append(Notice(dict(alert.labels), dict(alert.annotations), alert.fired, ends, self.rule.query))
        return found
