"""What a rule file says: groups of recording and alerting rules, checked and immutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from kymograph.store.rules.template import Template

MINUTE = 60 * 10**6


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        kind: "recording" stores what its query gives under `name`; "alerting" has an alert for every series of it.
        query: the expression, on one line as Prometheus prints it.
        labels: set on every series or alert; those of a recording rule are plain texts.
        hold: how long the query must give a series before its alert fires (`for`), µs.
        keep: how long an alert goes on firing once it does not (`keep_firing_for`), µs.
    """

    kind: Literal["recording", "alerting"]
    name: str
    query: str
    labels: Mapping[str, Template] = field(default_factory=dict)
    annotations: Mapping[str, Template] = field(default_factory=dict)
    hold: int = 0
    keep: int = 0


@dataclass(frozen=True)
class Group:
    """Rules that are evaluated one after the other, at the same time.

    Attributes:
        file: where it was read.
        interval: between two evaluations, µs; they happen at multiples of it.
        limit: series or alerts one rule may give, 0 is any number.
        offset: how long before the time of evaluation its queries look, µs (`query_offset`).
    """

    file: str
    name: str
    rules: tuple[Rule, ...]
    interval: int = MINUTE
    limit: int = 0
    offset: int = 0
