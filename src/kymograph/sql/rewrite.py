"""Writes our time-series functions as what DataFusion has: token by token, before the planner sees the statement.

time_bucket(width, time[, origin])   integer arithmetic on µs, or date_bin for calendar months
first(value, time)                   first_value(value ORDER BY time)
last(value, time)                    last_value(value ORDER BY time)
counter_increase(value, time)        one vectorised function over the group's values and times
counter_rate(value, time)            the same
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kymograph.errors import QueryError
from kymograph.model.time import DAY, to_micros
from kymograph.sql import counters
from kymograph.sql.parameters import Parameters
from kymograph.sql.tokens import Token, closing, is_call, split_commas
from kymograph.sql.width import MONDAY, width_of

GAPFILL = frozenset(("time_bucket_gapfill", "locf", "interpolate"))
_MICROS = "'Timestamp(Microsecond, Some(\"UTC\"))'"
_Rewriter = Callable[[list[list[Token]], str, Parameters], str]


def render(tokens: Sequence[Token], params: Parameters) -> str:
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
        if token.is_word("select"):
            select = position
        if is_call(tokens, position, GAPFILL):
            raise QueryError(
                f"{token.value} cannot stand here",
                hint="time_bucket_gapfill is a whole item of the SELECT list; locf and interpolate stand beside it",
            )
        if not is_call(tokens, position, _NAMES):
            written.append(f" {token.text}" if token.spaced and written else token.text)
            position += 1
            continue
        close = closing(tokens, position + 1)
        arguments = split_commas(tokens[position + 2 : close])
        after = close + 1
        filtered = ""
        if token.value in _AGGREGATES:
            filtered, after = _filter(tokens, after, params)
            if after < len(tokens) and tokens[after].is_word("over"):
                raise QueryError(f"{token.value} is no window function", hint="group in a sub-select first")
        text = _CALLS[token.value](arguments, filtered, params)
        if (select, token.value) not in taken and _stands_alone(tokens, position, after):
            taken.add((select, token.value))
            text = f'{text} AS "{token.value}"'
        written.append(f" {text}")
        position = after
    return "".join(written)


def _stands_alone(tokens: Sequence[Token], begin: int, end: int) -> bool:
    """Whether [begin, end) is one whole, unnamed item of a SELECT list."""
    if tokens[begin].clause != "select" or begin == 0:
        return False
    before = tokens[begin - 1]
    follows = (
        end == len(tokens) or tokens[end].is_punct(",") or tokens[end].is_word("from") or tokens[end].is_punct(")")
    )
    return follows and (before.is_word("select", "distinct", "all") or before.is_punct(","))


def _filter(tokens: Sequence[Token], begin: int, params: Parameters) -> tuple[str, int]:
    """The text of `FILTER (…)` at `begin`, if there, and where it ends."""
    if begin + 1 < len(tokens) and tokens[begin].is_word("filter") and tokens[begin + 1].is_punct("("):
        close = closing(tokens, begin + 1)
        return " " + render(tokens[begin : close + 1], params), close + 1
    return "", begin


def _check(name: str, arguments: list[list[Token]], least: int, most: int, form: str) -> None:
    if not least <= len(arguments) <= most or not all(arguments):
        raise QueryError(f"{name} got {len(arguments)} arguments", hint=f"write {name}({form})")


def _time_bucket(arguments: list[list[Token]], _: str, params: Parameters) -> str:
    _check("time_bucket", arguments, 2, 3, "width, time[, origin]")
    width = width_of(arguments[0], params)
    time = f"arrow_cast({render(arguments[1], params)}, {_MICROS})"
    origin = _origin(arguments[2], params) if len(arguments) == 3 else None
    if width.months:
        since = "2000-01-01T00:00:00Z" if origin is None else None
        base = f"TIMESTAMP '{since}'" if since else f"arrow_cast({origin}, {_MICROS})"
        return f"arrow_cast(date_bin(INTERVAL '{width.months} months', {time}, {base}), {_MICROS})"
    if origin is None and DAY % width.micros:
        origin = MONDAY
    # % follows the sign of the dividend, so that times before the origin need the width added once
    micros = f"arrow_cast({time}, 'Int64')"
    w, o = width.micros, (origin or 0) % width.micros
    since_origin = f"({micros} - {o})" if o else micros
    return f"arrow_cast({micros} - (({since_origin} % {w} + {w}) % {w}), {_MICROS})"


def _origin(tokens: list[Token], params: Parameters) -> int:
    """µs of an origin written as text, TIMESTAMP text or a parameter."""
    words = [t for t in tokens if not t.is_word("timestamp", "timestamptz", "date")]
    if len(words) == 1 and words[0].kind == "string":
        return to_micros(words[0].value)
    if len(words) == 1 and words[0].kind == "param" and words[0].value in params:
        return to_micros(params[words[0].value])
    raise QueryError("the origin of time_bucket is neither a timestamp, a text nor a parameter")


def _first(arguments: list[list[Token]], filtered: str, params: Parameters) -> str:
    _check("first", arguments, 2, 2, "value, time")
    value, time = (render(a, params) for a in arguments)
    return f"first_value({value} ORDER BY {time} ASC NULLS LAST){filtered}"


def _last(arguments: list[list[Token]], filtered: str, params: Parameters) -> str:
    _check("last", arguments, 2, 2, "value, time")
    value, time = (render(a, params) for a in arguments)
    return f"last_value({value} ORDER BY {time} ASC NULLS FIRST){filtered}"


def _counter(name: str, function: str) -> _Rewriter:
    def write(arguments: list[list[Token]], filtered: str, params: Parameters) -> str:
        _check(name, arguments, 2, 2, "value, time")
        value, time = (render(a, params) for a in arguments)
        values = f"array_agg(CAST({value} AS DOUBLE)){filtered}"
        return f"{function}({values}, array_agg(arrow_cast({time}, {_MICROS})){filtered})"

    return write


_CALLS: dict[str, _Rewriter] = {
    "time_bucket": _time_bucket,
    "first": _first,
    "last": _last,
    "counter_increase": _counter("counter_increase", counters.INCREASE),
    "counter_rate": _counter("counter_rate", counters.RATE),
}
_NAMES = frozenset(_CALLS)
_AGGREGATES = _NAMES - {"time_bucket"}
