"""What a table is: its label columns, its typed fields and its policies."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa

from kymograph.errors import InvalidInput, SchemaError
from kymograph.model.time import DAY, MINUTE, TIME, TIME_TYPE
from kymograph.options import Retention, parse_duration

Duplicates = Literal["overwrite", "ignore", "reject"]

FIELD_TYPES: dict[str, pa.DataType] = {
    **{f"int{n}": getattr(pa, f"int{n}")() for n in (8, 16, 32, 64)},
    **{f"uint{n}": getattr(pa, f"uint{n}")() for n in (8, 16, 32, 64)},
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.string(),
}
TYPE_NAMES = {kind: name for name, kind in FIELD_TYPES.items()}
LABEL_TYPE = pa.dictionary(pa.int32(), pa.string())
SAMPLES = "samples"
SERIES_ID = "series_id"

# NUL ends a name in C, and lone surrogates have no UTF-8
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_TABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,126}", re.ASCII)


@dataclass(frozen=True)
class TableSchema:
    """A table's columns and policies; immutable, so that a reader keeps the one it started with.

    Columns are always in the order `time`, labels, fields.

    Attributes:
        name: letters, digits, `_`, `.`, `-`; at most 127; starts with a letter or `_`.
        labels: string columns that identify a series.
        fields: (name, Arrow type) pairs, all nullable.
        duplicates: what happens to a second row of one (series, time).
        partition: µs of one partition, aligned to the epoch.
        retention: what bounds the table beside the store-wide bounds.
        by_series: the one label is `series_id`, the int64 number of a registered scalar series; so are `samples` and
            the tables of their summaries.
        later: how many of the labels, at their end, came after the table was made. Rows from before have null there,
            and rows without such a column can still be written.
        definition: what fills the table, for who keeps it: of a rollup's table its definition as JSON; "" for others. It
            is here so that blocks have it, and with them a catalog that is rebuilt from blocks.
    """

    name: str
    labels: tuple[str, ...]
    fields: tuple[tuple[str, pa.DataType], ...]
    duplicates: Duplicates = "overwrite"
    partition: int = DAY
    retention: Retention = field(default_factory=Retention)
    by_series: bool = False
    later: int = 0
    definition: str = ""

    def __post_init__(self) -> None:
        if self.name == SAMPLES:
            object.__setattr__(self, "by_series", True)
        if not isinstance(self.name, str) or not _TABLE_NAME.fullmatch(self.name):
            raise SchemaError(
                f"{self.name!r} is not a table name",
                hint="letters, digits, _ . and -, starting with a letter or _, at most 127",
            )
        names = [*self.labels, *(name for name, _ in self.fields)]
        for name in names:
            if not isinstance(name, str) or not name or len(name) > 255 or _UNSTORABLE.search(name):
                raise SchemaError(f"table {self.name}: {name!r} is not a column name")
            if name == TIME:
                raise SchemaError(f"table {self.name}: time is always there, do not declare it")
        if len(set(names)) != len(names):
            twice = sorted({n for n in names if names.count(n) > 1})
            raise SchemaError(f"table {self.name}: column {twice[0]!r} is there twice")
        for name, kind in self.fields:
            if kind not in TYPE_NAMES:
                raise SchemaError(
                    f"table {self.name}: field {name} cannot be {kind}",
                    hint="one of " + ", ".join(FIELD_TYPES),
                )
        if self.duplicates not in ("overwrite", "ignore", "reject"):
            raise SchemaError(
                f"table {self.name}: duplicates must be overwrite, ignore or reject, not {self.duplicates!r}"
            )
        if self.partition < MINUTE:
            raise SchemaError(f"table {self.name}: a partition is at least 1m")
        if self.by_series and self.labels != (SERIES_ID,):
            raise SchemaError(f"table {self.name}: a table by series has the one label {SERIES_ID}")
        if not 0 <= self.later <= len(self.labels) - self.by_series:
            raise SchemaError(f"table {self.name}: {self.later} of {len(self.labels)} labels cannot have come later")

    @cached_property
    def arrow(self) -> pa.Schema:
        """The canonical Arrow schema: time, labels (dictionary of string), fields."""
        label = pa.int64() if self.by_series else LABEL_TYPE
        return pa.schema(
            [
                pa.field(TIME, TIME_TYPE, nullable=False),
                *(pa.field(name, label) for name in self.labels),
                *(pa.field(name, kind) for name, kind in self.fields),
            ]
        )

    @cached_property
    def plain(self) -> tuple[tuple[str, pa.DataType, type | None], ...]:
        """Per column its name, its Arrow type, and the Python type whose values it takes as they are; None for none."""
        kinds = {pa.float64(): float, pa.bool_(): bool, pa.string(): str, LABEL_TYPE: str, TIME_TYPE: int}
        return tuple(
            (field.name, field.type, int if pa.types.is_integer(field.type) else kinds.get(field.type))
            for field in self.arrow
        )

    @cached_property
    def columns(self) -> tuple[str, ...]:
        return (TIME, *self.labels, *(name for name, _ in self.fields))

    @property
    def required(self) -> tuple[str, ...]:
        """The labels that the table was made with, which every row has to be written with."""
        return self.labels[: len(self.labels) - self.later]

    def partition_of(self, micros: int) -> int:
        """Start of the partition a time falls into, µs."""
        return micros // self.partition * self.partition

    def accepts(self, batch: pa.Schema) -> bool:
        """Whether a batch has these columns, or those of an older version: fewer labels or fields, missing at the end."""
        arrow = self.arrow
        if batch.equals(arrow):
            return True
        labels = self.labels_of(batch)
        fields = len(batch) - 1 - labels
        if labels < len(self.required) or fields < 0:
            return False
        first = 1 + len(self.labels)
        mine = [*list(arrow)[: 1 + labels], *list(arrow)[first : first + fields]]
        return [(each.name, each.type) for each in mine] == [(each.name, each.type) for each in batch]

    def labels_of(self, batch: pa.Schema) -> int:
        """How many of the labels a batch of this or an older version has."""
        return sum(name in self.labels for name in batch.names)

    def extended(self, fields: Iterable[tuple[str, pa.DataType]] = (), labels: Iterable[str] = ()) -> TableSchema:
        """This schema with more fields and labels, each at their end."""
        more = tuple(labels)
        return replace(self, labels=(*self.labels, *more), fields=(*self.fields, *fields), later=self.later + len(more))

    def grew_from(self, old: TableSchema) -> bool:
        """Whether this is `old`, or what it became by columns that were added."""
        if self.required != old.required:
            return False
        fields = self.fields[: len(old.fields)]
        return old == replace(self, labels=self.labels[: len(old.labels)], fields=fields, later=old.later)

    def check_follows(self, old: TableSchema) -> None:
        """Raise SchemaError unless a table of `old` can have this schema: columns may only come, and policies change."""
        if self.partition != old.partition:
            raise SchemaError(f"table {self.name}: its partition cannot change")
        if self.labels[: len(old.labels)] != old.labels or self.required != old.required:
            raise SchemaError(
                f"table {self.name}: labels can only be added, after the present ones",
                hint="extended() makes such a schema",
            )
        if self.fields[: len(old.fields)] != old.fields:
            raise SchemaError(f"table {self.name}: fields can only be added, after the present ones")

    def to_json(self) -> str:
        """One line of JSON that `from_json` reads; the form kept in catalogs and block metadata."""
        return json.dumps(
            {
                "name": self.name,
                "labels": list(self.labels),
                "fields": [[name, TYPE_NAMES[kind]] for name, kind in self.fields],
                "duplicates": self.duplicates,
                "partition": self.partition,
                "retention": {
                    "age": self.retention.age_micros,
                    "bytes": self.retention.max_bytes,
                },
                **({"by_series": True} if self.by_series else {}),
                **({"later": self.later} if self.later else {}),
                **({"definition": self.definition} if self.definition else {}),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> TableSchema:
        raw = json.loads(text)
        return cls(
            name=raw["name"],
            labels=tuple(raw["labels"]),
            fields=tuple((name, FIELD_TYPES[kind]) for name, kind in raw["fields"]),
            duplicates=raw["duplicates"],
            partition=raw["partition"],
            retention=Retention(**raw["retention"]),
            by_series=raw.get("by_series", False),
            later=raw.get("later", 0),
            definition=raw.get("definition", ""),
        )


SAMPLES_SCHEMA = TableSchema(SAMPLES, (SERIES_ID,), (("value", pa.float64()),))


def table_schema(
    name: str,
    labels: Iterable[str] = (),
    fields: Mapping[str, str | pa.DataType] | None = None,
    duplicates: Duplicates = "overwrite",
    partition: str | int = "1d",
    retention: Retention | None = None,
) -> TableSchema:
    """A schema from what users write: type names as text, durations as text.

    Raises:
        SchemaError: a name, type or policy that is none.
        InvalidInput: a duration that is none.
    """
    if retention is not None and not isinstance(retention, Retention):
        raise InvalidInput(f"retention must be kymograph.Retention, not {retention!r}")
    names, typed = typed_columns(name, labels, fields)
    return TableSchema(name, names, typed, duplicates, parse_duration(partition), retention or Retention())


def typed_columns(
    name: str, labels: Iterable[str], fields: Mapping[str, str | pa.DataType] | None
) -> tuple[tuple[str, ...], tuple[tuple[str, pa.DataType], ...]]:
    """Labels and fields of the table `name` from what users write. Raises SchemaError: a type that is none."""
    if isinstance(labels, str):
        raise SchemaError(f"table {name}: labels must be a list of names, not {labels!r}")
    typed = []
    for column, kind in (fields or {}).items():
        if isinstance(kind, str):
            if kind not in FIELD_TYPES:
                raise SchemaError(
                    f"table {name}: field {column} cannot be {kind!r}",
                    hint="one of " + ", ".join(FIELD_TYPES),
                )
            kind = FIELD_TYPES[kind]
        typed.append((column, kind))
    return tuple(labels), tuple(typed)


def field_type(kind: pa.DataType) -> pa.DataType | None:
    """The field type that holds an Arrow type exactly, or None where there is none."""
    if kind in TYPE_NAMES:
        return kind
    types = pa.types
    if types.is_dictionary(kind):
        return field_type(kind.value_type)
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_float16(kind):
        return pa.float32()
    return None


def type_name(kind: Any) -> str:
    """How messages call an Arrow type."""
    return TYPE_NAMES.get(kind, str(kind))
