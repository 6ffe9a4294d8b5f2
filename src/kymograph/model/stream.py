"""What a stream is: its layout of equal columns, its arrays, its columns' descriptions and what bounds it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import Any

import numpy as np

from kymograph.errors import InvalidInput
from kymograph.model.interval import Intervals
from kymograph.options import parse_duration

TIMESTAMP = "timestamp"
DATA = "data"
MEAN, MIN, MAX = "mean", "min", "max"
MAX_COLUMNS = 1024
# every level of the pyramid has a fourth of the rows of the one below it
FACTOR = 4
MAX_LEVEL = 15
LEVEL_MARK = "~decim-"

TYPES = (*(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)), "float32", "float64")
OLD_NAMES = {"RawData": "uint16_6", "RawNotchedData": "uint16_9", "PrepData": "float32_8"}
_LAYOUT = re.compile(r"(u?int(?:8|16|32|64)|float(?:32|64))_([1-9][0-9]{0,3})", re.ASCII)
_PATH = re.compile(r"(/[^/~\0-\x1f\x7f\ud800-\udfff]+){2,}")

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Layout:
    """Type and number of a stream's columns; they are all alike and never null.

    Attributes:
        type: one of `TYPES`.
        count: columns, 1 to 1024.
    """

    type: str
    count: int

    @classmethod
    def parse(cls, text: str) -> Layout:
        """From `uint16_6`, `float32_8`, … or an old name: RawData, RawNotchedData, PrepData.

        Raises:
            InvalidInput: neither.
        """
        given = OLD_NAMES.get(text, text) if isinstance(text, str) else ""
        found = _LAYOUT.fullmatch(given)
        if found is None or int(found[2]) > MAX_COLUMNS:
            raise InvalidInput(
                f"{text!r} is not a layout",
                hint=f"<type>_<count>: one of {', '.join(TYPES)} and 1 to {MAX_COLUMNS}, like uint16_6",
            )
        return cls(found[1], int(found[2]))

    @property
    def name(self) -> str:
        return f"{self.type}_{self.count}"

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Type of one value, little-endian."""
        return np.dtype(self.type).newbyteorder("<")

    @cached_property
    def rows(self) -> np.dtype[Any]:
        """One row: `[('timestamp', '<i8'), ('data', type, (count,))]`, packed."""
        return rows_dtype(self.dtype, self.count)

    @cached_property
    def levels(self) -> np.dtype[Any]:
        """One row of a pyramid's level: timestamp, mean (float64), min and max (the column's type)."""
        return levels_dtype(self.dtype, self.count)


def rows_dtype(kind: np.dtype[Any], count: int) -> np.dtype[Any]:
    """Rows with `count` columns of `kind`."""
    return np.dtype([(TIMESTAMP, "<i8"), (DATA, kind, (count,))])


def levels_dtype(kind: np.dtype[Any], count: int) -> np.dtype[Any]:
    """Rows of a level with `count` columns of `kind`."""
    return np.dtype([(TIMESTAMP, "<i8"), (MEAN, "<f8", (count,)), (MIN, kind, (count,)), (MAX, kind, (count,))])


@dataclass(frozen=True)
class StreamRetention:
    """What bounds a stream. None in a field: not bounded that way.

    Attributes:
        age: rows whose time is further than this before now go; duration text or timedelta, kept as int µs.
        keep: the oldest rows go until the time covered is at most this; nothing goes when nothing comes in.
    """

    age: str | timedelta | int | None = None
    keep: str | timedelta | int | None = None

    def __post_init__(self) -> None:
        for name in ("age", "keep"):
            value = getattr(self, name)
            if value is None:
                continue
            micros = parse_duration(value)
            if micros <= 0:
                raise InvalidInput(f"retention {name} must be positive, not {value!r}")
            object.__setattr__(self, name, micros)

    @property
    def age_micros(self) -> int | None:
        return None if self.age is None else parse_duration(self.age)

    @property
    def keep_micros(self) -> int | None:
        return None if self.keep is None else parse_duration(self.keep)


def cut_at(coverage: Intervals, retention: StreamRetention, age: int | None, now: int) -> int | None:
    """The time before which everything goes, or None.

    Args:
        age: µs; what bounds streams that have no age of their own, or None.
        now: µs, what ages count from.
    """
    cuts = []
    own = retention.age_micros
    if own is not None or age is not None:
        cuts.append(now - (own if own is not None else age or 0))
    keep = retention.keep_micros
    if keep is not None and coverage.duration > keep:
        # covered time from the start of each interval to the end of all
        left = np.cumsum((coverage.ends - coverage.starts)[::-1])[::-1]
        at = int(np.flatnonzero(left >= keep)[-1])
        after = int(left[at + 1]) if at + 1 < len(left) else 0
        cuts.append(int(coverage.ends[at]) - (keep - after))
    if not cuts or coverage.extent is None or max(cuts) <= coverage.extent[0]:
        return None
    return max(cuts)


@dataclass(frozen=True)
class StreamSchema:
    """A stream's identity and policies.

    Attributes:
        path: two or more components, each after a `/`.
        layout: type and number of columns; never changes.
        pyramid: whether coarser levels are kept; without them they are computed from the rows when asked for.
        retention: what bounds it beside the store-wide bounds.
        metadata: free keys and JSON values; the columns' descriptions are under "columns".
    """

    path: str
    layout: Layout
    pyramid: bool = True
    retention: StreamRetention = field(default_factory=StreamRetention)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_path(self.path)

    def to_json(self) -> dict[str, Any]:
        """What catalogs keep; `from_json` reads it."""
        return {
            "path": self.path,
            "layout": self.layout.name,
            "pyramid": self.pyramid,
            "retention": {"age": self.retention.age_micros, "keep": self.retention.keep_micros},
            "metadata": dict(self.metadata),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> StreamSchema:
        return cls(
            raw["path"],
            Layout.parse(raw["layout"]),
            raw["pyramid"],
            StreamRetention(**raw["retention"]),
            raw["metadata"],
        )

    def renamed(self, path: str) -> StreamSchema:
        return replace(self, path=path)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns: from the metadata, or c0, c1, …"""
        return column_names(self.layout, self.metadata)


def column_names(layout: Layout, metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """The names that `metadata["columns"]` gives, c0, c1, … where it gives none."""
    described = metadata.get("columns") or []
    named = [one.get("name") if isinstance(one, Mapping) else None for one in described]
    named += [None] * (layout.count - len(named))
    return tuple(name or f"c{at}" for at, name in enumerate(named[: layout.count]))


def check_path(path: Any) -> str:
    """The path itself.

    Raises:
        InvalidInput: not two or more components like /meter/1/raw, or more than 512 characters.
    """
    if not isinstance(path, str) or len(path) > 512 or not _PATH.fullmatch(path):
        raise InvalidInput(
            f"{path!r} is not a stream's path",
            hint="two or more components, like /meter/1/raw; without ~ and control characters",
        )
    return path


def split_level(path: str) -> tuple[str, int]:
    """Path and level of `path~decim-16`: ("path", 2); the path itself is level 0.

    Raises:
        InvalidInput: what follows `~` names no level.
    """
    if not isinstance(path, str):
        raise InvalidInput(f"{path!r} is not a stream's path")
    base, mark, number = path.partition(LEVEL_MARK)
    if not mark:
        return path, 0
    levels = {str(FACTOR**level): level for level in range(1, MAX_LEVEL + 1)}
    if number not in levels:
        raise InvalidInput(f"{path!r} is no level of a pyramid", hint=f"{base}~decim-4, ~decim-16, … a power of 4")
    return base, levels[number]
