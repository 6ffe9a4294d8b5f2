"""A file into a table, chunk by chunk, with every error saying where it is and how many rows were stored before it."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from kymograph.errors import InvalidInput, KymographError
from kymograph.model.schema import LABEL_TYPE, SAMPLES, table_schema
from kymograph.model.time import TIME, TIME_TYPE, time_array, to_micros
from kymograph.store.exchange.infer import Misfit, convert, infer_texts
from kymograph.store.exchange.jsonlines import DIGITS, infer_rows, json_rows, rows_table
from kymograph.store.exchange.source import Source
from kymograph.store.exchange.tabular import arrow_tables, csv_texts, parquet_tables, rows_within, schema_within

if TYPE_CHECKING:
    from kymograph.store.store import Store

# (rows stored so far, the part of the file that they are from 0 to 1, or None where nobody can know)
Progress = Callable[[int, float | None], None]
_Types = Mapping[str, pa.DataType]
# MemoryError: a damaged length field asks for more than there is
_UNREADABLE = (pa.ArrowException, ValueError, OSError, EOFError, zlib.error, MemoryError)


def import_rows(
    store: Store,
    table: str,
    given: str | os.PathLike[str] | BinaryIO,
    *,
    form: str | None = None,
    labels: Sequence[str] | None = None,
    progress: Progress | None = None,
    whole: bool = False,
) -> int:
    """Store the rows of one file; memory is that of a few chunks, however large the file is.

    Text files (CSV with a header, JSON lines) take the types of an existing table; columns it lacks, and all columns of
    a new table, are typed by all of their values (from a pipe: by the first chunk). Times are ISO 8601 or int µs. An
    empty CSV cell is null, `""` is empty text; the texts NaN, Infinity and -Infinity are floats.

    Args:
        table: created when there is none: with the labels and policies that an export of ours carries, else with
            `labels`, else with every text column as a label.
        given: a path (`.gz`, `.zst` and `.bz2` of text are unpacked), or a binary stream.
        form: csv, json, parquet or arrow; None goes by the name.
        labels: the label columns of a new table; an existing table is given those that it lacks.
        whole: read all of the file before any of it is stored, so that a bad row costs nothing but memory.

    Returns:
        Rows stored.

    Raises:
        KymographError: names file, place and the rows stored before it. Rows of the chunk it is in are not stored.
    """
    source = Source(given, form)
    taken = 0
    try:
        tables = _tables(store, table, source, labels)
        for rows in _together(tables) if whole else tables:
            taken += store.write(table, rows)
            if progress is not None:
                progress(taken, source.fraction(taken))
    except KymographError as problem:
        problem.message = f"{source.name}: {problem.message}; {_stored(taken)}"
        problem.args = (problem.message,)
        raise
    except _UNREADABLE as problem:
        first = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        raise InvalidInput(f"{source.name} is not readable as {source.form}: {first[:300]}; {_stored(taken)}") from None
    return taken


def _together(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    found = list(tables)
    if found:
        yield pa.concat_tables(found, promote_options="permissive")


def _stored(rows: int) -> str:
    return f"{rows:,} rows before it were stored" if rows else "nothing was stored"


def _tables(store: Store, table: str, source: Source, labels: Sequence[str] | None) -> Iterator[pa.Table]:
    # a name that is none is found before the file is read
    schema = store.tables().get(table) or table_schema(table)
    missing = set(schema.required).difference(schema.labels if labels is None else labels)
    if missing:
        raise InvalidInput(
            f"table {table} was made with the labels {', '.join(schema.required)}", hint="name these too"
        )
    if source.form in _TEXTS:
        yield from _from_text(store, table, source, labels, _TEXTS[source.form])
    else:
        yield from _from_arrow(store, table, source, labels)


def _from_arrow(store: Store, table: str, source: Source, labels: Sequence[str] | None) -> Iterator[pa.Table]:
    with source.open() as file:
        within = schema_within(file, source.form)
        if within is not None and within.name == SAMPLES and table != SAMPLES:
            raise InvalidInput(
                "it holds scalar series by their ids, which mean nothing in another table",
                hint="export them with kymo sql from metric.NAME",
            )
        if within is not None and labels is None and table not in store.tables():
            store.create_table(
                table,
                within.labels,
                dict(within.fields),
                duplicates=within.duplicates,
                partition=within.partition,
            )
        elif within is not None and labels is None and not within.by_series:
            there = store.tables()[table]
            # what is a label there becomes one here, unless it is something already
            labels = (*there.labels, *(label for label in within.labels if label not in there.columns))
        if source.form == "parquet":
            source.rows = rows_within(file)
        tables = parquet_tables(file) if source.form == "parquet" else arrow_tables(file)
        for rows in tables:
            _create(store, table, labels, {f.name: _storable(f.type) for f in rows.schema})
            yield rows


def _storable(kind: pa.DataType) -> pa.DataType:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    return pa.float32() if pa.types.is_float16(kind) else kind


@dataclass(frozen=True)
class _Text:
    """A form of text: how it comes in chunks, what types its columns have, and a chunk as a table.

    Attributes:
        chunks: the chunks of an open file.
        judge: types of the columns that are not known, from chunks.
        table: a chunk as a table, given all types and the number of rows before it.
    """

    chunks: Callable[[Any], Iterator[Any]]
    judge: Callable[[Iterable[Any], _Types], _Types]
    table: Callable[[Any, _Types, int], pa.Table]


def _from_text(
    store: Store, table: str, source: Source, labels: Sequence[str] | None, text: _Text
) -> Iterator[pa.Table]:
    known = _known(store, table, labels)
    types = None
    if source.again:
        with source.open() as file:
            types = {**known, **text.judge(text.chunks(file), known)}
    with source.open() as file:
        chunks = text.chunks(file)
        if types is None:
            first = list(islice(chunks, 1))
            types, chunks = {**known, **text.judge(first, known)}, chain(first, chunks)
        before = 0
        for chunk in chunks:
            rows = text.table(chunk, types, before)
            _create(store, table, labels, {n: types[n] for n in rows.column_names if n in types})
            yield rows
            before += rows.num_rows


def _known(store: Store, table: str, labels: Sequence[str] | None) -> _Types:
    """Types that need no judging: those of the table, and text for labels that are new."""
    schema = store.tables().get(table)
    fresh = dict.fromkeys(labels or (), pa.string())
    if schema is None:
        return fresh
    return fresh | {
        field.name: pa.string() if field.type == LABEL_TYPE else field.type
        for field in schema.arrow
        if field.name != TIME
    }


def _unknown(known: _Types, chunks: Iterable[pa.Table]) -> Iterator[pa.Table]:
    for chunk in chunks:
        unknown = [name for name in chunk.column_names if name != TIME and name not in known]
        if not unknown:
            return
        yield chunk.select(unknown)


def _create(store: Store, table: str, labels: Sequence[str] | None, types: _Types) -> None:
    """Give the table the labels asked for, before the first rows; leave all else to the first write."""
    if labels is None:
        return
    schema = store.tables().get(table)
    fresh = [label for label in labels if schema is None or label not in schema.labels]
    missing = [label for label in fresh if label not in types]
    if missing:
        raise InvalidInput(f"there is no column {missing[0]!r} to be a label")
    if schema is not None:
        if fresh:
            store.add_columns(table, fresh)
        return
    store.create_table(table, labels, {n: kind for n, kind in types.items() if n != TIME and n not in labels})


def _typed(chunk: pa.Table, types: _Types, before: int) -> pa.Table:
    """Text columns as `types`; columns without a type have no values and are left out."""
    first = before + 1
    if TIME not in chunk.column_names:
        raise InvalidInput("there is no column time")
    columns = {TIME: _times(chunk[TIME], first)}
    for name in chunk.column_names:
        if name == TIME:
            continue
        if name not in types:
            if chunk[name].null_count < chunk.num_rows:
                raise InvalidInput(
                    f"row {first} or after: column {name!r} had no values in the first rows",
                    hint="import from a file instead of a pipe, or create the table first",
                )
            continue
        try:
            columns[name] = convert(chunk[name], types[name])
        except Misfit as problem:
            raise InvalidInput(f"row {first + problem.row}: column {name!r}: {problem.message}") from None
    return pa.table(columns)


def _times(column: pa.ChunkedArray, first: int) -> pa.Array:
    if column.null_count:
        raise InvalidInput(f"row {first + pc.index(pc.is_null(column), True).as_py()}: there is no time")
    try:
        return time_array(column.cast(TIME_TYPE))
    except (pa.ArrowInvalid, KymographError):
        micros = []
        for at, text in enumerate(column.to_pylist()):
            try:
                micros.append(int(text) if DIGITS.fullmatch(text) else to_micros(text))
            except (KymographError, ValueError) as problem:
                why = problem.message if isinstance(problem, KymographError) else str(problem)
                raise InvalidInput(f"row {first + at}: {why}") from None
        return time_array(pa.array(micros, pa.int64()))


_TEXTS = {
    "csv": _Text(csv_texts, lambda chunks, known: infer_texts(_unknown(known, chunks)), _typed),
    "json": _Text(json_rows, infer_rows, lambda chunk, types, _: rows_table(chunk, types)),
}
