"""What is said about a stream and its columns: checked, merged, and kept with it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from kymograph.engine.streams import Streams
from kymograph.errors import InvalidInput
from kymograph.model.stream import TIMESTAMP, Layout, StreamSchema, column_names
from kymograph.model.time import TIME

COLUMNS = "columns"
# what a column may be said to be
NUMBERS = ("offset", "scale")
TEXTS = ("name", "unit")
DISPLAY = "display"
MOST_BYTES = 1 << 20


def checked(layout: Layout, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata that can be kept.

    Raises:
        InvalidInput: keys that are no text, values that are no JSON, more than 1 MiB, or columns that do not fit.
    """
    if not isinstance(metadata, Mapping) or not all(isinstance(key, str) and key for key in metadata):
        raise InvalidInput("metadata has text keys", hint='like {"source": "meter 7"}')
    try:
        text = json.dumps(dict(metadata), allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as problem:
        raise InvalidInput(f"metadata has a value that is no JSON: {problem}") from None
    if len(text) > MOST_BYTES:
        raise InvalidInput(f"metadata of {len(text)} bytes is too large", hint=f"at most {MOST_BYTES}")
    kept: dict[str, Any] = json.loads(text)
    _check_columns(layout, kept.get(COLUMNS))
    return kept


def _check_columns(layout: Layout, columns: Any) -> None:
    if columns is None:
        return
    if not isinstance(columns, list) or len(columns) > layout.count or not all(isinstance(c, dict) for c in columns):
        raise InvalidInput(f"metadata columns must be a list of at most {layout.count} objects")
    for place, about in enumerate(columns):
        for key, value in about.items():
            fine = (
                (key in TEXTS and isinstance(value, str) and 0 < len(value) <= 255)
                or (key in NUMBERS and _is_number(value))
                or (key == DISPLAY and isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)))
            )
            if not fine:
                raise InvalidInput(
                    f"column {place}: {key}={value!r} cannot be said of a column",
                    hint="name and unit are text, offset and scale numbers, display is [low, high]",
                )
    names = column_names(layout, {COLUMNS: columns})
    twice = sorted({name for name in names if names.count(name) > 1 or name in (TIME, TIMESTAMP)})
    if twice:
        raise InvalidInput(f"the column name {twice[0]!r} is taken")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def described(schema: StreamSchema, place: int, about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The descriptions of all columns after one was changed."""
    columns = [dict(one) for one in schema.metadata.get(COLUMNS) or []]
    columns += [{} for _ in range(schema.layout.count - len(columns))]
    merged = {**columns[place], **about}
    if isinstance(merged.get(DISPLAY), tuple):
        merged[DISPLAY] = list(merged[DISPLAY])
    columns[place] = {key: value for key, value in merged.items() if value is not None}
    return columns


def alter(streams: Streams, schema: StreamSchema, **changes: Any) -> None:
    """Replace parts of a stream's schema."""
    streams.alter(replace(schema, **changes))


def places(schema: StreamSchema, columns: Iterable[str | int]) -> list[int]:
    """Places of columns given by name or place.

    Raises:
        InvalidInput: an unknown one, or none at all.
    """
    names = schema.columns
    found = []
    for column in columns:
        if isinstance(column, str) and column in names:
            found.append(names.index(column))
        elif isinstance(column, int) and not isinstance(column, bool) and 0 <= column < len(names):
            found.append(column)
        else:
            raise InvalidInput(f"{schema.path} has no column {column!r}", hint="columns: " + ", ".join(names[:20]))
    if not found:
        raise InvalidInput(f"{schema.path}: no columns were asked for")
    return found
