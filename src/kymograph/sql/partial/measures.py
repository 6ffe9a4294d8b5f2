"""What is summed up per run of rows, and how an aggregate is written with it.

sum(x)    sum(total)
avg(x)    sum(floats) / sum(valid)      NULL where no value is: the sum is NULL, too
count(x)  coalesce(sum(valid), 0)
count(*)  coalesce(sum(rows), 0)
min(x)    min(least)
max(x)    max(most)

Where summaries may answer, also these, of which `groups` makes what can be put together:

var_pop(x)      (sum(square) - sum(apart)² / sum(valid)) / sum(valid)      the second part is what rounding left
first(x, time)  max(first)          null in all runs but the one that the group begins with
last(x, time)   max(last)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from kymograph.model.schema import LABEL_TYPE, TableSchema
from kymograph.model.time import TIME, TIME_TYPE
from kymograph.sql.prune import Key
from kymograph.sql.tokens import Token, name_token, tokenize

Kind = Literal[
    "rows", "valid", "total", "floats", "least", "most", "apart", "square", "first", "last", "begun", "ended"
]
# No table, column or alias of a statement that is rewritten begins so.
PREFIX = "__partial"
# Whether it divides by one less than the count, and whether the root is taken.
SPREADS = {
    "var": (True, False),
    "var_samp": (True, False),
    "var_sample": (True, False),
    "var_pop": (False, False),
    "var_population": (False, False),
    "stddev": (True, True),
    "stddev_samp": (True, True),
    "stddev_pop": (False, True),
}
ENDS: dict[str, Kind] = {"first": "first", "first_value": "first", "last": "last", "last_value": "last"}
AGGREGATES = frozenset(("sum", "avg", "count", "min", "max", *SPREADS, *ENDS))

# Aggregate that puts several runs of one group together.
MERGED_BY: dict[Kind, str] = {
    "rows": "sum",
    "valid": "sum",
    "total": "sum",
    "floats": "sum",
    "least": "min",
    "most": "max",
    "apart": "sum",
    "square": "sum",
    "first": "max",
    "last": "max",
}
# Those that `groups` has to see all runs for.
GROUPED = frozenset(("apart", "square", "first", "last"))


class Unfit(Exception):
    """A statement, or the data it meets, is not one for sums before SQL. Never leaves `kymograph.sql`."""


class NeverFit(Unfit):
    """The statement itself is not, whatever the data: the planner sees more in it than its text shows."""


@dataclass(frozen=True)
class Measure:
    """One number per run.

    Attributes:
        kind: rows: how many; valid: how many are not null; total: sum as `sum` types it (64 bits, wrapping; or double);
            floats: sum as `avg` takes it, in doubles; least, most: as `min` and `max`; square: squared deviations from
            the mean, and apart: the sum, before `groups` takes both from the mean of the group; first, last: of the
            values, a null too; begun, ended: when these were.
        column: what is measured, a field or `time`; "" for rows.
        type: Arrow type of the number.
    """

    kind: Kind
    column: str
    type: pa.DataType


@dataclass
class StandIn:
    """A table as a SELECT sees it whose aggregates are written with measures.

    Attributes:
        name: what the statement calls it now.
        key: schema and name of the real table.
        relation: what the statement calls the real table.
        shown: what names of result columns call it.
        measures: by the name of their column.
        whole: whether summaries may answer: then also for aggregates that need all runs of a group.
    """

    name: str
    key: Key
    relation: str
    shown: str
    table: TableSchema
    measures: dict[str, Measure] = field(default_factory=dict)
    whole: bool = False

    @property
    def schema(self) -> pa.Schema:
        """The real columns, labels as plain text, then the measures."""
        fields = [field.with_type(pa.string()) if field.type == LABEL_TYPE else field for field in self.table.arrow]
        return pa.schema([*fields, *(pa.field(name, measure.type) for name, measure in self.measures.items())])

    def written(self, function: str, column: str, before: list[Token]) -> list[Token]:
        """The aggregate of `column` ("" for `*`), written with measures.

        Args:
            before: the qualifier as the statement has it, or nothing.

        Raises:
            Unfit: an aggregate that is not made of measures.
        """
        if function == "count":
            name = self._measure("valid" if column else "rows", column, pa.int64())
            return [_punct("("), *_call("coalesce", [*_of("sum", before, name), _punct(","), _ZERO]), _punct(")")]
        kind = self.table.arrow.field(column).type
        if function in ("min", "max"):
            if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or column == TIME):
                raise Unfit
            name = self._measure("least" if function == "min" else "most", column, kind)
            return _of(function, before, name)
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise Unfit
        if function in SPREADS or function in ENDS:
            return self._grouped(function, column, before)
        if function == "sum":
            return _of("sum", before, self._measure("total", column, _sum_type(kind)))
        floats = self._measure("floats", column, pa.float64())
        valid = self._measure("valid", column, pa.int64())
        return [_punct("("), *_of("sum", before, floats), _punct("/"), *_of("sum", before, valid), _punct(")")]

    def _grouped(self, function: str, column: str, before: list[Token]) -> list[Token]:
        if not self.whole:
            raise Unfit
        if function in ENDS:
            kind = ENDS[function]
            return _of("max", before, self._measure(kind, column, self.table.arrow.field(column).type))
        parts = dict(zip(("n", "d", "q"), (_of("sum", before, name) for name in self.spread(column)), strict=True))
        sample, root = SPREADS[function]
        text = "greatest(q - d * d / n, 0.0) / " + ("(n - 1)" if sample else "n")
        text = f"(CASE WHEN n > {int(sample)} THEN {f'sqrt({text})' if root else text} END)"
        return [one for token in tokenize(text) for one in parts.get(token.value, [token])]

    def spread(self, column: str) -> tuple[str, str, str]:
        """Names of the measures that the spread of a column is made of: valid, apart, square."""
        return (
            self._measure("valid", column, pa.int64()),
            self._measure("apart", column, pa.float64()),
            self._measure("square", column, pa.float64()),
        )

    def _measure(self, kind: Kind, column: str, type_: pa.DataType) -> str:
        # numbered, because a field may have any name
        name = f"{PREFIX}_{kind}_{self.table.columns.index(column)}" if column else f"{PREFIX}_{kind}"
        self.measures[name] = Measure(kind, column, type_ if column != TIME or kind == "valid" else TIME_TYPE)
        return name


def _sum_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_floating(kind):
        return pa.float64()
    return pa.uint64() if pa.types.is_unsigned_integer(kind) else pa.int64()


_ZERO = Token("number", "0", "0")


def _of(function: str, before: list[Token], name: str) -> list[Token]:
    return _call(function, [*before, name_token(name, spaced=not before)])


def _call(function: str, arguments: list[Token]) -> list[Token]:
    return [Token("word", function, function), _punct("("), *arguments, _punct(")")]


def _punct(character: str) -> Token:
    return Token("punct", character, character)
