"""Lines of one measurement as columns of its table: labels from tags, fields in the types the table has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kymograph.model.schema import LABEL_TYPE, TableSchema, type_name
from kymograph.model.time import TIME, TIME_TYPE
from kymograph.store.tables import MOST_LABELS
from kymograph.wire.influx.prefix import Prefixes

Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass
class Part:
    """Lines with the same fields: numbers, codes of measurement and tags, times in µs, and columns of values."""

    lines: Ints
    series: Ints
    times: Ints
    fields: dict[str, pa.Array]

    def keep(self, mask: Bools) -> None:
        """Go on with these lines only."""
        picked = pa.array(mask)
        self.lines, self.series, self.times = self.lines[mask], self.series[mask], self.times[mask]
        self.fields = {name: column.filter(picked) for name, column in self.fields.items()}


@dataclass(frozen=True)
class Rejected:
    """Numbers of lines that a table cannot take, and why."""

    lines: Ints
    message: str


Reject = Callable[[Rejected], None]


@dataclass(frozen=True)
class Label:
    """The values of one label: `values[index[place]]`, -1 is none, for the codes at their place in a sorted array."""

    codes: Ints
    index: Any
    values: list[str]

    def column(self, series: Ints) -> pa.Array:
        index = self.index[np.searchsorted(self.codes, series)]
        indices = pa.array(index, pa.int32(), mask=index < 0)
        return pa.DictionaryArray.from_arrays(indices, pa.array(self.values, pa.string())).cast(LABEL_TYPE)


def label_columns(
    prefixes: Prefixes, parts: Sequence[Part], table: str, schema: TableSchema | None, reject: Reject
) -> dict[str, Label]:
    """The labels of the lines by name: those of the table, then new ones. Lines with a tag that can be none are rejected.

    Args:
        schema: of the table; None where there is none yet.
    """
    codes = np.unique(np.concatenate([part.series for part in parts]))
    tags = [dict(prefixes.series[code][1]) for code in codes.tolist()]
    labels = () if schema is None else schema.labels
    fresh = [name for name in dict.fromkeys(chain.from_iterable(tags)) if name not in labels]
    unfit = _unfit(table, schema, fresh)
    labels = (*labels, *sorted(set(fresh).difference(unfit)))
    if unfit:
        bad = np.array([not unfit.keys().isdisjoint(each) for each in tags], np.bool_)
        for part in parts:
            wrong = bad[np.searchsorted(codes, part.series)]
            for code in np.unique(part.series[wrong]).tolist():
                tag = min(dict(prefixes.series[code][1]).keys() & unfit.keys())
                reject(Rejected(part.lines[part.series == code], f"has the tag {tag!r}, {unfit[tag]}"))
            part.keep(~wrong)
    found = {}
    for label in labels:
        numbers: dict[str, int] = {}
        index = [numbers.setdefault(each[label], len(numbers)) if label in each else -1 for each in tags]
        found[label] = Label(codes, np.array(index, np.int32), list(numbers))
    return found


def _unfit(table: str, schema: TableSchema | None, fresh: Sequence[str]) -> dict[str, str]:
    """Which tags that are no labels of the table cannot become any, and why; `fresh` are in the order of the lines."""
    fields = {} if schema is None else dict(schema.fields)
    room = MOST_LABELS - (0 if schema is None else len(schema.labels))
    unfit = {}
    for name in fresh:
        if name == TIME:
            unfit[name] = "which is the time of a row"
        elif name in fields:
            unfit[name] = f"but in the table {table} it is a field of {type_name(fields[name])}"
        elif schema is not None and schema.by_series:
            unfit[name] = f"which is no label of the table {table}"
        elif room <= 0:
            unfit[name] = f"which is one more than the {MOST_LABELS} labels that the table {table} may have"
        else:
            room -= 1
    return unfit


def written_types(
    table: str,
    parts: Sequence[Part],
    schema: TableSchema | None,
    labels: Sequence[str],
    most: int | None,
    reject: Reject,
) -> dict[str, pa.DataType]:
    """The type of every field of the lines, and the columns converted to them; lines that do not fit are rejected.

    A new field takes the type it has first; integers make room for floats that come with them.

    Args:
        most: fields that the table may have; None is unbounded.
    """
    there = {} if schema is None else dict(schema.fields)
    types: dict[str, pa.DataType] = {}
    taken, free = {TIME, *labels}, None if most is None else most - len(there)
    for part in sorted((part for part in parts if len(part.lines)), key=lambda part: int(part.lines[0])):
        clash = next((name for name in part.fields if name in taken), None)
        fresh = [name for name in part.fields if name not in there and name not in types]
        problem = ""
        if clash is not None:
            what = "the time of a row" if clash == TIME else "a label of its table too"
            problem = f"has a field {clash!r}, which is {what}"
        elif free is not None and fresh and len(fresh) > free:
            one = fresh[max(0, free)]
            problem = (
                f"has the field {one!r}, which is one more than the {most:,} fields that the table {table} may have"
            )
        if problem:
            reject(Rejected(part.lines, problem))
            part.keep(np.zeros(len(part.lines), np.bool_))
            continue
        free = None if free is None else free - len(fresh)
        for name, column in part.fields.items():
            known = there.get(name) or types.get(name)
            if name not in there and known in (pa.int64(), pa.uint64()) and column.type == pa.float64():
                known = pa.float64()
            types[name] = known or column.type
    for part in parts:
        good = np.ones(len(part.lines), np.bool_)
        for name, column in part.fields.items():
            if not len(column):
                continue
            part.fields[name], fit = _converted(column, types[name])
            if not fit.all():
                message = f"has a field {name!r} of {type_name(column.type)}, but in the table {table} it is {type_name(types[name])}"
                reject(Rejected(part.lines[good & ~fit], message))
                good &= fit
        if not good.all():
            part.keep(good)
    return types


def _converted(column: pa.Array, kind: pa.DataType) -> tuple[pa.Array, Bools]:
    """The values in another type, and which of them are the same there."""
    if column.type == kind:
        return column, np.ones(len(column), np.bool_)
    other = (pa.string(), pa.bool_())
    if column.type in other or kind in other:
        return pa.nulls(len(column), kind), np.zeros(len(column), np.bool_)
    values = column.to_numpy(zero_copy_only=False)
    target = np.dtype(kind.to_pandas_dtype())
    with np.errstate(all="ignore"):
        cast = values.astype(target)
        same = np.asarray(cast.astype(values.dtype) == values)
    if target.kind in "iu":
        # at and beyond the ends a cast says nothing: it wraps, or stops there
        limits = np.iinfo(target)
        low, high = (float(limits.min), float(limits.max)) if values.dtype.kind == "f" else (limits.min, limits.max)
        same &= np.array((values >= low) & (values < high if values.dtype.kind == "f" else values <= high))
    elif values.dtype.kind in "iu":
        # 2**63 - 1 comes back from a float as itself by stopping at the end
        same &= np.abs(cast) < 2.0 ** (63 if values.dtype.kind == "i" else 64)
    return pa.array(cast, kind), same


def merged(parts: Sequence[Part], labels: dict[str, Label], types: dict[str, pa.DataType]) -> pa.Table:
    """One table of all lines in their order. Of several lines of one series and time with different fields, the last
    row has all of their fields, as a point has where the protocol comes from."""
    parts = [part for part in parts if len(part.lines)]
    if len(parts) == 1:
        return _table(parts[0].series, parts[0].times, labels, parts[0].fields)
    names = list(dict.fromkeys(name for part in parts for name in part.fields))
    if not parts:
        return pa.table({})
    order = np.argsort(np.concatenate([part.lines for part in parts]), kind="stable")
    series, times = (np.concatenate([getattr(part, n) for part in parts])[order] for n in ("series", "times"))
    fields = {}
    for name in names:
        pieces = [
            part.fields[name] if name in part.fields else pa.nulls(len(part.lines), types[name]) for part in parts
        ]
        fields[name] = pa.concat_arrays(pieces).take(pa.array(order))
    return _table(series, times, labels, _filled(series, times, fields))


def _filled(series: Ints, times: Ints, fields: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """Each null takes the last value before it in the same series and time."""
    order = np.lexsort((times, series))
    first = np.ones(len(order), np.bool_)
    first[1:] = (series[order][1:] != series[order][:-1]) | (times[order][1:] != times[order][:-1])
    if first.all():
        return fields
    places = np.arange(len(order))
    begin = np.maximum.accumulate(np.where(first, places, 0))
    back = np.empty_like(order)
    back[order] = places
    filled = {}
    for name, column in fields.items():
        ranked = column.take(pa.array(order))
        valid = ranked.is_valid().to_numpy(zero_copy_only=False)
        source = np.maximum.accumulate(np.where(valid, places, -1))
        source = np.where(source >= begin, source, places)
        filled[name] = pc.take(ranked, pa.array(source[back]))
    return filled


def _table(series: Ints, times: Ints, labels: dict[str, Label], fields: dict[str, pa.Array]) -> pa.Table:
    columns = {TIME: pa.array(times, TIME_TYPE)}
    columns |= {name: label.column(series) for name, label in labels.items()}
    return pa.table(columns | fields)
