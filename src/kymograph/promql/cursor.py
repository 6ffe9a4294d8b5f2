"""Where a parser is in its tokens, and how it says what it did not expect there, in Prometheus' words."""

from __future__ import annotations

from typing import NoReturn

from kymograph.promql.functions import AGGREGATORS, PRECEDENCE
from kymograph.promql.lexer import ParseError, Token, tokens

_WORDS = frozenset(("by", "without", "on", "ignoring", "bool", "offset", "group_left", "group_right"))
_OURS = frozenset(("median", "default", "if", "ifnot"))  # names to Prometheus


class Cursor:
    """The tokens of one text and a place among them."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._tokens = tokens(text)
        self._at = 0

    @property
    def ahead(self) -> Token:
        return self._tokens[self._at]

    def fail(self, message: str, token: Token | None = None) -> NoReturn:
        """Raise ParseError at a token, by default the one ahead; brackets that do not fit come first."""
        token = token or self.ahead
        message, position = self._unbalanced(token) or (message, token.position)
        raise ParseError(message, self.text, position)

    def _unbalanced(self, token: Token) -> tuple[str, int] | None:
        """What is to say of brackets that do not fit, whatever else was expected here; and where."""
        if token.kind not in ("end", "sign"):
            return None
        before = [one.text for one in self._tokens if one.kind == "sign" and one.position < token.position]
        brackets = {sign: before.count(sign) for sign in "(){}[]"}
        if token.kind == "end":
            for left, right, problem in (
                ("{", "}", "unexpected end of input inside braces"),
                ("[", "]", "unclosed left bracket"),
                ("(", ")", "unclosed left parenthesis"),
            ):
                if brackets[left] > brackets[right]:
                    return problem, token.position
        elif token.text == ")" and brackets["("] <= brackets[")"]:
            return "unexpected right parenthesis ')'", token.position + 1
        elif token.text == "}" and brackets["{"] <= brackets["}"]:
            return "unexpected character: '}'", token.position
        return None

    def _next(self) -> Token:
        token = self.ahead
        self._at += token.kind != "end"
        return token

    def _is(self, sign: str) -> bool:
        return self.ahead.kind == "sign" and self.ahead.text == sign

    def _takes(self, sign: str) -> bool:
        if self._is(sign):
            self._at += 1
            return True
        return False

    def _expect(self, sign: str, where: str) -> None:
        if not self._takes(sign):
            wanted = '"," or "}"' if where == "label matching" else f'"{sign}"'
            self.fail(f"unexpected {shown(self.ahead)} in {where}, expected {wanted}")

    def _word(self) -> str:
        return self.ahead.text.lower() if self.ahead.kind == "name" else ""

    def _labels(self) -> tuple[str, ...]:
        """Names in parentheses."""
        self._expect("(", "grouping opts")
        found = []
        while not self._takes(")"):
            token = self._next()
            if token.kind not in ("name", "string") or not token.text:
                self.fail(f"unexpected {shown(token)} in grouping opts, expected label", token)
            found.append(token.text)
            if not self._is(")") and not self._takes(","):
                self.fail(f'unexpected {shown(self.ahead)} in grouping opts, expected "," or ")"')
        return tuple(found)


def shown(token: Token) -> str:
    """A token as messages name it."""
    if token.kind == "end":
        return "end of input"
    word = token.text.lower()
    if token.kind in ("sign", "name") and (word in PRECEDENCE or word in ("@", "=~", "!~")) and word not in _OURS:
        return f"<op:{word}>"
    if token.kind == "sign":
        return f'"{token.text}"'
    if token.kind == "name" and word in AGGREGATORS and word not in _OURS:
        return f"<aggr:{word}>"
    if token.kind == "name" and word in _WORDS:
        return f"<{word}>"
    return f'{"identifier" if token.kind == "name" else token.kind} "{token.text}"'
