"""Rule files in Prometheus' YAML to groups; what is wrong is told with file, group and rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from kymograph.errors import InvalidInput, QueryError
from kymograph.options import parse_duration
from kymograph.promql.check import kind_of
from kymograph.promql.labels import NAME, is_label_name
from kymograph.promql.parse import parse
from kymograph.promql.printer import text_of
from kymograph.store.rules.rule import MINUTE, Group, Rule
from kymograph.store.rules.template import Template

_MOST_BYTES = 8 * 2**20
_GROUP = frozenset(("name", "interval", "query_offset", "limit", "labels", "rules"))
_COMMON = frozenset(("expr", "labels"))
_RECORDING = _COMMON | {"record"}
_ALERTING = _COMMON | {"alert", "for", "keep_firing_for", "annotations"}


def read_rules(paths: Iterable[Path | str], interval: int = MINUTE) -> list[Group]:
    """The groups of all files, in order.

    Args:
        interval: of groups that do not say their own, µs.

    Raises:
        InvalidInput: a file that cannot be read, or is no rule file; names file, group and rule.
    """
    found: list[Group] = []
    for path in paths:
        try:
            with open(path, "rb") as file:
                data = file.read(_MOST_BYTES + 1)
        except OSError as problem:
            raise InvalidInput(f"{path}: {problem.strerror}") from None
        if len(data) > _MOST_BYTES:
            raise InvalidInput(f"{path}: a rule file of more than {_MOST_BYTES >> 20} MiB")
        found += parse_rules(data, str(path), interval)
    return found


def parse_rules(text: bytes | str, place: str, interval: int = MINUTE) -> list[Group]:
    """The groups of one file; `place` is what messages call it. See `read_rules`."""
    try:
        document = yaml.load(text, _Loader)  # noqa: S506  its base makes nothing but texts, lists and mappings
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as problem:
        raise InvalidInput(f"{place}: not YAML: {_flat(problem)}") from None
    if document in (None, ""):
        return []
    top = _Part(place, document, frozenset(("groups",)))
    groups = [_group(f"{place}: group {n}", one, place, interval) for n, one in enumerate(top.list("groups"), 1)]
    names = [group.name for group in groups]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput(f'{place}: the group "{name}" is there twice')
    return groups


class _Loader(getattr(yaml, "CBaseLoader", yaml.BaseLoader)):  # type: ignore[misc]
    """Every scalar is the text it was written as; a key may be there once."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [getattr(key, "value", None) for key, _ in node.value]
        for key, (where, _) in zip(keys, node.value, strict=True):
            if isinstance(key, str) and keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f'"{key}" is there twice', where.start_mark)
        return super().construct_mapping(node, deep)


class _Part:
    """A mapping of the file; every method says where it is when something is wrong with a value.

    Args:
        where: file, group and rule, as messages begin.
        known: the keys it may have.
    """

    def __init__(self, where: str, value: Any, known: frozenset[str]) -> None:
        self.where = where
        if not isinstance(value, dict):
            self.fail(f"expected a mapping, not {_shown(value)}")
        self._value: dict[str, Any] = value
        for key in value:
            if key not in known:
                self.fail(f"unknown field {_shown(key)}")

    def fail(self, message: str) -> NoReturn:
        raise InvalidInput(f"{self.where}: {message}")

    def text(self, key: str) -> str:
        value = self._value.get(key, "")
        if not isinstance(value, str):
            self.fail(f"{key} must be text, not {_shown(value)}")
        return value

    def list(self, key: str) -> Sequence[Any]:
        value = self._value.get(key, "")
        if value == "":
            return []
        if not isinstance(value, list):
            self.fail(f"{key} must be a list, not {_shown(value)}")
        return value

    def duration(self, key: str, default: int) -> int:
        text = self.text(key)
        if text in ("", "0"):
            return 0 if text else default
        try:
            return parse_duration(text)
        except InvalidInput:
            self.fail(f"{key}: {_shown(text)} is not a duration")

    def count(self, key: str) -> int:
        text = self.text(key) or "0"
        if not text.isdecimal() or len(text) > 9:
            self.fail(f"{key}: {_shown(text)} is not a number")
        return int(text)

    def texts(self, key: str) -> dict[str, str]:
        value = self._value.get(key, "")
        if value == "":
            return {}
        if not isinstance(value, dict):
            self.fail(f"{key} must be a mapping, not {_shown(value)}")
        for name, text in value.items():
            if not isinstance(name, str) or not is_label_name(name) or name == NAME:
                self.fail(f"{key}: {_shown(name)} is not a name")
            if not isinstance(text, str):
                self.fail(f"{key}: {name} must be text, not {_shown(text)}")
        return dict(value)

    def templates(self, texts: Mapping[str, str], key: str) -> dict[str, Template]:
        found = {}
        for name, text in texts.items():
            try:
                found[name] = Template(text)
            except InvalidInput as problem:
                self.fail(f"{key}: {name}: {problem.message}")
        return found


def _group(where: str, value: Any, file: str, interval: int) -> Group:
    part = _Part(where, value, _GROUP)
    name = part.text("name")
    if not name:
        part.fail("a group needs a name")
    part.where = f'{file}: group "{name}"'
    every = part.duration("interval", interval) or interval
    labels = part.texts("labels")
    rules = tuple(_rule(f"{part.where}, rule {n}", one, labels) for n, one in enumerate(part.list("rules"), 1))
    return Group(file, name, rules, every, part.count("limit"), part.duration("query_offset", 0))


def _rule(where: str, value: Any, common: Mapping[str, str]) -> Rule:
    part = _Part(where, value, _RECORDING | _ALERTING)
    record, alert = part.text("record"), part.text("alert")
    if bool(record) == bool(alert):
        part.fail("a rule needs either record or alert")
    part.where = f'{where} "{record or alert}"'
    part = _Part(part.where, value, _RECORDING if record else _ALERTING)
    query = _query(part)
    labels = {**common, **part.texts("labels")}
    if record:
        if not is_label_name(record) or "{" in record or "}" in record:
            part.fail(f"{_shown(record)} is not a name of a metric")
        return Rule("recording", record, query, {name: Template.plain(text) for name, text in labels.items()})
    return Rule(
        "alerting",
        alert,
        query,
        part.templates(labels, "labels"),
        part.templates(part.texts("annotations"), "annotations"),
        part.duration("for", 0),
        part.duration("keep_firing_for", 0),
    )


def _query(part: _Part) -> str:
    text = part.text("expr")
    if not text.strip():
        part.fail("a rule needs an expr")
    try:
        node = parse(text)
    except (QueryError, RecursionError) as problem:
        part.fail(f"could not parse expr: {problem}")
    if kind_of(node) not in ("scalar", "vector"):
        part.fail(f"expr must give an instant vector or a scalar, not a {kind_of(node)}")
    return text_of(node)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _flat(problem: Exception) -> str:
    return " ".join(str(problem).split())[:300]
