"""Cuts SQL text into tokens, refuses text that could overwhelm the planner, and writes tokens back as text.

The planner never sees the user's own text, only what `render` writes from these tokens: comments are gone, strings and
quoted names are in one canonical form. So the two can not disagree about where a string ends.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from kymograph.errors import QueryError

Kind = Literal["word", "name", "string", "number", "param", "punct"]

# The planner is recursive and quadratic in places: 5,000 UNIONs overflow its stack and 1,000 ORs take it two seconds.
MAX_TEXT = 256 * 1024
MAX_OPERATORS = 1000
MAX_SELECTS = 100
MAX_SOURCES = 64
_KEPT_TEXT = 4096  # dashboards send the same few statements again and again

_TOKEN = re.compile(
    r"""
    (?P<gap>\s+|--[^\n]*)
  | (?P<comment>/\*)
  | (?P<string>'(?:[^']|'')*')
  | (?P<name>"(?:[^"]|"")*"|`(?:[^`]|``)*`)
  | (?P<dollar>\$(?P<tag>(?:[^\W\d]\w*)?)\$)
  | (?P<param>\$\w+)
  | (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?\w*)
  | (?P<word>[^\W\d][\w$@\#]*)
  | (?P<punct>[^\s\w'"`])
    """,
    re.VERBOSE,
)
_COMMENT = re.compile(r"/\*|\*/")
_STRING_PREFIXES = frozenset(("e", "n", "x", "b", "r", "br", "rb", "q", "nq", "u"))
_PLAIN_PUNCT = frozenset("(),.;[]{}")
_SETS = ("union", "except", "intersect")
_OPERATOR_WORDS = frozenset(
    (*_SETS, "and", "or", "not", "is", "like", "ilike", "between", "join", "interval", "case", "when")
)
_AFTER_FROM = frozenset(
    (*_SETS, "where", "group", "having", "order", "limit", "offset", "window", "qualify", "fetch", "select")
)


@dataclass(frozen=True, slots=True)
class Token:
    """One token.

    Attributes:
        kind: word (unquoted), name (quoted), string, number, param or punct (one character).
        value: words in lower case, the content of names and strings, a param without its `$`.
        text: what `render` writes.
        spaced: whether white space or a comment came before it.
        clause: "select" or "from" where the token stands directly in such a list, else "".
    """

    kind: Kind
    value: str
    text: str
    spaced: bool = True
    clause: str = ""

    def is_punct(self, character: str) -> bool:
        return self.kind == "punct" and self.value == character

    def is_word(self, *words: str) -> bool:
        return self.kind == "word" and self.value in words


def tokenize(text: str) -> tuple[Token, ...]:
    """The tokens of one statement, without a closing semicolon.

    Raises:
        QueryError: no statement or more than one, something unterminated, a string with a prefix letter, or more
            text, operators, sub-selects or tables than the planner can be trusted with.
    """
    if not isinstance(text, str):
        raise QueryError(f"a query is text, not {type(text).__name__}")
    if len(text) > MAX_TEXT:
        raise QueryError(f"the query has {len(text)} characters; {MAX_TEXT} are the limit")
    if "\0" in text:
        raise QueryError("the query holds a NUL character")
    return _tokenized(text) if len(text) <= _KEPT_TEXT else _tokenized.__wrapped__(text)


@lru_cache(maxsize=256)
def _tokenized(text: str) -> tuple[Token, ...]:
    tokens = _close(_cut(text))
    if not tokens:
        raise QueryError("the query is empty")
    return tuple(_clauses(tokens))


def _cut(text: str) -> list[Token]:
    tokens: list[Token] = []
    position, spaced = 0, True
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise QueryError(f"there is no closing {text[position]} for the one at character {position + 1}")
        kind, raw, position = found.lastgroup, found.group(), found.end()
        if kind == "gap":
            spaced = True
            continue
        if kind == "comment":
            position, spaced = _skip_comment(text, position), True
            continue
        if found["dollar"] is not None:
            end = text.find(raw, position)
            if end < 0:
                raise QueryError(f"there is no closing {raw} for the one at character {found.start() + 1}")
            tokens.append(string_token(text[position:end], spaced))
            position = end + len(raw)
        elif kind == "word":
            if text[position : position + 1] == "'" and raw.lower() in _STRING_PREFIXES:
                raise QueryError(f"strings with a prefix ({raw}'…') are not supported", hint="write '…' or $$…$$")
            tokens.append(Token("word", raw.lower(), raw, spaced))
        elif kind == "string":
            tokens.append(Token("string", raw[1:-1].replace("''", "'"), raw, spaced))
        elif kind == "name":
            tokens.append(name_token(raw[1:-1].replace(raw[0] * 2, raw[0]), spaced))
        elif kind == "param":
            tokens.append(Token("param", raw[1:], raw, spaced))
        elif kind == "number":
            tokens.append(Token("number", raw, raw, spaced))
        else:
            tokens.append(Token("punct", raw, raw, spaced))
        spaced = False
    return tokens


def string_token(value: str, spaced: bool = True) -> Token:
    return Token("string", value, "'" + value.replace("'", "''") + "'", spaced)


def name_token(value: str, spaced: bool = True) -> Token:
    return Token("name", value, '"' + value.replace('"', '""') + '"', spaced)


def _skip_comment(text: str, position: int) -> int:
    depth = 1
    for found in _COMMENT.finditer(text, position):
        depth += 1 if found.group() == "/*" else -1
        if depth == 0:
            return found.end()
    raise QueryError(f"the comment that begins at character {position - 1} is not closed")


def _close(tokens: list[Token]) -> list[Token]:
    while tokens and tokens[-1].is_punct(";"):
        tokens.pop()
    if any(token.is_punct(";") for token in tokens):
        raise QueryError("only one statement at a time", hint="send the statements one by one")
    return tokens


def _clauses(tokens: list[Token]) -> list[Token]:
    """The tokens with `clause` filled in; counts what makes planning expensive on the way."""
    stack, clause = [], ""
    operators = selects = sources = 0
    result = []
    for i, token in enumerate(tokens):
        here = clause
        if token.kind == "punct":
            if token.value in "([{":
                stack.append(clause)
                clause = ""
            elif token.value in ")]}":
                if not stack:
                    raise QueryError(f"there is one {token.value} too many")
                clause = here = stack.pop()
            elif token.value == "," and clause == "from":
                sources += 1
            elif token.value not in _PLAIN_PUNCT:
                operators += 1
        elif token.kind == "word" and not (i and tokens[i - 1].is_punct(".")):
            operators += token.value in _OPERATOR_WORDS
            if token.value == "select":
                selects, clause = selects + 1, "select"
            elif token.value == "from" and clause == "select":
                sources, clause, here = sources + 1, "from", ""
            elif token.value == "join":
                sources += 1
            elif token.value in _AFTER_FROM and clause == "from":
                clause = here = ""
        result.append(Token(token.kind, token.value, token.text, token.spaced, here))
    if stack:
        raise QueryError("a bracket is not closed")
    for count, limit, what in (
        (operators, MAX_OPERATORS, "operators"),
        (selects, MAX_SELECTS, "SELECTs"),
        (sources, MAX_SOURCES, "tables and joins"),
    ):
        if count > limit:
            raise QueryError(f"the query has {count} {what}; {limit} are the limit", hint="use IN (…), or split it")
    return result


def closing(tokens: Sequence[Token], opening: int) -> int:
    """Index of the bracket that closes the one at `opening`."""
    depth = 0
    for i in range(opening, len(tokens)):
        token = tokens[i]
        if token.kind == "punct":
            depth += (token.value in "([{") - (token.value in ")]}")
            if depth == 0:
                return i
    raise QueryError("a bracket is not closed")


def split_commas(tokens: Sequence[Token]) -> list[list[Token]]:
    """The parts between commas that stand in no bracket; [] for no tokens."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        if token.kind == "punct":
            depth += (token.value in "([{") - (token.value in ")]}")
            if token.value == "," and depth == 0:
                parts.append([])
                continue
        parts[-1].append(token)
    return parts if tokens else []


def is_call(tokens: Sequence[Token], i: int, names: frozenset[str]) -> bool:
    """Whether an unqualified call of one of `names` begins at `i`."""
    return (
        tokens[i].kind == "word"
        and tokens[i].value in names
        and i + 1 < len(tokens)
        and tokens[i + 1].is_punct("(")
        and not (i and tokens[i - 1].is_punct("."))
    )


def is_with_query(tokens: Sequence[Token], name: str) -> bool:
    """Whether a WITH query of the statement may have this name."""
    for i in range(len(tokens) - 2):
        if tokens[i].kind in ("word", "name") and tokens[i].value == name:
            after = tokens[i + 1]
            if after.is_punct("(") or (
                after.is_word("as") and (tokens[i + 2].is_punct("(") or tokens[i + 2].is_word("materialized", "not"))
            ):
                return True
    return False
