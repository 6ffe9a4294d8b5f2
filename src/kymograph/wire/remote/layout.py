"""Layouts: how the series of a message lie in its bytes, so that the next message like it needs no parsing.

A sender repeats itself: the same series in the same order, only values and times differ. What a message says depends
on all its bytes but those of the values and the payload bits of the times; where another message has the same bytes
in all other places, it says the same about other numbers. That comparison is one pass of NumPy over the message.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from kymograph.wire.words import view_of, words

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Ints = np.ndarray[Any, np.dtype[np.int64]]

# zero bytes behind every message: a word may be read at its last byte, and what is absent is read from them
PAD = 16
# bytes compared at a time: little at first, since the next difference may be near, and never more than caches hold
_FIRST, MOST = 4096, 65_536
_STOP = np.uint64(0x8080808080808080)
_ONE = np.uint64(1)
# groups of 7, 14 and 28 bits move together in pairs: the lower ones, the higher ones, how far these move
_PAIRS = tuple(
    (np.uint64(low), np.uint64(low << 8 * bits), np.uint64(bits))
    for low, bits in ((0x007F007F007F007F, 1), (0x00003FFF00003FFF, 2), (0x000000000FFFFFFF, 4))
)


@dataclass(frozen=True)
class Found:
    """Series of a message in its order, and the places of their samples.

    Attributes:
        starts: first byte of each of m series, int64.
        slots: which series it is, int64, m.
        counts: samples of each series, int64, m.
        value_at, time_at: places of each sample's float64 and of its varint, int64; -1 where it is absent.
    """

    starts: Ints
    slots: Ints
    counts: Ints
    value_at: Ints
    time_at: Ints

    def moved(self, by: int) -> Found:
        return Found(self.starts + by, self.slots, self.counts, _shifted(self.value_at, by), _shifted(self.time_at, by))


def _shifted(places: Ints, by: int) -> Ints:
    return places + by if not len(places) or places.min() >= 0 else np.where(places < 0, -1, places + by)


def joined(parts: list[Found]) -> Found:
    """Several, one after the other."""
    if len(parts) == 1:
        return parts[0]
    columns = ("starts", "slots", "counts", "value_at", "time_at")
    none = np.zeros(0, np.int64)
    return Found(*(np.concatenate([none, *(getattr(part, name) for part in parts)]) for name in columns))


class Samples(NamedTuple):
    """Samples in the order of a message.

    Attributes:
        slots: int64, which series each is of.
        values, times: uint64, the bits of the float64 and the word that the varint begins; 0 where it is absent.
    """

    slots: Ints
    values: Any
    times: Any


class Column:
    """Where one number of each sample of a layout is.

    Args:
        places: as in `Found`, relative to the first series.
    """

    def __init__(self, places: Ints) -> None:
        self._absent = np.flatnonzero(places < 0)
        self._places = np.maximum(places, 0)

    def words(self, view: Any, first: int, last: int, by: int) -> Any:
        """Those of the samples [first, last) in a message where they lie `by` bytes further on."""
        found = words(view, self._places[first:last] + by)
        if len(self._absent):
            low, high = self._absent.searchsorted((first, last)).tolist()
            found[self._absent[low:high] - first] = 0
        return found


@dataclass(frozen=True)
class Layout:
    """The series [starts[0], ends) of one message that was parsed.

    Attributes:
        expected, mask: the bytes of the series less what may differ, and which of their bits must be the same.
        starts: m + 1 places of series from the first one's; the last is where the last one ends.
        found: the same as places and slots; relative to the first series.
        samples: m + 1 numbers of the first sample of each series.
        slots, values, times: of the samples.
        places: slot to its number among the m series, the first where it is there several times.
    """

    expected: bytes
    mask: Bytes
    starts: Ints
    found: Found
    samples: Ints
    slots: Ints
    values: Column
    times: Column
    places: dict[int, int] = field(repr=False)

    @classmethod
    def of(cls, message: bytes, found: Found, end: int) -> Layout:
        """Of series that lie next to each other up to `end`; no time may have more than eight bytes."""
        first = int(found.starts[0])
        own = found.moved(-first)
        mask = np.full(end - first, 255, np.uint8)
        mask[(own.value_at[own.value_at >= 0][:, None] + np.arange(8)).ravel()] = 0
        times = own.time_at[own.time_at >= 0]
        lengths = varint_lengths(words(view_of(message), times + first))
        for byte in range(8):
            mask[times[lengths > byte] + byte] = 128
        size = len(own.starts)
        return cls(
            (np.frombuffer(message, np.uint8, end - first, first) & mask).tobytes(),
            mask,
            np.append(own.starts, end - first),
            own,
            np.concatenate([[0], np.cumsum(own.counts)]),
            np.repeat(own.slots, own.counts),
            Column(own.value_at),
            Column(own.time_at),
            dict(zip(own.slots[::-1].tolist(), range(size - 1, -1, -1), strict=True)),
        )

    def __len__(self) -> int:
        return len(self.found.slots)

    @property
    def nbytes(self) -> int:
        """Bytes this takes in memory, about."""
        return 2 * len(self.expected) + 160 * len(self) + 40 * len(self.slots)

    def reach(self, message: Bytes, at: int, end: int, place: int, room: bytearray) -> int:
        """How many series of the message from `at` on are those from `place` on.

        Args:
            room: `MOST` bytes to work in.
        """
        start = int(self.starts[place])
        most = min(end - at, len(self.expected) - start)
        same, step = 0, _FIRST
        masked, view = np.frombuffer(room, np.uint8), memoryview(self.expected)
        while same < most:
            size = min(step, most - same)
            here = start + same
            np.bitwise_and(message[at + same : at + same + size], self.mask[here : here + size], out=masked[:size])
            expected = view[here : here + size]
            if not room.startswith(expected):
                same += int((masked[:size] != np.frombuffer(expected, np.uint8)).argmax())
                break
            same += size
            step = min(4 * step, MOST)
        return int(self.starts.searchsorted(start + same, "right")) - 1 - place

    def read(self, view: Any, place: int, stop: int, at: int) -> Samples:
        """The samples of the series [place, stop) in a message where the first of them begins at `at`.

        Args:
            view: of the message, by `view_of`.
        """
        by = at - int(self.starts[place])
        first, last = int(self.samples[place]), int(self.samples[stop])
        values, times = (column.words(view, first, last, by) for column in (self.values, self.times))
        return Samples(self.slots[first:last], values, times)

    def piece(self, place: int, stop: int, at: int) -> Found:
        """The series [place, stop) as they are in a message where the first of them begins at `at`."""
        by = at - int(self.starts[place])
        rows = slice(int(self.samples[place]), int(self.samples[stop]))
        found = self.found
        part = Found(
            found.starts[place:stop],
            found.slots[place:stop],
            found.counts[place:stop],
            found.value_at[rows],
            found.time_at[rows],
        )
        return part.moved(by)


def varint_lengths(found: Any) -> Ints:
    """Bytes of the varint that each word begins with, 9 when it goes on behind the word."""
    stop = ~found & _STOP
    # the lowest stop bit alone is 2**(8 * length - 1)
    lowest = stop & (~stop + _ONE)
    exponent = np.where(stop == 0, 72, np.log2(np.maximum(lowest, _ONE).astype(np.float64)) + 1)
    lengths: Ints = (exponent // 8).astype(np.int64)
    return lengths


def varints(found: Any) -> Ints:
    """int64 of the varints, of at most eight bytes each, that the words begin with."""
    stop = ~found
    stop &= _STOP
    # the payload bits of all bytes up to the one without a continuation bit
    bits = stop - _ONE
    bits ^= stop
    bits &= found
    bits &= ~_STOP
    for low, high, shift in _PAIRS:
        moved = bits & high
        moved >>= shift
        bits &= low
        bits |= moved
    numbers: Ints = bits.view(np.int64)
    return numbers
