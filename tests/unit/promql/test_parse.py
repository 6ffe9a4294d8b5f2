"""The parser: shapes, positions, and refusals in Prometheus' words."""

from __future__ import annotations

import math

import pytest

from kymograph.promql import ast
from kymograph.promql.lexer import ParseError, tokens
from kymograph.promql.parse import parse, parse_selector


def test_precedence_and_associativity() -> None:
    node = parse("a or b and c == d + e * f ^ g ^ h")
    shape = []
    while isinstance(node, ast.Binary):
        shape.append(node.operator)
        node = node.right
    assert shape == ["or", "and", "==", "+", "*", "^", "^"]
    left = parse("1 - 2 - 3")
    assert isinstance(left, ast.Binary)
    assert isinstance(left.left, ast.Binary)


def test_sign_is_looser_than_power() -> None:
    node = parse("-a ^ 2")
    assert isinstance(node, ast.Unary)
    assert isinstance(node.expression, ast.Binary)
    product = parse("-a * 2")
    assert isinstance(product, ast.Binary)


def test_selector_with_everything() -> None:
    node = parse('m{a="b",c!="d",e=~"f",g!~"h",}[1h30m] offset -5m @ 1.5')
    assert node == ast.Selector(
        0,
        (
            ast.LabelMatcher("__name__", "=", "m"),
            ast.LabelMatcher("a", "=", "b"),
            ast.LabelMatcher("c", "!=", "d"),
            ast.LabelMatcher("e", "=~", "f"),
            ast.LabelMatcher("g", "!~", "h"),
        ),
        5_400_000_000,
        ast.When(-300_000_000, 1_500_000),
    )


@pytest.mark.parametrize(
    "text", ["m[5m] ANCHORED offset 1m @ 5", "m[5m] offset 1m @ 5 anchored", "m anchored[5m] @ 5 offset 1m"]
)
def test_edges_stand_among_the_other_modifiers(text: str) -> None:
    assert parse(text) == ast.Selector(
        0, (ast.LabelMatcher("__name__", "=", "m"),), 300_000_000, ast.When(60_000_000, 5_000_000), edge="anchored"
    )


def test_grouping_before_and_after_the_arguments() -> None:
    before, after = parse("sum by (a, b) (m)"), parse("SUM(m) BY (a, b)")
    assert isinstance(before, ast.Aggregate)
    assert isinstance(after, ast.Aggregate)
    assert before.labels == after.labels == ("a", "b")
    assert not before.without


def test_matching() -> None:
    node = parse("a / on (x) group_left (y) fill_right (-1) b")
    assert isinstance(node, ast.Binary)
    assert node.matching == ast.Matching("many-to-one", True, ("x",), ("y",), None, -1.0, True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e3", 1000.0),
        ("0x1f", 31.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("1_000", 1000.0),
        ("1h", 3600.0),
        ("1h30m10s", 5410.0),
        ("250ms", 0.25),
        ("Inf", math.inf),
        ("2Ki", 2048.0),
        ("017", 15.0),
        ("019", 19.0),
        ("0.17", 0.17),
        ("0", 0.0),
        ("3M", 3e6),
    ],
)
def test_numbers(text: str, value: float) -> None:
    assert parse(text) == ast.Number(0, value, span=text[-1] in "hs")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"a\n\t\"\\"', 'a\n\t"\\'),
        (r"'it\'s'", "it's"),
        (r"`raw\n`", r"raw\n"),
        (r'"\u00e9\xc3\xa9\U0001F600\101"', "éé😀A"),
        (r'"\xff"', "\udcff"),
        ('"# no comment"', "# no comment"),
    ],
)
def test_strings(text: str, value: str) -> None:
    assert parse(text) == ast.String(0, value)


def test_comments_and_space() -> None:
    assert parse("  # first\n up # second\n") == parse("  " + " " * 9 + "up")


def test_templates() -> None:
    assert parse("WITH (x = 2, f(y) = y * x) f(3)") == ast.Paren(
        position=27,
        expression=ast.Binary(29, 22, "*", ast.Number(29, 3.0), ast.Number(10, 2.0)),
    )
    node = parse('WITH (c = {job="j", i!="k"}) m{c, x="y"}')
    assert isinstance(node, ast.Selector)
    assert [matcher.name for matcher in node.matchers] == ["__name__", "job", "i", "x"]


