"""One pass over the series of a message: by layout where the message is like one before, else series by series."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from kymograph.wire.protobuf import Malformed, varint
from kymograph.wire.remote.exemplars import Told, exemplar_v1, exemplar_v2
from kymograph.wire.remote.layout import MOST, Found, Layout, Samples, joined
from kymograph.wire.remote.metadata import About, family, metadata_v2
from kymograph.wire.remote.series import Labels, Parsed, labels_v1, labels_v2, series_v1, series_v2
from kymograph.wire.words import view_of, words

# a Sample with both fields and a time of six bytes (the years 1971 to 2109), and one whose value is 0
_WHOLE, _ZERO = b"\x12\x10\x09", b"\x12\x07\x10"
_WHOLE_SIZE, _ZERO_SIZE = 18, 9
# continuation bits of six bytes
_SIX_BITS, _SIX = 0x808080808080, 0x008080808080
_LAYOUT_BYTES = 64 * 2**20
# a match of so few series costs more than walking over them
_WORTH = 16
_LONGEST_WALK = 4096
_NONE = Samples(np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros(0, np.uint64))


class Book:
    """Series by their slot, in the order of their first appearance."""

    def __init__(self) -> None:
        self.series: list[tuple[str, Labels]] = []
        self.nbytes = 0
        self._slots: dict[tuple[str, Labels], int] = {}
        self._lock = threading.Lock()

    def slot(self, name: str, labels: Labels) -> int:
        """The number of a series, a new one when it is new."""
        key = (name, labels)
        found = self._slots.get(key)
        if found is None:
            with self._lock:
                found = self._slots.get(key)
                if found is None:
                    self.series.append(key)
                    found = self._slots[key] = len(self.series) - 1
                    self.nbytes += 400 + sum(len(label) + len(value) + 200 for label, value in labels)
        return found


@dataclass
class Dialect:
    """How one version (and, in version 2, one table of symbols) writes series, and what was seen of it.

    Attributes:
        tag: of the field that holds a series.
        parse: takes a series apart.
        known: bytes that say which series it is, to its slot.
        quick: (message, first, last) of a series to (slot, place of the value, place of the time) when it is known and
            has one sample in the usual form; else None.
        owners: slot to the layout that has it.
    """

    book: Book
    tag: int
    parse: Callable[[bytes, int, int], Parsed]
    slot_of: Callable[[bytes, Parsed], int]
    quick: Callable[[bytes, int, int], tuple[int, int, int] | None]
    known: dict[bytes, int]
    about: Callable[[bytes, Parsed, int], tuple[str, About] | None]
    exemplar: Callable[[bytes, int, int], Told | None]
    owners: dict[int, Layout] = field(default_factory=dict)
    layouts: deque[Layout] = field(default_factory=deque)
    key_bytes: int = 0
    debt: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def v1(cls, book: Book) -> Dialect:
        known: dict[bytes, int] = {}

        def slot_of(message: bytes, found: Parsed) -> int:
            return book.slot(*labels_v1(message, found.labels))

        return cls(book, 10, series_v1, slot_of, _quick_v1(known), known, lambda *_: None, exemplar_v1)

    @classmethod
    def v2(cls, book: Book, symbols: list[str]) -> Dialect:
        known: dict[bytes, int] = {}

        def slot_of(_: bytes, found: Parsed) -> int:
            return book.slot(*labels_v2(symbols, found.refs))

        def about(message: bytes, found: Parsed, slot: int) -> tuple[str, About] | None:
            if found.about is None:
                return None
            said = metadata_v2(message, *found.about, symbols)
            return None if said == About() else (family(book.series[slot][0], said.kind), said)

        def exemplar(message: bytes, first: int, last: int) -> Told | None:
            return exemplar_v2(message, first, last, symbols)

        return cls(book, 42, series_v2, slot_of, _quick_v2(known), known, about, exemplar)

    @property
    def nbytes(self) -> int:
        return self.key_bytes + sum(layout.nbytes for layout in list(self.layouts))

    def remember(self, key: bytes, slot: int) -> None:
        if self.known.setdefault(key, slot) == slot:
            self.key_bytes += len(key) + 150

    def learn(self, message: bytes, found: Found, end: int) -> None:
        """Keep the layout of a message that consists of these series and nothing else."""
        layout = Layout.of(message, found, end)
        if layout.nbytes > _LAYOUT_BYTES:
            return
        with self.lock:
            self.debt = 0
            self.layouts.append(layout)
            self.owners.update(dict.fromkeys(layout.places, layout))
            while sum(each.nbytes for each in self.layouts) > _LAYOUT_BYTES:
                gone = self.layouts.popleft()
                for slot in gone.places:
                    if self.owners.get(slot) is gone:
                        del self.owners[slot]


class Walk:
    """One message of a dialect.

    Attributes:
        bytes: the message as uint8.
        interrupted: there is something beside series in the message, so that it makes no layout.
        odd: numbers of the samples whose time is given here, in ms.
        histograms: how many were passed over.
        exemplars: slot of the series and what it says, of each that can be read.
        about: metadata by family that series carry with them.
    """

    def __init__(self, dialect: Dialect, message: bytes, end: int) -> None:
        self._dialect = dialect
        self._message = message
        self.bytes = np.frombuffer(message, np.uint8)
        self._view = view_of(message)
        self._room = bytearray(MOST)
        self._end = end
        self._parts: list[Samples] = []
        self._places: list[Found | tuple[Layout, int, int, int]] = []
        self._size = 0
        self._samples = 0
        self._walked = 0
        self._fresh()
        self.interrupted = False
        self.odd: list[tuple[int, int]] = []
        self.histograms = 0
        self.exemplars: list[tuple[int, Told]] = []
        self.about: dict[str, About] = {}

    def take(self, part: Found) -> None:
        """Series that were found in another way. Their message makes no layout."""
        self._found(part)
        self.interrupted = True

    def _fresh(self) -> None:
        self._starts: list[int] = []
        self._slots: list[int] = []
        self._counts: list[int] = []
        self._values: list[int] = []
        self._times: list[int] = []

    def run(self, at: int) -> int:
        """Take the series from `at` on. Returns the place of the first field that is no series, or the end."""
        budget, end, tag = 1, self._end, self._dialect.tag
        while at < end and self._message[at] == tag:
            alike = self._alike(at)
            if alike is not None:
                self._flush()
                layout, place, stop = alike
                self._add(layout.read(self._view, place, stop, at), (layout, place, stop, at))
                self._size += stop - place
                at += int(layout.starts[stop] - layout.starts[place])
                budget = 1 if stop - place >= _WORTH else budget
                if stop == len(layout):
                    continue
            # what differs from the layout is walked over, the longer, the more often it does
            at = self._series(at, budget)
            budget = min(2 * budget, _LONGEST_WALK)
        return at

    def _alike(self, at: int) -> tuple[Layout, int, int] | None:
        """A layout, and which of its series those from `at` on are."""
        message, dialect = self._message, self._dialect
        found = dialect.quick(message, *series_span(message, at, self._end))
        layout = None if found is None else dialect.owners.get(found[0])
        if found is None or layout is None:
            return None
        place = layout.places[found[0]]
        taken = layout.reach(self.bytes, at, self._end, place, self._room)
        return (layout, place, place + taken) if taken else None

    def _series(self, at: int, most: int) -> int:
        """Up to `most` series, one by one."""
        message, end, dialect = self._message, self._end, self._dialect
        quick, tag = dialect.quick, dialect.tag
        for _ in range(most):
            if at >= end or message[at] != tag:
                break
            first, last = series_span(message, at, end)
            found = quick(message, first, last)
            self._starts.append(at)
            if found is None:
                self._slow(first, last)
            else:
                slot, value_at, time_at = found
                self._slots.append(slot)
                self._counts.append(1)
                self._values.append(value_at)
                self._times.append(time_at)
            at = last
        return at

    def _slow(self, first: int, last: int) -> None:
        message, dialect = self._message, self._dialect
        found = dialect.parse(message, first, last)
        slot = None
        if found.key_end is not None:
            slot = dialect.known.get(message[first : found.key_end])
        if slot is None:
            slot = dialect.slot_of(message, found)
            if found.key_end is not None:
                dialect.remember(message[first : found.key_end], slot)
        self.odd += [(self._samples + len(self._values) + number, ms) for number, ms in found.odd]
        said = dialect.about(message, found, slot)
        if said is not None:
            self.about[said[0]] = said[1]
        self._slots.append(slot)
        self._counts.append(len(found.values))
        self._values += found.values
        self._times += found.times
        self.histograms += found.histograms
        for place in found.exemplars:
            self.interrupted = True
            told = dialect.exemplar(message, *place)
            if told is not None:
                self.exemplars.append((slot, told))

    def _flush(self) -> None:
        if self._starts:
            self._walked += len(self._starts)
            columns = (self._starts, self._slots, self._counts, self._values, self._times)
            self._found(Found(*(np.array(column, np.int64) for column in columns)))
            self._fresh()

    def _found(self, found: Found) -> None:
        slots = np.repeat(found.slots, found.counts)
        # what is absent is at -1, among the zeros behind the message
        values, times = (words(self._view, places) for places in (found.value_at, found.time_at))
        self._add(Samples(slots, values, times), found)
        self._size += len(found.starts)

    def _add(self, part: Samples, places: Found | tuple[Layout, int, int, int]) -> None:
        self._parts.append(part)
        self._places.append(places)
        self._samples += len(part.slots)

    def samples(self) -> Samples:
        """All samples of the message. Where too many of its series had to be walked over, its layout is kept."""
        self._flush()
        dialect = self._dialect
        dialect.debt += self._walked
        worth = self._walked and max(4 * self._walked, dialect.debt) >= self._size
        if worth and not (self.interrupted or self.odd or self.histograms):
            found = [one if isinstance(one, Found) else one[0].piece(*one[1:]) for one in self._places]
            dialect.learn(self._message, joined(found), self._end)
        if len(self._parts) == 1:
            return self._parts[0]
        return Samples(*map(np.concatenate, zip(_NONE, *self._parts, strict=True)))


def series_span(message: bytes, at: int, end: int) -> tuple[int, int]:
    """[first, last) of the content of the field at `at`, whose tag has one byte. Raises Malformed."""
    first = at + 2
    size = message[at + 1]
    if size > 127:
        size, first = varint(message, at + 1, end)
    if first + size > end:
        raise Malformed(f"the message is cut off: the series at byte {at} has {size} bytes")
    return first, first + size


def _quick_v1(known: dict[bytes, int]) -> Callable[[bytes, int, int], tuple[int, int, int] | None]:
    get = known.get

    def quick(message: bytes, first: int, last: int) -> tuple[int, int, int] | None:
        """The labels come first and the sample last: where what is before its usual size is known, so it is."""
        if last - first <= _WHOLE_SIZE:
            return None
        at = last - _WHOLE_SIZE
        slot = get(message[first:at])
        if slot is not None:
            if message[at : at + 3] != _WHOLE or message[last - 7] != 16:
                return None
            value_at = at + 3
        else:
            at = last - _ZERO_SIZE
            slot = get(message[first:at])
            if slot is None or message[at : at + 3] != _ZERO:
                return None
            value_at = -1
        if int.from_bytes(message[last - 6 : last], "little") & _SIX_BITS != _SIX:
            return None
        return slot, value_at, last - 6

    return quick


def _quick_v2(known: dict[bytes, int]) -> Callable[[bytes, int, int], tuple[int, int, int] | None]:
    get = known.get

    def quick(message: bytes, first: int, last: int) -> tuple[int, int, int] | None:
        """The references come first, then the sample; metadata that follows was seen when the series was new."""
        at = first + 2 + message[first + 1]
        slot = get(message[first:at])
        if slot is None:
            return None
        if message[at : at + 3] == _WHOLE and message[at + 11] == 16:
            value_at, behind = at + 3, at + _WHOLE_SIZE
        elif message[at : at + 3] == _ZERO:
            value_at, behind = -1, at + _ZERO_SIZE
        else:
            return None
        if behind != last or int.from_bytes(message[behind - 6 : behind], "little") & _SIX_BITS != _SIX:
            return None
        return slot, value_at, behind - 6

    return quick
