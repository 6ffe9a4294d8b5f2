"""A tree back to text: on one line, or indented where a line would grow too long, both as Prometheus writes them."""

from __future__ import annotations

import re

from kymograph.promql import ast
from kymograph.promql.ast import Node
from kymograph.promql.functions import AGGREGATORS
from kymograph.promql.result import number

_LINE = 100
_PLAIN = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")
_METRIC = re.compile("[a-zA-Z_:][a-zA-Z0-9_:]*")
_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
_ESCAPES |= {"\\": "\\\\", '"': '\\"'}
# ms; years and weeks only where nothing is left over
_UNITS = {"y": 31_536_000_000, "w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


def text_of(node: Node) -> str:
    """The expression on one line, with every modifier where Prometheus puts it and matchers sorted."""
    if isinstance(node, ast.Number):
        if node.span:
            return "-" * (node.value < 0) + duration(round(abs(node.value) * 1e6))
        return number(node.value)
    if isinstance(node, ast.String):
        return quote(node.value)
    if isinstance(node, ast.Paren):
        return f"({text_of(node.expression)})"
    if isinstance(node, ast.Unary):
        return node.operator + text_of(node.expression)
    if isinstance(node, ast.Selector):
        return _selector(node)
    if isinstance(node, ast.Subquery):
        return text_of(node.expression) + _subquery(node)
    if isinstance(node, ast.Call):
        return f"{node.function}({', '.join(map(text_of, node.arguments))}){_keeps(node)}"
    if isinstance(node, ast.Aggregate):
        return f"{_aggregation(node)}({', '.join(map(text_of, _inputs(node)))})"
    assert isinstance(node, ast.Binary)
    return f"{text_of(node.left)} {_operator(node)} {text_of(node.right)}{_keeps(node)}"


def pretty(node: Node, level: int = 0) -> str:
    """The expression, its parts on lines of their own wherever a part is longer than 100 characters."""
    pad, plain = "  " * level, text_of(node)
    if isinstance(node, ast.Unary):
        return pad + node.operator + pretty(node.expression, level).strip()
    if isinstance(node, ast.Subquery):  # Prometheus does not indent a short one
        return plain if len(plain) <= _LINE else pretty(node.expression, level) + _subquery(node)
    if len(plain) <= _LINE or isinstance(node, (ast.Number, ast.String, ast.Selector)):
        return pad + plain
    if isinstance(node, ast.Binary):
        return f"{pretty(node.left, level + 1)}\n{pad}{_operator(node)}\n{pretty(node.right, level + 1)}{_keeps(node)}"
    if isinstance(node, ast.Paren):
        return f"{pad}(\n{pretty(node.expression, level + 1)}\n{pad})"
    if isinstance(node, ast.Aggregate):
        head, inner, tail = _aggregation(node), _inputs(node), ""
    else:
        assert isinstance(node, ast.Call)
        head, inner, tail = node.function, node.arguments, _keeps(node)
    return f"{pad}{head}(\n" + ",\n".join(pretty(one, level + 1) for one in inner) + f"\n{pad}){tail}"


def duration(micros: int) -> str:
    """Prometheus' text of a duration, whole milliseconds: `1h30m`, `0s`."""
    rest = micros // 1000
    if rest == 0:
        return "0s"
    found = ""
    for unit, size in _UNITS.items():
        if rest < size or (unit in "yw" and rest % size):
            continue
        found += f"{rest // size}{unit}"
        rest %= size
    return found


def quote(text: str) -> str:
    """A string literal in double quotes; what cannot be printed is escaped."""
    return '"' + "".join(_ESCAPES.get(char) or _printed(char) for char in text) + '"'


def _printed(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code < 0xDD00:  # a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if char.isprintable():
        return char
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _labels(names: tuple[str, ...]) -> str:
    return ", ".join(name if _PLAIN.fullmatch(name) else quote(name) for name in names)


def _selector(node: ast.Selector) -> str:
    name = node.name if node.outside else ""
    matchers = [m for m in node.matchers if not (name and m.name == "__name__" and m.operator == "=")]
    texts = sorted(f"{_labels((m.name,))}{m.operator}{quote(m.value)}" for m in matchers)
    braces = "{" + ",".join(texts) + "}" if texts else ""
    window = "" if node.window is None else f"[{duration(node.window)}]"
    at, offset = _when(node.when)
    edge = f" {node.edge}" if node.edge else ""
    # behind the time of an instant vector, and before that of a range vector
    placed = at + edge if node.window is None else edge + at
    return (name or ("" if braces else "{}")) + braces + window + placed + offset


def _subquery(node: ast.Subquery) -> str:
    step = "" if node.step is None else duration(node.step)
    return f"[{duration(node.window)}:{step}]{''.join(_when(node.when))}"


def _when(when: ast.When) -> tuple[str, str]:
    at = "" if when.at is None else f" @ {when.at}()" if isinstance(when.at, str) else f" @ {when.at / 1e6:.3f}"
    sign = "-" if when.offset < 0 else ""
    return at, f" offset {sign}{duration(abs(when.offset))}" if when.offset else ""


def _keeps(node: ast.Call | ast.Binary) -> str:
    return " keep_metric_names" if node.keep_names else ""


def _aggregation(node: ast.Aggregate) -> str:
    if node.without:
        return f"{node.operator} without ({_labels(node.labels)}) "
    return f"{node.operator} by ({_labels(node.labels)}) " if node.labels else node.operator


def _inputs(node: ast.Aggregate) -> tuple[Node, ...]:
    assert bool(AGGREGATORS[node.operator]) == (node.parameter is not None)
    return (node.expression,) if node.parameter is None else (node.parameter, node.expression)


def _operator(node: ast.Binary) -> str:
    matching = node.matching
    found = node.operator + (" bool" if node.returns_bool else "")
    grouped = matching.card in ("many-to-one", "one-to-many")
    if matching.labels or matching.on or grouped:
        found += f" {'on' if matching.on else 'ignoring'} ({_labels(matching.labels)})"
    if grouped:
        found += f" group_{'left' if matching.card == 'many-to-one' else 'right'} ({_labels(matching.include)})"
    left, right = matching.fill_left, matching.fill_right
    if left is not None and left == right:
        return found + f" fill ({number(left)})"
    for word, value in (("fill_left", left), ("fill_right", right)):
        if value is not None:
            found += f" {word} ({number(value)})"
    return found
