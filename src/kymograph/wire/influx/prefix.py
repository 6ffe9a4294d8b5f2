"""Codes for measurement and tags: what every line begins with, and most lines share with lines before them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from kymograph.wire.influx.line import Tags, read_prefix

# beyond so many a fresh `Prefixes` is due: a writer that never repeats itself must not fill the memory
MOST = 1_000_000
# columns of prefixes that came before, since a writer mostly sends the same series in the same order
_HELD = 32 * 2**20

Ints = np.ndarray[Any, np.dtype[np.int64]]


class Prefixes:
    """Numbers the distinct prefixes `measurement,tag=value`, from 0, for as long as it lives. Safe in many threads.

    Attributes:
        measurements: the distinct names of measurements, by number.
        series: (number of the measurement, tags) by code.
    """

    def __init__(self) -> None:
        self.measurements: list[str] = []
        self.series: list[tuple[int, Tags]] = []
        self._numbers: dict[str, int] = {}
        self._codes: dict[bytes, int] = {}
        self._identities: dict[tuple[int, Tags], int] = {}
        self._columns: dict[tuple[int, int, bytes], tuple[pa.Array, Ints]] = {}
        self._held = 0
        self._of = np.empty(1024, np.int64)
        self._lock = threading.Lock()

    @property
    def full(self) -> bool:
        return len(self._codes) >= MOST

    def measurement_of(self, codes: Ints) -> Ints:
        """The number of the measurement of each code."""
        return self._of[codes]

    def code(self, prefix: bytes) -> int:
        """The code of one prefix. Raises ValueError as `read_prefix`."""
        found = self._codes.get(prefix)
        return self._add(prefix) if found is None else found

    def codes(self, column: pa.Array, cuts: Sequence[int] = ()) -> Ints:
        """The code of each of many prefixes (texts that need not be UTF-8), -1 for those that cannot be read.

        Args:
            cuts: places where the lines of another sender begin: what each of them repeats is remembered by itself.
        """
        places = [0, *cuts, len(column)]
        parts = [self._codes_of(column.slice(begin, end - begin)) for begin, end in pairwise(places) if end > begin]
        return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.empty(0, np.int64)

    def _codes_of(self, column: pa.Array) -> Ints:
        ends = np.frombuffer(column.buffers()[1], np.int32)
        size = int(ends[column.offset + len(column)] - ends[column.offset])
        # of columns of one size and first prefix there are few
        key = (len(column), size, column[0].as_buffer().to_pybytes())
        before = self._columns.get(key)
        if before is not None and before[0].equals(column):
            return before[1]
        encoded = column.view(pa.binary()).dictionary_encode()
        distinct = np.array([self._code_or_none(prefix) for prefix in encoded.dictionary.to_pylist()], np.int64)
        found: Ints = distinct[encoded.indices.to_numpy()]
        # a copy: the column may be a small part of a large one
        kept = column.take(pa.array(np.arange(len(column), dtype=np.int32)))
        with self._lock:
            if self._held + size > _HELD:
                self._columns, self._held = {}, 0
            self._columns[key] = (kept, found)
            self._held += size
        return found

    def _code_or_none(self, prefix: bytes) -> int:
        try:
            return self.code(prefix)
        except ValueError:
            return -1

    def _add(self, prefix: bytes) -> int:
        measurement, tags = read_prefix(prefix)
        with self._lock:
            number = self._numbers.get(measurement)
            if number is None:
                number = self._numbers[measurement] = len(self.measurements)
                self.measurements.append(measurement)
            # tags in another order, or escaped without need, are the same series
            code = self._identities.get((number, tags))
            if code is None:
                code = self._identities[number, tags] = len(self.series)
                self.series.append((number, tags))
                if code >= len(self._of):
                    self._of = np.resize(self._of, 2 * len(self._of))
                self._of[code] = number
            self._codes[prefix] = code
            return code
