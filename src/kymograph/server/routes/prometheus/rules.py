"""/api/v1/rules, /alerts and /alertmanagers: the rules that are loaded, what they say, and who is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from kymograph.errors import InvalidInput
from kymograph.model.time import isoformat
from kymograph.promql.result import number
from kymograph.server.routes.prometheus.answers import given, store_of
from kymograph.server.routes.prometheus.parameters import Parameters, invalid
from kymograph.server.state import ServerState
from kymograph.store.rules.alerts import Alert
from kymograph.store.rules.evaluation import GroupState, RuleState

_NEVER = "0001-01-01T00:00:00Z"
_KINDS = {"alert": "alerting", "record": "recording"}
_RANK = {"inactive": 0, "pending": 1, "firing": 2}


def router(state: ServerState) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["prometheus"])

    @routes.get("/rules", summary="Rule groups and their rules")
    async def rules(request: Request) -> Response:
        asked = await Parameters.of(request)
        wanted = _wanted(asked)
        names, files = asked.all("rule_group[]"), asked.all("file[]")
        with_alerts = _switch(asked, "exclude_alerts") is not True
        most, token = asked.count("group_limit"), asked.text("group_next_token")
        if token and not most:
            raise invalid("group_limit", "group_limit needs to be set when using group_next_token")

        def ask() -> dict[str, Any]:
            found: list[dict[str, Any]] = []
            groups = sorted(store_of(state, request).rule_groups(), key=lambda one: (one.group.file, one.group.name))
            for place, group in enumerate(groups):
                if (names and group.group.name not in names) or (files and group.group.file not in files):
                    continue
                if token and place < _place(token):
                    continue
                chosen = [_rule(one, with_alerts) for one in group.rules if wanted(one)]
                if most and len(found) == most:
                    return {"groups": found, "groupNextToken": str(place)}
                if chosen or not asked.all("rule_name[]"):
                    found.append(_group(group, chosen))
            return {"groups": found}

        return given(request, await state.light.run(ask))

    @routes.get("/alerts", summary="Alerts that are pending or fire")
    async def alerts(request: Request) -> Response:
        def ask() -> list[dict[str, Any]]:
            groups = store_of(state, request).rule_groups()
            return [alert for group in groups for one in group.rules for alert in _alerts(one)]

        return given(request, {"alerts": await state.light.run(ask)})

    @routes.get("/alertmanagers", summary="Who is told about alerts")
    async def alertmanagers(request: Request) -> Response:
        known = [] if state.alerts is None else state.alerts.health()
        return given(
            request, {"activeAlertmanagers": [{"url": each["url"]} for each in known], "droppedAlertmanagers": []}
        )

    return routes


def _wanted(asked: Parameters) -> Callable[[RuleState], bool]:
    kind, names = asked.text("type").lower(), asked.all("rule_name[]")
    if kind and kind not in _KINDS:
        raise invalid("type", f'not supported value "{kind}"')
    return lambda one: (not kind or one.rule.kind == _KINDS[kind]) and (not names or one.rule.name in names)


def _switch(asked: Parameters, name: str) -> bool | None:
    text = asked.text(name)
    if text.lower() in ("1", "t", "true"):
        return True
    if text.lower() in ("", "0", "f", "false"):
        return False if text else None
    raise InvalidInput(f'error converting {name}: strconv.ParseBool: parsing "{text}": invalid syntax')


def _place(token: str) -> int:
    if not token.isdecimal() or len(token) > 9:
        raise invalid("group_next_token", f'invalid group_next_token "{token}"')
    return int(token)


def _group(state: GroupState, rules: list[dict[str, Any]]) -> dict[str, Any]:
    group = state.group
    return {
        "name": group.name,
        "file": group.file,
        "rules": rules,
        "interval": group.interval / 1e6,
        "limit": group.limit,
        "evaluationTime": state.seconds,
        "lastEvaluation": _moment(state.evaluated),
    }


def _rule(state: RuleState, with_alerts: bool) -> dict[str, Any]:
    rule = state.rule
    about: dict[str, Any] = {
        "name": rule.name,
        "query": rule.query,
        "labels": {name: template.text for name, template in rule.labels.items()},
        "health": state.health,
        "evaluationTime": state.seconds,
        "lastEvaluation": _moment(state.evaluated),
        "type": rule.kind,
    }
    if state.problem:
        about["lastError"] = state.problem
    if state.book is None:
        if not about["labels"]:
            del about["labels"]
        return about
    active = list(_alerts(state))
    worst = max((alert["state"] for alert in active), key=_RANK.__getitem__, default="inactive")
    return {
        "state": worst,
        "duration": rule.hold / 1e6,
        "keepFiringFor": rule.keep / 1e6,
        "annotations": {name: template.text for name, template in rule.annotations.items()},
        "alerts": active if with_alerts else [],
        **about,
    }


def _alerts(state: RuleState) -> Iterator[dict[str, Any]]:
    for alert in [] if state.book is None else state.book.active():
        about = {
            "labels": dict(alert.labels),
            "annotations": dict(alert.annotations),
            "state": alert.state,
            "activeAt": isoformat(alert.active),
            "value": _scientific(alert),
        }
        yield about if alert.kept is None else {**about, "keepFiringSince": isoformat(alert.kept)}


def _scientific(alert: Alert) -> str:
    """The value as Go's shortest text with an exponent: 1e+00."""
    value = alert.value
    if not np.isfinite(value):
        return number(value)
    return np.format_float_scientific(value, trim="-", exp_digits=2)


def _moment(micros: int | None) -> str:
    return _NEVER if micros is None else isoformat(micros)
