"""Tokens to the tree of a query, by precedence climbing; `WITH` templates are expanded on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import cast

from kymograph.promql import ast
from kymograph.promql.ast import LabelMatcher, Node, When
from kymograph.promql.check import check
from kymograph.promql.cursor import shown
from kymograph.promql.durations import Blank, Span, Unreckoned, seconds_of
from kymograph.promql.functions import AGGREGATORS, FUNCTIONS, PRECEDENCE
from kymograph.promql.labels import bad_regex, quoted
from kymograph.promql.lexer import ParseError, Token
from kymograph.promql.modifiers import Modifiers

_UNARY = 8  # looser than ^, tighter than *
_DEPTH = 120
_CHAIN = 1000
# words that cannot be the name of a metric, and those that cannot be the name of a function
_NO_NAMES = frozenset(("atan2", "bool", "on", "ignoring", "group_left", "group_right"))
_NO_FUNCTIONS = frozenset(("and", "or", "unless", "by", "without", "offset", "anchored", "smoothed"))


@dataclass(frozen=True)
class _Template:
    parameters: tuple[str, ...]
    start: int  # index of the first token of its body
    scope: Mapping[str, _Template | Node]


def parse(text: str, span: Span | None = None) -> Node:
    """The tree of a query, its types checked.

    Args:
        span: what `step()` and `range()` are in durations; None where the query is only looked at, and they are refused.

    Raises:
        ParseError: with the position, in Prometheus' words where it has some.
    """
    parser = _Parser(text, span)
    node = parser.expression(0)
    if parser.ahead.kind != "end":
        parser.fail(f"unexpected {shown(parser.ahead)}")
    check(node, text)
    return node


def parse_selector(text: str, *, empty: bool = False) -> ast.Selector:
    """A bare instant selector such as `up{job="x"}`, as `match[]` takes it.

    Args:
        empty: also one whose matchers a series without labels would satisfy.

    Raises:
        ParseError: it is something else.
    """
    return _Parser(text).bare_selector(empty)


class _Parser(Modifiers):
    def __init__(self, text: str, span: Span | None = None) -> None:
        super().__init__(text)
        self._span = span
        self._scope: Mapping[str, _Template | Node] = {}
        self._depth = 0

    def bare_selector(self, empty: bool) -> ast.Selector:
        """The whole text as one selector."""
        token = self._next()
        if token.kind != "name" and not (token.kind == "sign" and token.text == "{"):
            self.fail("no expression found in input" if token.kind == "end" else f"unexpected {shown(token)}", token)
        node = self._selector(token, token.text if token.kind == "name" else None)
        if self.ahead.kind != "end":
            self.fail(f"unexpected {shown(self.ahead)}")
        if not empty:
            check(node, self.text)
        assert isinstance(node, ast.Selector)
        return node

    def expression(self, least: int) -> Node:
        self._depth += 1
        if self._depth > _DEPTH:
            self.fail("expressions are nested too deeply")
        left = self._unary()
        for links in count():
            if links > _CHAIN:  # no stack holds a tree of this depth, so the rest need not be read
                self.fail("expressions are nested too deeply")
            token = self.ahead
            operator = token.text.lower() if token.kind in ("name", "sign") else ""
            strength = PRECEDENCE.get(operator, 0)
            if not strength or strength < least:
                break
            self._next()
            returns_bool, matching = self._modifiers(operator, token, left)
            right = self.expression(strength if operator == "^" else strength + 1)
            keep = self._keeps()
            left = ast.Binary(left.position, token.position, operator, left, right, returns_bool, matching, keep)
        self._depth -= 1
        return left

    def _unary(self) -> Node:
        token = self.ahead
        if token.kind == "sign" and token.text in "+-":
            self._next()
            inner = self.expression(_UNARY)
            if isinstance(inner, ast.Number):  # a literal has its sign
                return ast.Number(token.position, -inner.value if token.text == "-" else inner.value, inner.span)
            return ast.Unary(token.position, token.text, inner)
        return self._suffixes(self._primary())

    def _keeps(self) -> bool:
        if found := self._word() == "keep_metric_names":
            self._next()
        return found

    def _named_as_before(self, inner: Node, token: Token) -> Node:
        """What stands in parentheses, with the `keep_metric_names` after them."""
        if not self._keeps():
            return inner
        if isinstance(node := ast.bare(inner), (ast.Binary, ast.Call)):
            return replace(node, keep_names=True)
        return self.fail("keep_metric_names must follow a function call or a binary operation", token)

    def _primary(self) -> Node:
        token = self._next()
        if token.kind == "number":
            return ast.Number(token.position, token.value)
        if token.kind == "duration":
            return ast.Number(token.position, token.value / 1e6, span=True)
        if token.kind == "string":
            return ast.String(token.position, token.text)
        if token.kind == "sign" and token.text == "(":
            inner = self.expression(0)
            self._expect(")", "parenthesised expression")
            return ast.Paren(token.position, self._named_as_before(inner, token))
        if token.kind == "sign" and token.text == "{":
            return self._selector(token, None)
        if token.kind == "name":
            return self._named(token)
        if len(self._tokens) == 1:
            raise ParseError("no expression found in input", self.text, 0)
        return self.fail(f"unexpected {shown(token)}", token)

    def _named(self, token: Token) -> Node:
        word = token.text.lower()
        if token.text in self._scope:
            return self._expanded(token, self._scope[token.text])
        if word in ("inf", "nan"):
            return ast.Number(token.position, float(word))
        if word == "with" and self._is("("):
            return self._with()
        if word in _NO_NAMES:
            self.fail(f"unexpected {shown(token)}", token)
        if word in _NO_FUNCTIONS and self._is("("):
            self.fail('unexpected "("')
        if word in AGGREGATORS and (self._is("(") or self._word() in ("by", "without")):
            return self._aggregate(token, word)
        if self._is("("):
            if word in ("step", "range", "min_of", "max_of"):  # keywords to Prometheus, in any case
                token = replace(token, text=word)
            if token.text not in FUNCTIONS:
                self.fail(f'unknown function with name "{token.text}"', token)
            return ast.Call(token.position, token.text, self._arguments("function call"), self._keeps())
        return self._selector(token, token.text)

    def _arguments(self, where: str) -> tuple[Node, ...]:
        self._expect("(", where)
        found = []
        while not self._takes(")"):
            found.append(self.expression(0))
            if not self._is(")"):
                self._expect(",", where)
        return tuple(found)

    def _aggregate(self, token: Token, operator: str) -> Node:
        labels: tuple[str, ...] = ()
        without = grouped = False
        if self._word() in ("by", "without"):
            grouped, without, labels = True, self._next().text.lower() == "without", self._labels()
        arguments = self._arguments("aggregation")
        if not grouped and self._word() in ("by", "without"):
            without, labels = self._next().text.lower() == "without", self._labels()
        wanted = 2 if AGGREGATORS[operator] else 1
        if not arguments:
            self.fail("no arguments for aggregate expression provided", token)
        if len(arguments) != wanted:
            self.fail(
                f"wrong number of arguments for aggregate expression provided, expected {wanted}, got {len(arguments)}",
                token,
            )
        parameter = arguments[0] if wanted == 2 else None
        return ast.Aggregate(token.position, operator, arguments[-1], parameter, labels, without)

    def _selector(self, token: Token, name: str | None) -> Node:
        matchers = [] if name is None else [LabelMatcher("__name__", "=", name)]
        if name is None or self._takes("{"):
            while not self._takes("}"):
                matchers += self._matcher()
                if not self._is("}"):
                    self._expect(",", "label matching")
        twice = [m.value for m in matchers[1:] if m.name == "__name__"] if name is not None else []
        if twice:
            self.fail(f"metric name must not be set twice: {quoted(name or '')} or {quoted(twice[0])}", token)
        return ast.Selector(token.position, tuple(matchers), outside=name is not None)

    def _matcher(self) -> list[LabelMatcher]:
        token = self._next()
        if token.kind not in ("name", "string"):
            self.fail(f'unexpected {shown(token)} in label matching, expected identifier or "}}"', token)
        if token.kind == "name" and ":" in token.text:
            at = token.position + token.text.index(":")
            raise ParseError("unexpected character inside braces: ':'", self.text, at)
        operator = self._next()
        if operator.kind == "sign" and operator.text in ("=", "!=", "=~", "!~"):
            value = self._next()
            if value.kind != "string":
                self.fail(f"unexpected {shown(value)} in label matching, expected string", value)
            matcher = LabelMatcher(token.text, cast(ast.Operator, operator.text), value.text)
            problem = bad_regex(matcher)
            if problem:
                self.fail(f"error parsing regexp: {problem}", token)
            return [matcher]
        if operator.text == "==":  # no operator in here: = and = again
            message = 'unexpected "=" in label matching, expected string'
            raise ParseError(message, self.text, operator.position + 1)
        self._at -= operator.kind != "end"
        if token.kind == "string":
            return [LabelMatcher("__name__", "=", token.text)]
        template = self._scope.get(token.text)
        if template is not None:  # WITH (common = {job="x"}) metric{common}
            node = ast.bare(self._expanded(token, template))
            if isinstance(node, ast.Selector) and not node.name and node.window is None:
                return list(node.matchers)
        return self.fail(f"unexpected {shown(operator)} in label matching, expected label matching operator", operator)

    def _suffixes(self, node: Node) -> Node:
        while True:
            if self._is("["):
                node = self._window(node)
            elif self._word() == "offset":
                token = self._next()
                seconds = self._offset()
                if not abs(seconds) < 2**62 / 1e6:
                    self.fail("duration out of range", token)
                offset = round(seconds * 1e6)
                node = self._placed(node, token, "offset", offset=offset)
            elif self._is("@"):
                token = self._next()
                node = self._placed(node, token, "@", at=self._instant())
            elif self._word() in ("anchored", "smoothed"):
                node = self._edged(node, cast(ast.Edge, self._next().text.lower()))
            else:
                return node

    def _offset(self) -> float:
        """Seconds: a literal, or one that is reckoned."""
        sign, token = self._sign(), self.ahead
        if self._reckons() and token.text not in "+-":
            return sign * self._seconds(self._primary(), "offset", token)
        return sign * self._number("offset")

    def _instant(self) -> int | str:
        if self._word() in ("start", "end"):
            word = self._next().text.lower()
            self._expect("(", "@ modifier")
            self._expect(")", "@ modifier")
            return word
        token = self.ahead
        value = self._sign() * self._number("@")
        if not abs(value) < 9.2e12:
            self.fail(f"timestamp out of bounds for @ modifier: {value:f}", token)
        return round(value * 1e3) * 1000

    def _placed(self, node: Node, token: Token, what: str, **change: int | str) -> Node:
        if not isinstance(node, (ast.Selector, ast.Subquery)):
            message = (
                f"{what} modifier must be preceded by an instant vector selector or range vector selector or a subquery"
            )
            raise ParseError(message, self.text, node.position)
        if (what == "offset" and node.when.offset) or (what == "@" and node.when.at is not None):
            self.fail(f"{what} may not be set multiple times", token)
        return replace(node, when=replace(node.when, **change))  # type: ignore[arg-type]

    def _edged(self, node: Node, edge: ast.Edge) -> Node:
        problem = ""
        if isinstance(node, ast.Subquery):
            problem = f"{edge} modifier is not supported for subqueries"
        elif not isinstance(node, ast.Selector):
            problem = f"{edge} modifier not implemented"
        elif node.edge not in (None, edge):
            problem = "anchored and smoothed modifiers cannot be used together"
        if problem:
            raise ParseError(problem, self.text, node.position)
        return replace(node, edge=edge)  # type: ignore[call-arg]

    def _window(self, node: Node) -> Node:
        bracket = self._next()
        window = self._length("range")
        if self._takes(":"):
            step = None if self._is("]") else self._length("subquery")
            self._expect("]", "subquery")
            return ast.Subquery(node.position, node, window, step)
        self._expect("]", "subquery or range")
        if not isinstance(node, ast.Selector) or node.window is not None:
            self.fail("ranges only allowed for vector selectors", bracket)
        if node.when != When():
            self.fail("no offset or @ modifiers allowed before range", bracket)
        return replace(node, window=window)

    def _length(self, where: str) -> int:
        token = self.ahead
        if token.kind not in ("duration", "number") and not self._reckons():
            self.fail(f"unexpected {shown(token)} in {where}, expected duration", token)
        micros = self._seconds(self.expression(0), where, token) * 1e6
        if not 0 < micros < 2**62:
            self.fail("duration must be greater than 0" if micros <= 0 else "duration out of range", token)
        return max(1, round(micros))

    def _reckons(self) -> bool:
        """Whether a duration that is reckoned begins here; templates may stand for one."""
        word = self._word()
        called = word in ("step", "range", "min_of", "max_of") and self._tokens[self._at + 1].text == "("
        return (
            called or self._is("(") or self._is("-") or self._is("+") or (bool(word) and self.ahead.text in self._scope)
        )

    def _seconds(self, node: Node, where: str, token: Token) -> float:
        kind = type(ast.bare(node))
        if kind in (ast.Selector, ast.String):
            self.fail(f"unexpected {shown(token)} in {where}, expected duration", token)
        try:
            return seconds_of(node, self._span)
        except Unreckoned as problem:
            self.fail(str(problem), token)

    def _with(self) -> Node:
        outer = self._scope
        self._expect("(", "WITH")
        while not self._takes(")"):
            name = self._next()
            if name.kind != "name":
                self.fail(f"unexpected {shown(name)} in WITH, expected identifier", name)
            parameters = self._labels() if self._is("(") else ()
            self._expect("=", "WITH")
            template = _Template(parameters, self._at, self._scope)
            # read once to find its end; what it means is only known where it is used
            self._scope = {**self._scope, **dict.fromkeys(parameters, Blank(name.position, ()))}
            self.expression(0)
            self._scope = {**template.scope, name.text: template}
            if not self._is(")"):
                self._expect(",", "WITH")
        node = self.expression(0)
        self._scope = outer
        return node

    def _expanded(self, token: Token, found: _Template | Node) -> Node:
        if isinstance(found, Node):
            return found
        arguments = self._arguments(f"template {token.text}") if found.parameters else ()
        if len(arguments) != len(found.parameters):
            self.fail(f"template {token.text} takes {len(found.parameters)} arguments, got {len(arguments)}", token)
        back, scope = self._at, self._scope
        self._at, self._scope = found.start, {**found.scope, **dict(zip(found.parameters, arguments, strict=True))}
        body = self.expression(0)
        self._at, self._scope = back, scope
        return ast.Paren(token.position, body) if isinstance(body, (ast.Binary, ast.Unary)) else body
