"""The function behind `time_bucket`: one per width and origin, integer arithmetic on whole columns of µs.

DataFusion's own date_bin works in nanoseconds, so it refuses times after 2262 and casts every row; this is exact over
the whole range and, with one division per value, faster.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from datafusion import ScalarUDF, udf

from kymograph.model.time import TIME_TYPE
from kymograph.sql.width import Width

_Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Floor:
    """From times to the starts of their buckets, int64 µs; such a start stays where it is.

    Attributes:
        width: µs of every bucket; 0 where they are of months.
    """

    starts: Callable[[_Ints], _Ints]
    width: int

    def __call__(self, times: _Ints) -> _Ints:
        return self.starts(times)


def name_of(width: Width, origin: int | None) -> str:
    """What the function is called in a plan."""
    size = f"{width.months}_months" if width.months else str(width.micros)
    shift = 0 if origin is None else origin
    return f"time_bucket_{size}" + (f"_from_{shift}".replace("-", "minus_") if shift else "")


@cache
def function(width: Width, origin: int | None) -> ScalarUDF:
    """timestamp[us, UTC] → the start of its bucket, timestamp[us, UTC]; null stays null.

    Args:
        origin: µs at which some bucket begins; None is the default: a Monday, or January 2000 for months.

    Raises:
        QueryError: an origin inside a month, for buckets of months.
    """
    starts = width.floor_to(origin)

    def bucket(times: pa.Array) -> pa.Array:
        if times.null_count:
            missing = np.asarray(times.is_null())
            micros = times.fill_null(0).view(pa.int64()).to_numpy(zero_copy_only=False)
            return pa.array(starts(micros), pa.int64(), mask=missing).view(TIME_TYPE)
        return pa.array(starts(times.view(pa.int64()).to_numpy(zero_copy_only=False)), pa.int64()).view(TIME_TYPE)

    return udf(bucket, [TIME_TYPE], TIME_TYPE, "immutable", name_of(width, origin))
