"""Eight bytes of a buffer at any place, as one number: NumPy compares and cuts out texts of many places at once by them."""

from __future__ import annotations

from typing import Any

import numpy as np


def view_of(data: Any) -> Any:
    """The eight bytes at each place of a contiguous buffer; the last place has its last eight."""
    return np.ndarray(len(data) - 7, "V8", data, strides=(1,))


def words(view: Any, places: Any) -> Any:
    """Little-endian uint64 of the eight bytes at each of some places, by a `view_of`."""
    return view[places].view("<u8")