def test_arguments_of_templates_are_expressions() -> None:
    node = parse("with (ratio(a, b) = a / b) ratio(sum(x), sum(y)) * 2")
    assert isinstance(node, ast.Binary)
    assert isinstance(node.left, ast.Paren)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1:1: parse error: no expression found in input"),
        ("sum(", "1:5: parse error: unclosed left parenthesis"),
        ("foo bar", '1:5: parse error: unexpected identifier "bar"'),
        ("1 +", "1:4: parse error: unexpected end of input"),
        ("a +\n bool b", "1:3: parse error: bool modifier can only be used on comparison operators"),
        ("a\n + nope(b)", '2:4: parse error: unknown function with name "nope"'),
        ("abs(1)", '1:5: parse error: expected type instant vector in call to function "abs", got scalar'),
        ("abs()", '1:1: parse error: expected 1 argument(s) in call to "abs", got 0'),
        ("round(a, 1, 2)", '1:1: parse error: expected at most 2 argument(s) in call to "round", got 3'),
        ('label_join(a, "b")', '1:1: parse error: expected at least 3 argument(s) in call to "label_join", got 2'),
        ("1 == 1", "1:3: parse error: comparisons between scalars must use BOOL modifier"),
        ('1 + "a"', "1:5: parse error: binary expression must contain only scalar and instant vector types"),
        ('-"a"', "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector"),
        ("1 + on(a) b", "1:1: parse error: vector matching only allowed between instant vectors"),
        ('{a=""}', "1:1: parse error: vector selector must contain at least one non-empty matcher"),
        ('m{a=~"("}', "1:3: parse error: error parsing regexp: missing closing ): `^(?s:()$`"),
        ("m[0s]", "1:3: parse error: duration must be greater than 0"),
        ("m[5m", "1:5: parse error: unclosed left bracket"),
        ("sum(m)[5m]", "1:7: parse error: ranges only allowed for vector selectors"),
        ("m offset 1m[5m]", "1:12: parse error: no offset or @ modifiers allowed before range"),
        ("m offset 1m offset 2m", "1:13: parse error: offset may not be set multiple times"),
        ("5q", '1:1: parse error: bad number or duration syntax: "5q"'),
        ('"a', "1:1: parse error: unterminated quoted string"),
        (r'"\q"', "1:1: parse error: unknown escape sequence U+0071 'q'"),
        ("m ~ 1", "1:3: parse error: unexpected character: '~'"),
        ("m @ 1e30", "1:5: parse error: timestamp out of bounds for @ modifier"),
        ("m[5m] anchored smoothed", "1:1: parse error: anchored and smoothed modifiers cannot be used together"),
        ("1 + m[5m:1m] anchored", "1:5: parse error: anchored modifier is not supported for subqueries"),
        ("sum(m) smoothed", "1:1: parse error: smoothed modifier not implemented"),
        ("(m[5m]) anchored", "1:1: parse error: anchored modifier not implemented"),
        ("smoothed(m)", '1:9: parse error: unexpected "("'),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(text)
    assert str(caught.value).startswith(message)


def test_position_of_a_refusal() -> None:
    with pytest.raises(ParseError) as caught:
        parse("sum(\n  nope(a))")
    assert caught.value.position == 7


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(ParseError, match="nested too deeply"):
        parse("(" * 10_000 + "1" + ")" * 10_000)
    with pytest.raises(ParseError, match="nested too deeply"):
        parse("-" * 10_000 + "1")


def test_parse_selector() -> None:
    assert [m.value for m in parse_selector('up{job="x"}').matchers] == ["up", "x"]
    for text in ("sum(up)", "up[5m]", "up offset 5m", "1"):
        with pytest.raises(ParseError):
            parse_selector(text)


def test_every_token_has_its_place() -> None:
    text = 'sum by (a) (rate(m{b="c"}[5m:1m] offset 1h)) >= bool 1.5 # end'
    assert all(text.startswith(t.text, t.position) for t in tokens(text) if t.kind not in ("string", "end"))
