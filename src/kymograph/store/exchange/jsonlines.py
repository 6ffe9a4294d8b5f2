"""Reading JSON lines: one object per line, in chunks, every error with its line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from kymograph.errors import InvalidInput, TimeError
from kymograph.model.time import TIME, TIME_TYPE, time_array

_ROWS = 16_384
# one object; a line beyond this is no telemetry but an attempt to fill the memory
MAX_LINE = 16 * 2**20
_SPECIAL = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
DIGITS = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_UNFIT = (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, TypeError, TimeError)
_Row = dict[str, Any]


@dataclass
class Lines:
    """Some objects of a file and the number of the line of each."""

    rows: list[_Row] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    def names(self) -> list[str]:
        """Every name that some row has, in the order they appear."""
        return list(dict.fromkeys(chain.from_iterable(self.rows)))

    def column(self, name: str) -> list[Any]:
        """The values of one name, None where a row lacks it."""
        return [row.get(name) for row in self.rows]


def json_rows(file: Any) -> Iterator[Lines]:
    """The objects of a file in chunks; empty lines are passed over.

    Raises:
        InvalidInput: a line that is no object of numbers, texts, truths and nulls; names the line.
    """
    chunk = Lines()
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise InvalidInput(f"line {number} is longer than {MAX_LINE:,} bytes")
        if not line.strip():
            continue
        chunk.rows.append(_object(line, number))
        chunk.numbers.append(number)
        if len(chunk.rows) == _ROWS:
            yield chunk
            chunk = Lines()
    if chunk.rows:
        yield chunk


def _object(line: bytes, number: int) -> _Row:
    try:
        row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except (ValueError, RecursionError) as problem:
        raise InvalidInput(f"line {number} is not JSON: {problem}") from None
    if not isinstance(row, dict):
        raise InvalidInput(f"line {number} is not a JSON object")
    return row


def infer_rows(chunks: Iterable[Lines], known: Mapping[str, pa.DataType]) -> dict[str, pa.DataType]:
    """Type per name over all rows; names that are `known` or only ever null are left out.

    Raises:
        InvalidInput: values of kinds that no column holds together; names the column and the kinds.
    """
    kinds: dict[str, set[str]] = {}
    for chunk in chunks:
        for name in chunk.names():
            if name == TIME or name in known:
                continue
            kinds.setdefault(name, set()).update(_kinds(chunk, name))
    return {name: _column_type(name, found) for name, found in kinds.items() if found}


def _kinds(chunk: Lines, name: str) -> set[str]:
    values = chunk.column(name)
    found = set()
    for kind in set(map(type, values)) - {type(None)}:
        if kind is int:
            numbers = [value for value in values if type(value) is int]
            low, high = min(numbers), max(numbers)
            wide = "uint" if low >= 0 and high < 2**64 else "float"
            found.add("int" if low >= -(2**63) and high < 2**63 else wide)
        elif kind is str:
            special = all(value in _SPECIAL for value in values if type(value) is str)
            found.add("special" if special else "text")
        elif kind in (bool, float):
            found.add(kind.__name__)
        else:
            at = next(at for at, value in enumerate(values) if type(value) is kind)
            raise InvalidInput(f"line {chunk.numbers[at]}: {name!r} is not a number, a text, true, false or null")
    return found


def _column_type(name: str, found: set[str]) -> pa.DataType:
    if found <= {"int"}:
        return pa.int64()
    if found <= {"int", "uint"}:
        return pa.uint64()
    if found <= {"int", "uint", "float", "special"} and found != {"special"}:
        return pa.float64()
    if found == {"bool"}:
        return pa.bool_()
    if found <= {"text", "special"}:
        return pa.string()
    raise InvalidInput(f"column {name!r} holds values that do not go together: {', '.join(sorted(found))}")


def rows_table(chunk: Lines, types: Mapping[str, pa.DataType]) -> pa.Table:
    """One chunk as a table of time and `types`; a name missing from a row is null.

    Raises:
        InvalidInput: a value that its type cannot hold, or a column without a type; names line and column.
    """
    for name in chunk.names():
        if name == TIME or name in types:
            continue
        late = next((n for n, v in zip(chunk.numbers, chunk.column(name), strict=True) if v is not None), None)
        if late is not None:
            raise InvalidInput(
                f"line {late}: column {name!r} was not there in the first {_ROWS:,} rows",
                hint="import from a file instead of a pipe, or create the table first",
            )
    columns = {TIME: _column(chunk, TIME, _times)}
    for name, kind in types.items():
        columns[name] = _column(chunk, name, partial(_values, kind))
    return pa.table(columns)


def _column(chunk: Lines, name: str, convert: Callable[[list[Any]], pa.Array]) -> pa.Array:
    values = chunk.column(name)
    try:
        return convert(values)
    except _UNFIT as problem:
        for value, number in zip(values, chunk.numbers, strict=True):
            try:
                convert([value])
            except _UNFIT as unfit:
                raise InvalidInput(f"line {number}: column {name!r}: {unfit}") from None
        raise InvalidInput(f"line {chunk.numbers[0]} or after: column {name!r}: {problem}") from None


def _times(values: list[Any]) -> pa.Array:
    if set(map(type, values)) == {str}:
        try:
            return time_array(pa.array(values, pa.string()).cast(TIME_TYPE))
        except pa.ArrowInvalid:
            pass  # not all of them carry a zone and at most six digits
    return time_array([int(v) if type(v) is str and DIGITS.fullmatch(v) else v for v in values])


def _values(kind: pa.DataType, values: list[Any]) -> pa.Array:
    # Arrow would cut a float to an integer, and take truth for a number, without a word
    allowed: tuple[type, ...] = (str,) if kind == pa.string() else (bool,) if kind == pa.bool_() else (int,)
    if pa.types.is_floating(kind):
        return _floats(kind, values)
    if set(map(type, values)) - {type(None), *allowed}:
        raise _unfit(next(v for v in values if v is not None and type(v) not in allowed), kind)
    return pa.array(values, kind)


def _floats(kind: pa.DataType, values: list[Any]) -> pa.Array:
    given = set(map(type, values)) - {type(None)}
    if given - {int, float, str}:
        raise _unfit(next(v for v in values if v is not None and type(v) not in (int, float, str)), kind)
    if str in given:
        wrong = next((v for v in values if type(v) is str and v not in _SPECIAL), None)
        if wrong is not None:
            raise _unfit(wrong, kind)
        values = [_SPECIAL[v] if type(v) is str else v for v in values]
    if int in given:
        values = [float(v) if type(v) is int else v for v in values]
    wide = pa.array(values, pa.float64())
    narrow = wide.cast(kind)
    lost = pc.and_(pc.is_inf(narrow), pc.is_finite(wide))
    if pc.any(lost).as_py():
        raise _unfit(wide[pc.index(lost, True).as_py()].as_py(), kind)
    return narrow


def _unfit(value: Any, kind: pa.DataType) -> TypeError:
    return TypeError(f"{str(value)[:80]!r} is not {kind}")
