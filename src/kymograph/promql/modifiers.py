"""What stands between a binary operator and its right side: `bool`, `on`, `ignoring`, `group_left`, `fill` and their like."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from kymograph.promql import ast
from kymograph.promql.ast import Matching, Node
from kymograph.promql.cursor import Cursor, shown
from kymograph.promql.functions import COMPARISONS, SETS
from kymograph.promql.lexer import ParseError, Token

_GROUPS = {"group_left": "many-to-one", "group_right": "one-to-many"}


class Modifiers(Cursor):
    """A cursor that reads them, and the numbers they take; expressions are read by who comes after it."""

    def _modifiers(self, operator: str, token: Token, left: Node) -> tuple[bool, Matching]:
        """Whether a comparison gives 0 and 1, and how the sides find each other; `token` is the operator's."""
        returns_bool = False
        if self._word() == "bool":
            self._next()
            if operator not in COMPARISONS:
                self.fail("bool modifier can only be used on comparison operators", token)
            returns_bool = True
        matching = Matching("many-to-many" if operator in SETS else "one-to-one")
        if self._word() in ("on", "ignoring"):
            on = self._next().text.lower() == "on"
            matching = replace(matching, on=on, labels=self._labels(), given=True)
            if self._word() in _GROUPS:
                group = self._next()
                if operator in SETS:
                    raise ParseError(f'no grouping allowed for "{operator}" operation', self.text, left.position)
                include = self._labels() if self._is("(") else ()
                card = cast(ast.Card, _GROUPS[group.text.lower()])
                both = [label for label in include if on and label in matching.labels]
                if both:
                    self.fail(f'label "{both[0]}" must not occur in ON and GROUP clause at once', token)
                matching = replace(matching, card=card, include=include)
        return returns_bool, self._fills(operator, matching)

    def _fills(self, operator: str, matching: Matching) -> Matching:
        while self._word() in ("fill", "fill_left", "fill_right") and self._tokens[self._at + 1].text == "(":
            word = self._next()
            if operator in SETS:
                self.fail("filling in missing series not allowed for set operators", word)
            self._expect("(", "fill")
            value = self._sign() * self._number("fill")
            self._expect(")", "fill")
            if word.text.lower() != "fill_right":
                matching = replace(matching, fill_left=value)
            if word.text.lower() != "fill_left":
                matching = replace(matching, fill_right=value)
        return matching

    def _sign(self) -> float:
        sign = -1.0 if self._is("-") else 1.0
        if self._is("-") or self._is("+"):
            self._next()
        return sign

    def _number(self, where: str) -> float:
        """A literal; durations in seconds."""
        token = self._next()
        if token.kind == "number":
            return token.value
        if token.kind == "duration":
            return token.value / 1e6
        if token.text.lower() in ("inf", "nan"):
            return float(token.text)
        wanted = "timestamp" if where == "@" else "number or duration"
        return self.fail(f"unexpected {shown(token)} in {where}, expected {wanted}", token)
