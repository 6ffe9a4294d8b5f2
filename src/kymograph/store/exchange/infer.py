"""What types the columns of text files have, judged from all of their rows, not from the first few."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from kymograph.errors import InvalidInput

# from the narrowest to the one that holds anything
_ORDER = (pa.int64(), pa.uint64(), pa.float64(), pa.bool_(), pa.string())
# +5, 007, 0x1F are texts (codes, serial numbers) that a number would not give back
_CODE = r"^[+-]?0[0-9xX]|^\+"
_BOOL = r"^(true|false|True|False|TRUE|FALSE)$"


def infer_texts(tables: Iterable[pa.Table]) -> dict[str, pa.DataType]:
    """Type per column of tables of text columns; a column without any value is left out."""
    types: dict[str, pa.DataType] = {}
    for table in tables:
        for name in table.column_names:
            column = table[name].drop_null()
            if len(column) == 0:
                continue
            known = types.get(name)
            types[name] = next(kind for kind in _ORDER if _after(known, kind) and _fits(column, kind))
    return types


def convert(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Text as another type.

    Raises:
        InvalidInput: some text is none of that type; `args[1]` is its place in the column.
    """
    try:
        converted = column.cast(kind)
    except pa.ArrowInvalid:
        at = _first_misfit(column, kind)
        raise Misfit(at, str(column[at].as_py()), kind) from None
    if pa.types.is_floating(kind):
        # what is too large for the type comes out infinite, without a word
        endless = pc.and_(pc.is_inf(converted), pc.invert(pc.match_substring_regex(column, "(?i)inf")))
        if pc.any(endless).as_py():
            at = pc.index(endless, True).as_py()
            raise Misfit(at, str(column[at].as_py()), kind)
    return converted


class Misfit(InvalidInput):
    """A text that is no value of a type.

    Attributes:
        row: its place in the column it was found in.
    """

    def __init__(self, row: int, text: str, kind: pa.DataType) -> None:
        super().__init__(f"{text[:80]!r} is not {kind}")
        self.row = row


def _after(known: pa.DataType | None, kind: pa.DataType) -> bool:
    """Whether a column judged `known` so far may become `kind`: types only widen, and truth is no number."""
    if known is None or kind == pa.string():
        return True
    if pa.bool_() in (known, kind):
        return bool(known == kind)
    return _ORDER.index(kind) >= _ORDER.index(known)


def _fits(column: pa.ChunkedArray, kind: pa.DataType) -> bool:
    if kind == pa.string():
        return True
    if kind == pa.bool_():
        return bool(pc.all(pc.match_substring_regex(column, _BOOL)).as_py())
    try:
        column.cast(kind)
    except pa.ArrowInvalid:
        return False
    return not pc.any(pc.match_substring_regex(column, _CODE)).as_py()


def _first_misfit(column: pa.ChunkedArray, kind: pa.DataType) -> int:
    low, high = 0, len(column)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            column.slice(low, middle - low).cast(kind)
        except pa.ArrowInvalid:
            high = middle
        else:
            low = middle
    return low
