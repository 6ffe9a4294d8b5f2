"""Finds the SELECTs of a statement that may be answered from sums, and has them read a stand-in for their table.

    SELECT host, time_bucket('5m', time) AS b, avg(v) AS v FROM t WHERE … GROUP BY 1, 2 HAVING … ORDER BY …

This half only looks at the text: one table, aggregates of plain columns, no field beside them. Whether the planner
understands it the same way is for `shape` to say. WHERE and GROUP BY stay as they are written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kymograph.model.schema import TableSchema
from kymograph.model.time import TIME
from kymograph.sql.partial.measures import AGGREGATES, ENDS, GROUPED, PREFIX, StandIn, Unfit
from kymograph.sql.prune import Key
from kymograph.sql.tokens import Token, closing, is_call, is_with_query, name_token, split_commas

_CLAUSES = ("from", "where", "group", "having", "order", "limit", "offset")
_SETS = ("union", "except", "intersect")
_REFUSED = frozenset(
    ("select", "join", "lateral", "window", "qualify", "into", "distinct", "fetch", "cluster", "distribute", "sort")
)
_AFTER_CALL = ("over", "filter", "within", "ignore", "respect")
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)

Find = Callable[[Key], TableSchema | None]


@dataclass(frozen=True)
class Rewritten:
    """A statement that reads stand-ins.

    Attributes:
        tables: stand-ins by name.
    """

    tokens: list[Token]
    tables: dict[str, StandIn]


def rewrite(tokens: Sequence[Token], tables: Find, *, whole: bool = False) -> Rewritten | None:
    """The statement with every fitting SELECT changed; None where there is none.

    Args:
        tables: what a table looks like, by schema and name; None for what is no table with samples or rows.
        whole: whether summaries may answer.
    """
    if tokens[0].is_word("explain") or any(token.value.startswith(PREFIX) for token in tokens):
        return None
    if not any(is_call(tokens, i, AGGREGATES) for i in range(len(tokens))):
        return None
    written, found = list(tokens), dict[str, StandIn]()
    for begin in range(len(tokens) - 1, -1, -1):  # from the end, so that earlier places stay where they are
        if not tokens[begin].is_word("select") or _is_value(tokens, begin):
            continue
        try:
            block = _Block(tokens, begin, tables, f"{PREFIX}_{len(found)}")
            block.stand_in.whole = whole
            written[begin : block.end] = block.written()
            found[block.stand_in.name] = block.stand_in
        except Unfit:
            continue
    return Rewritten(written, found) if found else None


class _Block:
    """One SELECT of one table."""

    def __init__(self, tokens: Sequence[Token], begin: int, tables: Find, name: str) -> None:
        self._tokens = tokens
        self._begin = begin
        self._at, self.end = _clauses(tokens, begin)
        self._items = split_commas(tokens[begin + 1 : self._at["from"]])
        self._from = list(tokens[self._at["from"] + 1 : self._after("from")])
        self.stand_in = self._standing(name, tables)
        self._fields = frozenset(column for column, _ in self.stand_in.table.fields)
        self._distinct = False
        self._aliases = {item[-1].value for item in self._items if len(item) > 1}

    def _standing(self, name: str, tables: Find) -> StandIn:
        """For the table of `FROM t`, `FROM t a` or `FROM t AS a`, where t may be `schema.t`."""
        parts, schema = self._from, ""
        if len(parts) > 2 and parts[1].is_punct("."):
            schema, parts = parts[0].value, parts[2:]
        if len(parts) == 3 and parts[1].is_word("as"):
            parts = [parts[0], parts[2]]
        if not 0 < len(parts) < 3 or any(part.kind not in ("word", "name") for part in parts):
            raise Unfit
        key = (schema, parts[0].value)
        table = None if not schema and is_with_query(self._tokens, key[1]) else tables(key)
        if table is None:
            raise Unfit
        shown = f"{schema}.{key[1]}" if schema and len(parts) == 1 else parts[-1].value
        return StandIn(name, key, parts[-1].value, shown, table)

    def _after(self, clause: str) -> int:
        """Where the clause ends."""
        return min((place for place in self._at.values() if place > self._at[clause]), default=self.end)

    def written(self) -> list[Token]:
        result = [self._tokens[self._begin]]
        for k, item in enumerate(self._items):
            result += [Token("punct", ",", ",")] if k else []
            result += self._item(item)
        relation = [Token("word", "as", "AS"), name_token(self.stand_in.relation)]
        result += [self._tokens[self._at["from"]], name_token(self.stand_in.name), *relation]
        for clause in ("where", "group", "having", "order", "limit", "offset"):
            if clause in self._at:
                part = list(self._tokens[self._at[clause] : self._after(clause)])
                result += part if clause in ("where", "group") else self._replaced(part)
        kinds = {measure.kind for measure in self.stand_in.measures.values()}
        # the planner groups by what is counted first, and not by the keys that are written
        if not kinds or (self._distinct and kinds & GROUPED):
            raise Unfit
        return result

    def _item(self, item: list[Token]) -> list[Token]:
        """An item of the SELECT list; what its column would have been called stays its name."""
        replaced = self._replaced(item)
        if replaced == item:
            return replaced
        named = item[-1].kind in ("word", "name") and (item[-2].is_word("as") or item[-2].is_punct(")"))
        if named and not item[-1].is_word("end"):
            return replaced
        whole = is_call(item, 0, AGGREGATES) and closing(item, 1) == len(item) - 1
        if whole and item[0].is_word("first", "last"):
            return [*replaced, Token("word", "as", "AS"), name_token(item[0].value)]
        column = item[-2]
        if not whole or item[0].value in ENDS or not (column.is_punct("*") or column.kind in ("word", "name")):
            raise Unfit
        shown = "*" if column.is_punct("*") else f"{self.stand_in.shown}.{column.value}"
        if shown != "*" and not all(_PLAIN.fullmatch(part) for part in (*self.stand_in.shown.split("."), column.value)):
            raise Unfit
        return [*replaced, Token("word", "as", "AS"), name_token(f"{item[0].value}({shown})")]

    def _replaced(self, part: list[Token]) -> list[Token]:
        """The tokens, every aggregate written with measures.

        Raises:
            Unfit: a field that is no plain argument of an aggregate.
        """
        result: list[Token] = []
        i = 0
        while i < len(part):
            token = part[i]
            if is_call(part, i, AGGREGATES):
                close = closing(part, i + 1)
                if self._counts_labels(part[i:close]):
                    self._distinct = True
                    result += part[i : close + 1]
                    i = close + 1
                    continue
                if close + 1 < len(part) and part[close + 1].is_word(*_AFTER_CALL):
                    raise Unfit
                column, before = self._argument(token.value, part[i + 2 : close])
                result += self.stand_in.written(token.value, column, before)
                i = close + 1
                continue
            named = i and part[i - 1].is_word("as")
            if token.kind in ("word", "name") and token.value in self._fields - self._aliases and not named:
                raise Unfit
            result.append(token)
            i += 1
        return result

    def _counts_labels(self, call: list[Token]) -> bool:
        """Whether it is `count(DISTINCT label`, which comes out the same however often a label is there."""
        return (
            len(call) > 3
            and call[0].is_word("count")
            and call[2].is_word("distinct")
            and call[-1].value in self.stand_in.table.labels
        )

    def _argument(self, function: str, tokens: list[Token]) -> tuple[str, list[Token]]:
        """Name of the column that an aggregate takes, "" for all of a row; and its qualifier as written."""
        if function in ENDS:
            tokens = self._by_time(function, tokens)
        if len(tokens) == 1 and function == "count" and (tokens[0].is_punct("*") or tokens[0].kind == "number"):
            return "", []
        before = tokens[:-1]
        if not tokens or tokens[-1].kind not in ("word", "name"):
            raise Unfit
        if before and not (len(before) == 2 and before[0].value == self.stand_in.relation and before[1].is_punct(".")):
            raise Unfit
        name = tokens[-1].value
        if name in self._fields or (name == TIME and function in ("min", "max")):
            return name, before
        raise Unfit

    def _by_time(self, function: str, tokens: list[Token]) -> list[Token]:
        """The value in `value, time`, or in `value ORDER BY time` where the function is SQL's own."""
        if function in ("first", "last"):
            parts = split_commas(tokens)
        else:
            at = next((i for i, token in enumerate(tokens[:-1]) if token.is_word("order")), 0)
            ascending = tokens[-1].is_word("asc")
            parts = [tokens[:at], tokens[at + 2 : -1 if ascending else None]]
            if not at or not tokens[at + 1].is_word("by"):
                raise Unfit
        if len(parts) != 2:
            raise Unfit
        *before, last = parts[1] or [Token("punct", "", "")]
        own = len(before) == 2 and before[0].value == self.stand_in.relation and before[1].is_punct(".")
        if last.kind not in ("word", "name") or last.value != TIME or (before and not own):
            raise Unfit
        return parts[0]


