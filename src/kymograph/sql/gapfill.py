"""`time_bucket_gapfill`, `locf` and `interpolate`: one aggregate per bucket of a range, also where there are no rows.

    SELECT time_bucket_gapfill('5 minutes', time[, start, finish]) AS bucket, host, locf(avg(v)) AS v
    FROM t WHERE time >= … AND time < … GROUP BY bucket, host [HAVING …] [ORDER BY bucket] [LIMIT …]

Such a SELECT (the whole statement, or a sub-select or WITH query in it) runs first, with time_bucket in its place and
without its ORDER BY and LIMIT. Its result is filled here and stands in the outer statement as a table. The text form:

* time_bucket_gapfill, locf(x) and interpolate(x) are whole items of the SELECT list, each with an optional alias.
* Every GROUP BY item is in the SELECT list: by position, by alias or column name, or written the same.
* ORDER BY names output columns or positions.
* In a WITH query or sub-select it reads tables, not the statement's other WITH queries; the main SELECT reads both.
* The range is `start, finish` if given (half-open), else what WHERE says about `time`.

Values of a bucket without rows are null. locf carries the last bucket's value onward, interpolate draws the line
between the buckets around the gap (float64); both take a bucket that has rows but no value as null, as TimescaleDB does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kymograph.errors import QueryError
from kymograph.model.time import to_micros
from kymograph.sql.parameters import Parameters
from kymograph.sql.tokens import Token, closing, is_call, name_token, split_commas
from kymograph.sql.width import Width, width_of

Fill = Literal["null", "locf", "interpolate", "key", "bucket"]
_BUCKET = frozenset(("time_bucket_gapfill",))
_FILLS = frozenset(("locf", "interpolate"))
_SETS = ("union", "except", "intersect")
_CLAUSES = frozenset(
    (*_SETS, "from", "where", "group", "having", "order", "limit", "offset", "fetch", "window", "qualify")
)


@dataclass(frozen=True)
class Block:
    """One gap-filling SELECT, taken apart.

    Attributes:
        begin, end: the tokens [begin, end) it takes in the statement.
        inner: what to run: the same SELECT with plain buckets, unordered.
        tail: ORDER BY, LIMIT and OFFSET, to be applied after filling.
        fills: per output column, how a gap is filled; one is "bucket".
        width, start, finish: the buckets; None where WHERE has to tell.
    """

    begin: int
    end: int
    inner: list[Token]
    tail: list[Token]
    fills: tuple[Fill, ...]
    width: Width
    start: int | None
    finish: int | None


@dataclass(frozen=True)
class _Item:
    tokens: list[Token]
    expression: list[Token]
    name: str
    fill: Fill


def find_block(tokens: Sequence[Token], params: Parameters) -> Block | None:
    """The first gap-filling SELECT of a statement, or None.

    Raises:
        QueryError: it is not of the form above.
    """
    call = next((i for i in range(len(tokens)) if is_call(tokens, i, _BUCKET)), None)
    if call is None:
        return None
    begin, end = _bounds(tokens, call)
    clauses = _clauses(tokens, begin, end)
    if "from" not in clauses or "group" not in clauses:
        raise QueryError("time_bucket_gapfill needs a FROM and a GROUP BY in its own SELECT")
    if any(word in clauses for word in _SETS):
        raise QueryError("a gap-filling SELECT cannot be part of a UNION", hint="put it into a WITH query of its own")
    order = sorted((at, word) for word, at in clauses.items())
    after = {word: (order[k + 1][0] if k + 1 < len(order) else end) for k, (_, word) in enumerate(order)}
    items = [_item(part) for part in split_commas(tokens[begin + 1 : clauses["from"]])]
    buckets = [item for item in items if item.fill == "bucket"]
    if len(buckets) != 1:
        raise QueryError("time_bucket_gapfill must be one whole item of the SELECT list, and there only once")
    keys = _keys(items, split_commas(tokens[clauses["group"] + 2 : after["group"]]))
    tail_begin = min((clauses[w] for w in ("order", "limit", "offset", "fetch") if w in clauses), default=end)
    if any(is_call(tokens, i, _BUCKET | _FILLS) for i in range(tail_begin, end)):
        raise QueryError("ORDER BY beside time_bucket_gapfill names output columns", hint="give the item an alias")
    width, start, finish = _arguments(buckets[0].expression, params)
    listed = [token for k, item in enumerate(items) for token in (*_comma(k), *_plain(item))]
    inner = [tokens[begin], *listed, *tokens[clauses["from"] : clauses["group"]]]
    positions = [token for n, k in enumerate(keys) for token in (*_comma(n), _number(k + 1))]
    inner += [*tokens[clauses["group"] : clauses["group"] + 2], *positions, *tokens[after["group"] : tail_begin]]
    fills = tuple(item.fill if item.fill != "null" or k not in keys else "key" for k, item in enumerate(items))
    return Block(begin, end, inner, list(tokens[tail_begin:end]), fills, width, start, finish)


def _bounds(tokens: Sequence[Token], call: int) -> tuple[int, int]:
    """[begin, end) of the SELECT whose list holds the token at `call`."""
    depth, begin = 0, -1
    for i in range(call, -1, -1):
        token = tokens[i]
        if token.kind == "punct":
            depth += (token.value in ")]}") - (token.value in "([{")
        if depth < 0:
            break
        if depth == 0 and token.is_word("select"):
            begin = i
            break
    if begin < 0 or tokens[begin + 1].is_word("distinct"):
        raise QueryError(
            "time_bucket_gapfill cannot stand here", hint="make it a whole item of a SELECT list, without DISTINCT"
        )
    depth = 0
    for i in range(begin, len(tokens)):
        token = tokens[i]
        if token.kind == "punct":
            depth += (token.value in "([{") - (token.value in ")]}")
            if depth < 0:
                return begin, i
    return begin, len(tokens)


def _clauses(tokens: Sequence[Token], begin: int, end: int) -> dict[str, int]:
    """Where each clause of a SELECT begins."""
    found: dict[str, int] = {}
    depth = 0
    for i in range(begin, end):
        token = tokens[i]
        if token.kind == "punct":
            depth += (token.value in "([{") - (token.value in ")]}")
        elif depth == 0 and token.kind == "word" and token.value in _CLAUSES and not tokens[i - 1].is_punct("."):
            found.setdefault(token.value, i)
    return found


def _item(tokens: list[Token]) -> _Item:
    expression, name = tokens, ""
    if len(tokens) > 2 and tokens[-2].is_word("as"):
        expression, name = tokens[:-2], tokens[-1].value
    elif len(tokens) > 1 and tokens[-1].kind in ("word", "name") and tokens[-2].is_punct(")"):
        expression, name = tokens[:-1], tokens[-1].value
    if not expression:
        raise QueryError("the SELECT list has an empty item")
    whole = len(expression) > 1 and expression[1].is_punct("(") and closing(expression, 1) == len(expression) - 1
    fill: Fill = "null"
    if whole and is_call(expression, 0, _BUCKET):
        fill, name = "bucket", name or "time_bucket_gapfill"
    elif whole and is_call(expression, 0, _FILLS):
        fill = "locf" if expression[0].value == "locf" else "interpolate"
        name = name or expression[0].value
    elif not name and expression[-1].kind in ("word", "name"):
        name = expression[-1].value
    return _Item(tokens, expression, name, fill)


def _keys(items: list[_Item], groups: list[list[Token]]) -> list[int]:
    """Positions in the SELECT list of what the query groups by."""
    keys = []
    for group in groups:
        written = [t.text.lower() for t in group]
        for k, item in enumerate(items):
            position = len(group) == 1 and group[0].kind == "number" and group[0].value == str(k + 1)
            alias = len(group) == 1 and group[0].kind in ("word", "name") and group[0].value == item.name
            if position or alias or written == [t.text.lower() for t in item.expression]:
                keys.append(k)
                break
        else:
            shown = " ".join(t.text for t in group)[:80]
            raise QueryError(f"GROUP BY {shown!r} is not in the SELECT list", hint="gap filling needs every key there")
    if not any(items[k].fill == "bucket" for k in keys):
        raise QueryError("GROUP BY must name the item with time_bucket_gapfill")
    if any(items[k].fill in _FILLS for k in keys):
        raise QueryError("locf and interpolate take aggregates, not what the query groups by")
    return keys


def _plain(item: _Item) -> list[Token]:
    """The item with time_bucket in place of the gap-filling one, locf and interpolate gone, and its name kept."""
    named = [Token("word", "as", "AS"), name_token(item.name)]
    if item.fill == "bucket":
        arguments = split_commas(item.expression[2:-1])[:2]
        listed = [token for k, part in enumerate(arguments) for token in (*_comma(k), *part)]
        return [Token("word", "time_bucket", "time_bucket"), _punct("("), *listed, _punct(")"), *named]
    if item.fill in _FILLS:
        return [*item.expression[2:-1], *named]
    return item.tokens


def _arguments(call: list[Token], params: Parameters) -> tuple[Width, int | None, int | None]:
    parts = split_commas(call[2:-1])
    if not 2 <= len(parts) <= 4 or not all(parts):
        raise QueryError(
            f"time_bucket_gapfill got {len(parts)} arguments",
            hint="write time_bucket_gapfill(width, time[, start, finish])",
        )
    start, finish = (_moment(parts[k], params) if len(parts) > k else None for k in (2, 3))
    return width_of(parts[0], params), start, finish


def _moment(tokens: list[Token], params: Parameters) -> int | None:
    words = [t for t in tokens if not t.is_word("timestamp", "timestamptz", "date")]
    if len(words) == 1 and words[0].kind == "string":
        return to_micros(words[0].value)
    if len(words) == 1 and words[0].is_word("null"):
        return None
    if len(words) == 1 and words[0].kind == "param" and words[0].value in params:
        value = params[words[0].value]
        return None if value is None else to_micros(value)
    raise QueryError("start and finish of time_bucket_gapfill are timestamps, texts or parameters")


def _comma(k: int) -> list[Token]:
    return [_punct(",")] if k else []


def _punct(character: str) -> Token:
    return Token("punct", character, character)


def _number(value: int) -> Token:
    return Token("number", str(value), str(value))
