"""Writes our time-series functions as what DataFusion has: token by token, before the planner sees the statement.

time_bucket(width, time[, origin])   a function made for that width and origin
first(value, time)                   first_value(value ORDER BY time)
last(value, time)                    last_value(value ORDER BY time)
counter_increase(value, time)        one vectorised function over the group's values and times
counter_rate(value, time)            the same
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from datafusion import ScalarUDF

from kymograph.errors import QueryError
from kymograph.model.time import to_micros
from kymograph.sql import buckets, counters, ring_functions
from kymograph.sql.parameters import Parameters
from kymograph.sql.tokens import Token, closing, is_call, split_commas
from kymograph.sql.width import width_of

GAPFILL = frozenset(("time_bucket_gapfill", "locf", "interpolate"))
_GAPFILL_HINT = "time_bucket_gapfill is a whole item of the SELECT list; locf and interpolate stand beside it"
_NAMES = frozenset(("time_bucket", "first", "last", "counter_increase", "counter_rate"))
_CALLS = _NAMES | ring_functions.NAMES
_MICROS = "'Timestamp(Microsecond, Some(\"UTC\"))'"


class Rewriter:
    """Writes one statement, and remembers which functions a context needs to run it.

    Args:
        seconds: times are whole seconds since 1970, not timestamps.

    Attributes:
        functions: by name.
        floors: what those that stand for time_bucket do, by name.
    """

    def __init__(self, params: Parameters, *, seconds: bool = False) -> None:
        self.functions: dict[str, ScalarUDF] = {}
        self.floors: dict[str, buckets.Floor] = {}
        self._params = params
        self._seconds = seconds
        self._calls: dict[str, Callable[[list[list[Token]], str], str]] = {
            "time_bucket": self._time_bucket,
            "first": self._first,
            "last": self._last,
            "counter_increase": partial(self._counter, "counter_increase"),
            "counter_rate": partial(self._counter, "counter_rate"),
        }

    def render(self, tokens: Sequence[Token]) -> str:
        """The statement DataFusion gets.

        A call of ours that stands alone in a SELECT list without an alias is named after its function.

        Raises:
            QueryError: a call with wrong arguments, or a gap-filling function out of its place.
        """
        written: list[str] = []
        taken: set[tuple[int, str]] = set()
        select = position = 0
        while position < len(tokens):
            token = tokens[position]
            if token.kind != "word":
                written.append(f" {token.text}" if token.spaced else token.text)
                position += 1
                continue
            if token.value == "select":
                select = position
            if is_call(tokens, position, GAPFILL):
                raise QueryError(f"{token.value} cannot stand here", hint=_GAPFILL_HINT)
            if not is_call(tokens, position, _CALLS):
                written.append(f" {token.text}" if token.spaced else token.text)
                position += 1
                continue
            text, after = self._call(tokens, position)
            if (select, token.value) not in taken and _stands_alone(tokens, position, after):
                taken.add((select, token.value))
                text = f'{text} AS "{token.value}"'
            written.append(f" {text}")
            position = after
        return "".join(written)

    def _call(self, tokens: Sequence[Token], begin: int) -> tuple[str, int]:
        """The text of our call at `begin`, its FILTER included, and where it ends."""
        name = tokens[begin].value
        close = closing(tokens, begin + 1)
        arguments = split_commas(tokens[begin + 2 : close])
        after, filtered = close + 1, ""
        if name in ring_functions.NAMES:
            return self._ring_call(name, arguments, tokens, after)
        if name != "time_bucket":
            if after + 1 < len(tokens) and tokens[after].is_word("filter") and tokens[after + 1].is_punct("("):
                end = closing(tokens, after + 1) + 1
                filtered = " " + self.render(tokens[after:end])
                after = end
            if after < len(tokens) and tokens[after].is_word("over"):
                if name == "counter_rate" and not filtered:
                    over, after = self._over(tokens, after)
                    return self._counter_step(arguments) + over, after
                raise QueryError(f"{name} is no window function", hint="group in a sub-select first")
        return self._calls[name](arguments, filtered), after

    def _ring_call(
        self, name: str, arguments: list[list[Token]], tokens: Sequence[Token], after: int
    ) -> tuple[str, int]:
        """A call that DataFusion knows, but for fractions where whole numbers are meant; its OVER included."""
        form = ring_functions.FORMS[name]
        count = form.count(",") + 1
        _check(name, arguments, count, count, form)
        write = self._floored if name in ring_functions.WHOLE else self.render
        over, after = self._over(tokens, after)
        return f"{name}({', '.join(write(argument) for argument in arguments)}){over}", after

    def _over(self, tokens: Sequence[Token], begin: int) -> tuple[str, int]:
        """The OVER clause that begins here, "" where there is none, and where it ends."""
        if begin + 1 >= len(tokens) or not tokens[begin].is_word("over"):
            return "", begin
        end = closing(tokens, begin + 1) + 1 if tokens[begin + 1].is_punct("(") else begin + 2
        return " " + self.render(tokens[begin:end]), end

    def _floored(self, tokens: list[Token]) -> str:
        """A number as BIGINT, floored, whatever type it has; null where it has none of these."""
        text = self.render(tokens)
        # theirs are whole already, and writing an argument three times at every level would grow without bound
        if all(token.kind == "punct" or token.text.isdigit() for token in tokens):
            return text
        if any(is_call(tokens, place, ring_functions.WHOLE) for place in range(len(tokens))):
            return text
        whole = f"TRY_CAST({text} AS BIGINT)"
        return f"({whole} - CAST(({text}) < {whole} AS BIGINT))"

    def _time_bucket(self, arguments: list[list[Token]], _: str) -> str:
        _check("time_bucket", arguments, 2, 3, "width, time[, origin]")
        width = width_of(arguments[0], self._params)
        origin = self._origin(arguments[2]) if len(arguments) == 3 else None
        name = buckets.name_of(width, origin)
        self.functions[name] = buckets.function(width, origin)
        self.floors[name] = buckets.Floor(width.floor_to(origin), width.micros)
        return f"{name}({self.render(arguments[1])})"

    def _origin(self, tokens: list[Token]) -> int:
        """µs of an origin written as text, TIMESTAMP text or a parameter."""
        words = [t for t in tokens if not t.is_word("timestamp", "timestamptz", "date")]
        if len(words) == 1 and words[0].kind == "string":
            return to_micros(words[0].value)
        if len(words) == 1 and words[0].kind == "param" and words[0].value in self._params:
            return to_micros(self._params[words[0].value])
        raise QueryError("the origin of time_bucket is neither a timestamp, a text nor a parameter")

    def _first(self, arguments: list[list[Token]], filtered: str) -> str:
        _check("first", arguments, 2, 2, "value, time")
        value, time = (self.render(a) for a in arguments)
        return f"first_value({value} ORDER BY {time} ASC NULLS LAST){filtered}"

    def _last(self, arguments: list[list[Token]], filtered: str) -> str:
        _check("last", arguments, 2, 2, "value, time")
        value, time = (self.render(a) for a in arguments)
        return f"last_value({value} ORDER BY {time} ASC NULLS FIRST){filtered}"

    def _counter_step(self, arguments: list[list[Token]]) -> str:
        _check("counter_rate", arguments, 2, 2, "value, time")
        return f"{ring_functions.COUNTER_STEP}({self.render(arguments[0])}, {self._moment(arguments[1])})"

    def _moment(self, tokens: list[Token]) -> str:
        """A time as timestamp[us, UTC]."""
        time = self.render(tokens)
        return f"arrow_cast({f'to_timestamp_seconds({time})' if self._seconds else time}, {_MICROS})"

    def _counter(self, name: str, arguments: list[list[Token]], filtered: str) -> str:
        _check(name, arguments, 2, 2, "value, time")
        value, time = self.render(arguments[0]), self._moment(arguments[1])
        function = counters.function(name)
        self.functions[function.name] = function
        values = f"array_agg(CAST({value} AS DOUBLE)){filtered}"
        return f"{function.name}({values}, array_agg({time}){filtered})"


def _stands_alone(tokens: Sequence[Token], begin: int, end: int) -> bool:
    """Whether [begin, end) is one whole, unnamed item of a SELECT list."""
    if tokens[begin].clause != "select" or begin == 0:
        return False
    before = tokens[begin - 1]
    follows = (
        end == len(tokens) or tokens[end].is_punct(",") or tokens[end].is_word("from") or tokens[end].is_punct(")")
    )
    return follows and (before.is_word("select", "distinct", "all") or before.is_punct(","))


def _check(name: str, arguments: list[list[Token]], least: int, most: int, form: str) -> None:
    if not least <= len(arguments) <= most or not all(arguments):
        raise QueryError(f"{name} got {len(arguments)} arguments", hint=f"write {name}({form})")
