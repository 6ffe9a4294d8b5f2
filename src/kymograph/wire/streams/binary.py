"""Stream rows as packed little-endian bytes: int64 µs, then the values of the layout, row after row without padding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kymograph.errors import InvalidInput
from kymograph.model.stream import Layout

Array = np.ndarray[Any, Any]


class BinaryDecoder:
    """Bytes cut anywhere, into arrays of whole rows.

    Args:
        rows: dtype of a row; None is that of the layout.
    """

    def __init__(self, layout: Layout, rows: np.dtype[Any] | None = None) -> None:
        self._rows = layout.rows if rows is None else rows
        self._rest = b""

    def feed(self, data: bytes) -> Array:
        """The rows that are complete now, of the dtype `Layout.rows`; shares the memory of `data` where it can."""
        if self._rest:
            data = self._rest + data
        whole = len(data) // self._rows.itemsize * self._rows.itemsize
        self._rest = data[whole:]
        return np.frombuffer(data, self._rows, whole // self._rows.itemsize)

    def finish(self) -> Iterator[Array]:
        """No rows any more. Raises InvalidInput when the bytes end within one."""
        if self._rest:
            raise InvalidInput(
                f"the data ends within a row: {len(self._rest)} bytes are left of {self._rows.itemsize}",
                hint="a row is an int64 of µs and the values, little-endian and packed",
            )
        return iter(())

    def close(self) -> None:
        """Nothing is held."""


def encode_binary(rows: Array) -> bytes:
    """Rows of any structured dtype as they lie in memory, without padding."""
    return np.ascontiguousarray(rows).tobytes()
