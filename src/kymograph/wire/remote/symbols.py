"""Messages of version 2 whose table of symbols was not seen before: their series are known by the texts referred to.

Every batch has a table of its own, so that the same series is written with other numbers each time its neighbours
change. All references of a message are decoded at once, and the numbers of the message replaced by numbers that one
decoder gives to texts for good; what those spell is looked up.
"""

from __future__ import annotations

import itertools
import threading
from typing import Any

import numpy as np

from kymograph.wire.protobuf import VARINT, Malformed, fields, text, varint
from kymograph.wire.remote.layout import Bytes, Found, Ints
from kymograph.wire.remote.metadata import About, family, metadata_v2
from kymograph.wire.remote.series import Labels

_SERIES, _SYMBOL = 42, 34
_WHOLE, _ZERO = b"\x12\x10\x09", b"\x12\x07\x10"
_SIX_BITS, _SIX = 0x808080808080, 0x008080808080
_PACKED = 10


class Unusual(Exception):
    """A message that has to be read field by field."""


class Texts:
    """Numbers of texts, and of the series that rows of such numbers spell. Safe for many threads."""

    def __init__(self) -> None:
        self.nbytes = 0
        self.slots: dict[bytes, int] = {}
        self._numbers: dict[bytes, int] = {}
        self._lock = threading.Lock()

    def numbers(self, message: bytes, places: list[tuple[int, int]]) -> Ints:
        """The number of the text at each place. Raises Malformed where one is no UTF-8."""
        known = self._numbers
        found = []
        for first, last in places:
            symbol = message[first:last]
            number = known.get(symbol)
            if number is None:
                text(message, first, last)
                with self._lock:
                    number = known.setdefault(symbol, len(known))
                self.nbytes += len(symbol) + 150
            found.append(number)
        return np.array(found, np.int64)

    def remember(self, key: bytes, slot: int) -> None:
        self.slots[key] = slot
        self.nbytes += len(key) + 150


def symbols_of(message: bytes, at: int, end: int) -> tuple[list[tuple[int, int]], int]:
    """Places of the symbols that begin the message, and the place behind them. Raises Malformed."""
    places = []
    while at < end and message[at] == _SYMBOL:
        first = at + 2
        size = message[at + 1]
        if size > 127:
            size, first = varint(message, at + 1, end)
        at = first + size
        if at > end:
            raise Malformed(f"the message is cut off: the symbol at byte {first} has {size} bytes")
        places.append((first, at))
    return places, at


class Spelled:
    """The series of one message, all of the usual form: packed references, one sample, perhaps metadata.

    Attributes:
        keys: of each series the numbers of its texts, as bytes.
        slots: of each series, filled by the caller where -1.
        about: metadata of each series, or None.
    """

    def __init__(self, message: bytes, data: Bytes, at: int, end: int, symbols: list[str], numbers: Ints) -> None:
        """Raises Unusual where the form is another, also where the message is broken."""
        self._message = message
        self._symbols = symbols
        self._tails: dict[bytes, About | None] = {}
        starts: list[int] = []
        refs: list[int] = []
        sizes: list[int] = []
        values: list[int] = []
        times: list[int] = []
        self.about: list[About | None] = []
        while at < end:
            first, last = self._bounds(at, end)
            size = message[first + 1]
            behind = first + 2 + size
            if message[first] != _PACKED or size > 127 or behind > last:
                raise Unusual
            if message[behind : behind + 3] == _WHOLE and message[behind + 11] == 16:
                values.append(behind + 3)
                behind += 18
            elif message[behind : behind + 3] == _ZERO:
                values.append(-1)
                behind += 9
            else:
                raise Unusual
            if behind > last or int.from_bytes(message[behind - 6 : behind], "little") & _SIX_BITS != _SIX:
                raise Unusual
            starts.append(at)
            refs.append(first + 2)
            sizes.append(size)
            times.append(behind - 6)
            self.about.append(self._tail(message[behind:last]) if behind < last else None)
            at = last
        self.keys = _keys(data, np.array(refs, np.int64), np.array(sizes, np.int64), numbers)
        self._columns = [np.array(column, np.int64) for column in (starts, values, times)]

    def _bounds(self, at: int, end: int) -> tuple[int, int]:
        message = self._message
        if message[at] != _SERIES:
            raise Unusual
        first, size = at + 2, message[at + 1]
        if size > 127:
            size, first = varint(message, at + 1, end)
        if first + size > end:
            raise Unusual
        return first, first + size

    def _tail(self, tail: bytes) -> About | None:
        """What follows the sample: metadata and a time of creation."""
        if tail in self._tails:
            return self._tails[tail]
        found = None
        for number, kind, first, last in fields(tail, 0, len(tail)):
            if number == 5 and kind != VARINT and found is None:
                found = metadata_v2(tail, first, last, self._symbols)
            elif number != 6 or kind != VARINT:
                raise Unusual
        if found == About():
            found = None
        self._tails[tail] = found
        return found

    def found(self, slots: list[int]) -> Found:
        starts, values, times = self._columns
        return Found(starts, np.array(slots, np.int64), np.ones(len(slots), np.int64), values, times)

    def told(self, slots: list[int], series: list[tuple[str, Labels]]) -> dict[str, About]:
        """Metadata by metric family."""
        return {
            family(series[slot][0], said.kind): said
            for slot, said in zip(slots, self.about, strict=True)
            if said is not None
        }


def _keys(data: Bytes, refs: Ints, sizes: Ints, numbers: Ints) -> list[bytes]:
    """The references of every series as numbers of texts, four bytes each. Raises Unusual where one is none."""
    if not len(refs):
        return []
    if not sizes.all():
        raise Unusual
    ends = np.cumsum(sizes)
    part: Any = data[np.repeat(refs - (ends - sizes), sizes) + np.arange(int(ends[-1]))]
    stops = part < 128
    if not stops[ends - 1].all():
        raise Unusual
    # a varint begins behind each byte that ends one
    begins = np.flatnonzero(np.concatenate([[True], stops[:-1]]))
    lengths = np.diff(np.append(begins, len(part)))
    if lengths.max() > 4:
        raise Unusual
    septets = np.arange(len(part)) - np.repeat(begins, lengths)
    found = np.add.reduceat((part & 127).astype(np.int64) << (7 * septets), begins)
    if found.max() >= len(numbers):
        raise Unusual
    spelled = numbers[found].astype("<i4").tobytes()
    bounds = (4 * np.concatenate([[0], np.cumsum(stops)[ends - 1]])).tolist()
    return [spelled[first:last] for first, last in itertools.pairwise(bounds)]