def _clauses(tokens: Sequence[Token], begin: int) -> tuple[dict[str, int], int]:
    """Where the clauses of the SELECT at `begin` are, and where it ends."""
    found: dict[str, int] = {}
    depth = 0
    for i in range(begin + 1, len(tokens)):
        token = tokens[i]
        if token.kind == "punct":
            depth += (token.value in "([{") - (token.value in ")]}")
            if depth < 0:
                return _complete(found), i
        if token.kind != "word" or tokens[i - 1].is_punct("."):
            continue
        if token.value == "select" or (depth == 0 and token.value in _REFUSED):
            raise Unfit
        if depth == 0 and token.value in _SETS:
            return _complete(found), i
        if depth == 0 and token.value in _CLAUSES:
            if tokens[i - 1].is_word("as") or token.value in found:
                raise Unfit
            found[token.value] = i
    return _complete(found), len(tokens)


def _complete(found: dict[str, int]) -> dict[str, int]:
    places = [found[clause] for clause in _CLAUSES if clause in found]
    # LIMIT and OFFSET come in either order
    if "from" not in found or places[:-2] != sorted(places[:-2]) or places[0] != min(places):
        raise Unfit
    return found


def _is_value(tokens: Sequence[Token], begin: int) -> bool:
    """Whether the SELECT stands for a value, inside an expression: the plan cannot be followed there."""
    if begin == 0 or not tokens[begin - 1].is_punct("("):
        return False
    return tokens[begin - 1].clause != "from" and not (begin > 1 and tokens[begin - 2].is_word("as", "materialized"))
