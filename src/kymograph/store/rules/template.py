"""Texts with {{ … }} in annotations and labels: the part of Go's templates, and of Prometheus' functions, that rules use.

There are `$labels.NAME`, `$value`, `$externalLabels.NAME`, `$externalURL` (also as `.Labels.NAME` and so on), literals,
parentheses, pipelines, `if`/`else if`/`else`/`end`, comments, and the functions of `words`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kymograph.errors import InvalidInput
from kymograph.promql.lexer import tokens as query_tokens
from kymograph.store.rules.words import WORDS, spoken

_ACTION = re.compile(r"\{\{(-(?=\s))?(.*?)((?<=\s)-)?\}\}", re.DOTALL)
_COMMENT = re.compile(r"\s*/\*.*\*/\s*", re.DOTALL)
_TOKEN = re.compile(
    r"""\s+|(?P<field>[$.][A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<number>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)|(?P<string>"(?:[^"\\\n]|\\.)*"|`[^`]*`)
    |(?P<sign>[()|])""",
    re.VERBOSE,
)
_ROOTS = {"labels": "labels", "value": "value", "externalLabels": "external_labels", "externalURL": "external_url"}
_ROOTS |= {"Labels": "labels", "Value": "value", "ExternalLabels": "external_labels", "ExternalURL": "external_url"}
_DEPTH = 50


@dataclass(frozen=True)
class Facts:
    """What a template is about: one series of the rule's query.

    Attributes:
        labels: of the series, its name among them.
        value: of its sample.
        external_url: where this server is reached.
    """

    labels: Mapping[str, str]
    value: float
    external_url: str = ""
    external_labels: Mapping[str, str] = field(default_factory=dict)


class Template:
    """One text. Raises InvalidInput where it cannot be understood."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts: Any = _Parser(text).parts() if "{{" in text else text

    @classmethod
    def plain(cls, text: str) -> Template:
        """A text that means itself, whatever is in it."""
        made = cls("")
        made.text = made._parts = text
        return made

    def expand(self, facts: Facts) -> str:
        """The text about one series; what goes wrong is in it, as Prometheus has it."""
        if isinstance(self._parts, str):
            return self._parts
        try:
            return "".join(_rendered(self._parts, facts))
        except (InvalidInput, ValueError, TypeError, ArithmeticError) as problem:
            return f"<error expanding template: {problem}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Template) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Template({self.text!r})"


@dataclass(frozen=True)
class _If:
    """Branches by condition; the one without is the else."""

    branches: list[tuple[Any, list[Any]]]


@dataclass(frozen=True)
class _Call:
    word: str
    arguments: list[Any]


@dataclass(frozen=True)
class _Field:
    root: str
    path: tuple[str, ...]


def _rendered(parts: list[Any], facts: Facts) -> Iterator[str]:
    for part in parts:
        if isinstance(part, str):
            yield part
        elif isinstance(part, _If):
            for condition, inner in part.branches:
                if condition is None or _value(condition, facts) not in ("", 0, False):
                    yield from _rendered(inner, facts)
                    break
        else:
            yield spoken(_value(part[0], facts))


def _value(node: Any, facts: Facts) -> Any:
    if isinstance(node, _Field):
        found = getattr(facts, node.root)
        for name in node.path:
            found = found.get(name, "")
        return found
    if isinstance(node, _Call):
        return WORDS[node.word][1](*[_value(one, facts) for one in node.arguments])
    return node


class _Parser:
    """Parts are texts, one-element tuples of an expression, and conditions."""

    def __init__(self, text: str) -> None:
        self._pieces = list(self._split(text))
        self._at = 0

    def parts(self) -> list[Any]:
        found, ended_by = self._until(0)
        if ended_by:
            raise InvalidInput(f"unexpected {{{{{ended_by}}}}}")
        return found

    @staticmethod
    def _split(text: str) -> Iterator[tuple[bool, str]]:
        at, trim = 0, False
        for match in _ACTION.finditer(text):
            before = text[at : match.start()]
            if "}}" in before and "{{" in before:
                raise InvalidInput("unclosed {{")
            before = before.lstrip() if trim else before
            yield False, before.rstrip() if match[1] else before
            if not _COMMENT.fullmatch(match[2]):
                yield True, match[2].strip()
            at, trim = match.end(), bool(match[3])
        if "{{" in text[at:]:
            raise InvalidInput("unclosed {{")
        yield False, text[at:].lstrip() if trim else text[at:]

    def _until(self, depth: int) -> tuple[list[Any], str]:
        """Parts up to `else`, `end` or the end of the text, and what it was."""
        if depth > _DEPTH:
            raise InvalidInput("conditions are nested too deeply")
        found: list[Any] = []
        while self._at < len(self._pieces):
            action, text = self._pieces[self._at]
            self._at += 1
            word = text.split(None, 1)[0] if action and text else ""
            if not action:
                found += [text] if text else []
            elif word in ("else", "end"):
                return found, text
            elif word == "if":
                found.append(self._condition(text, depth))
            elif word in ("range", "with", "define", "template", "block", "break", "continue"):
                raise InvalidInput(f"{{{{{word}}}}} is not supported")
            else:
                found.append((_expression(text),))
        return found, ""

    def _condition(self, text: str, depth: int) -> _If:
        branches: list[tuple[Any, list[Any]]] = []
        while True:
            rest = text.partition("if")[2]
            inner, ended_by = self._until(depth + 1)
            branches.append((_expression(rest), inner))
            text = ended_by
            if not re.fullmatch(r"else\s+if\s.+", ended_by, re.DOTALL):
                break
        if ended_by == "else":
            inner, ended_by = self._until(depth + 1)
            branches.append((None, inner))
        if ended_by != "end":
            raise InvalidInput("{{if}} without {{end}}" if not ended_by else f"unexpected {{{{{ended_by}}}}}")
        return _If(branches)


def _expression(text: str) -> Any:
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise InvalidInput(f"unexpected {text[at:][:20]!r} in {{{{{text[:60]}}}}}")
        if match.lastgroup:
            found.append((match.lastgroup, match.group()))
        at = match.end()
    node, rest = _pipeline(found, 0)
    if rest:
        raise InvalidInput(f"unexpected {rest[0][1]!r} in {{{{{text[:60]}}}}}")
    return node


_Tokens = list[tuple[str, str]]


def _pipeline(tokens: _Tokens, depth: int) -> tuple[Any, _Tokens]:
    if depth > _DEPTH:
        raise InvalidInput("parentheses are nested too deeply")
    node, rest = _command(tokens, [], depth)
    while rest and rest[0][1] == "|":
        node, rest = _command(rest[1:], [node], depth)
    return node, rest


def _command(tokens: _Tokens, piped: list[Any], depth: int) -> tuple[Any, _Tokens]:
    """One operand, or a function with its arguments; what a pipe brings comes last."""
    if not tokens or tokens[0][1] in ("|", ")"):
        raise InvalidInput("an expression is missing")
    if tokens[0][0] == "name" and tokens[0][1] not in ("true", "false", "nil"):
        word, rest = tokens[0][1], tokens[1:]
        if word not in WORDS:
            raise InvalidInput(f'function "{word}" is not known')
        arguments = []
        while rest and rest[0][1] not in ("|", ")"):
            one, rest = _operand(rest, depth)
            arguments.append(one)
        arguments += piped
        least, most = WORDS[word][0]
        if not least <= len(arguments) <= most:
            raise InvalidInput(f'function "{word}" does not take {len(arguments)} arguments')
        return _Call(word, arguments), rest
    if piped:
        raise InvalidInput(f"{tokens[0][1]} is no function to pipe into")
    return _operand(tokens, depth)


def _operand(tokens: _Tokens, depth: int) -> tuple[Any, _Tokens]:
    kind, text = tokens[0]
    if kind == "sign":
        if text != "(":
            raise InvalidInput(f"unexpected {text!r}")
        node, rest = _pipeline(tokens[1:], depth + 1)
        if not rest or rest[0][1] != ")":
            raise InvalidInput("unclosed (")
        return node, rest[1:]
    if kind == "number":
        return (int(text) if re.fullmatch("[+-]?[0-9]+", text) else float(text)), tokens[1:]
    if kind == "string":
        return query_tokens(text)[0].text, tokens[1:]
    if kind == "name":
        if text not in ("true", "false"):
            return _Call(text, []) if text in WORDS and WORDS[text][0][0] == 0 else _unknown(text), tokens[1:]
        return text == "true", tokens[1:]
    root, *path = text[1:].split(".")
    if root not in _ROOTS or (text[0] == "$") != root[0].islower():
        raise InvalidInput(f'undefined variable "{text.partition(".")[0] or text}"')
    known = _ROOTS[root]
    if len(path) > (known in ("labels", "external_labels")):
        raise InvalidInput(f"{text} has no such part")
    return _Field(known, tuple(path)), tokens[1:]


def _unknown(word: str) -> Any:
    raise InvalidInput(f'function "{word}" is not known')
