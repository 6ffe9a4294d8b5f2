"""Remote write, both versions: bytes of a message to arrays of series, times and values, at the speed of memory.

Sources: "Prometheus Remote-Write 1.0" and "2.0" and their messages `prometheus.WriteRequest` and
`io.prometheus.write.v2.Request`. Decoding through protobuf objects gives 0.14 million samples/s. Here a series is taken
apart once; later it is found by the raw bytes of its labels, and whole messages by their layout (see `remote_layout`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import numpy as np

from kymograph.errors import TimeError
from kymograph.model.time import MAX_TIME
from kymograph.wire.protobuf import BYTES, Malformed, behind, fields, span, tag_at, text
from kymograph.wire.remote_exemplars import Told
from kymograph.wire.remote_layout import PAD, Ints, joined, varints, words
from kymograph.wire.remote_metadata import About, metadata_v1
from kymograph.wire.remote_series import Labels
from kymograph.wire.remote_symbols import Spelled, Texts, Unusual, symbols_of
from kymograph.wire.remote_walk import Book, Dialect, Walk, series_span

V1, V2 = "prometheus.WriteRequest", "io.prometheus.write.v2.Request"
_METADATA_V1 = 3 << 3 | BYTES
_SERIES_V2 = 5 << 3 | BYTES
# symbol tables of version 2 that are remembered, and their bytes
_TABLES, _TABLE_BYTES = 64, 64 * 2**20
# tables of which it is remembered that they were met
_MET = 10_000
_MOST_MS = MAX_TIME // 1000


@dataclass(frozen=True)
class Written:
    """What one message says.

    Attributes:
        slots: int64, n; which series each sample is of, a number that `Decoder.series` knows.
        times: int64 µs, n.
        values: float64, n, bits as sent.
        about: metadata by the name of the metric family, as far as it was not said in a message before.
        histograms: how many native histograms there are; they are not among the samples.
        exemplars: slot of the series and what it says, of each that can be read.
    """

    slots: Ints
    times: Ints
    values: np.ndarray[tuple[int], np.dtype[np.float64]]
    about: dict[str, About] = field(default_factory=dict)
    histograms: int = 0
    exemplars: list[tuple[int, Told]] = field(default_factory=list)


class Decoder:
    """Reads messages and remembers the series and layouts it has seen. Safe for many threads.

    Attributes:
        series: slot to metric name and labels (sorted, without empty ones); only grows.
    """

    def __init__(self) -> None:
        self._book = Book()
        self._first = Dialect.v1(self._book)
        self._texts = Texts()
        self._tables: OrderedDict[bytes, Dialect] = OrderedDict()
        self._met: set[int] = set()
        self._lock = threading.Lock()

    @property
    def series(self) -> list[tuple[str, Labels]]:
        return self._book.series

    @property
    def nbytes(self) -> int:
        """Bytes of memory this takes, about; replace it by a new one when they are too many."""
        with self._lock:
            tables = list(self._tables.values())
        known = self._book.nbytes + self._texts.nbytes + self._first.nbytes
        return known + sum(table.nbytes for table in tables)

    def read(self, message: bytes, version: str = V1) -> Written:
        """A whole message, or nothing of it.

        Args:
            message: unpacked, followed by `PAD` zero bytes.
            version: `V1` or `V2`.

        Raises:
            Malformed: not a message of this version.
            InvalidInput: a series without a metric name, with a label twice or without a name.
            TimeError: a time that is out of range.
        """
        (found,) = self.read_all(message, [(0, len(message) - PAD, version)])
        return found

    def read_all(self, data: bytes, places: Sequence[tuple[int, int, str]]) -> list[Written]:
        """Several messages at once, which costs less than one after the other; what is wrong with one fails all.

        Args:
            data: the messages, unpacked, each followed by `PAD` zero bytes.
            places: of each message its first byte, the byte behind its last one, and its version.

        Raises:
            What `read` does, without saying of which message.
        """
        walks = [
            self._walk_v1(data, first, last) if version == V1 else self._walk_v2(data, first, last)
            for first, last, version in places
        ]
        return self._written(data, walks)

    def _walk_v1(self, data: bytes, at: int, end: int) -> Walk:
        walk = Walk(self._first, data, end)
        at = walk.run(at)
        while at < end:
            tag, at = tag_at(data, at, end)
            if tag == _METADATA_V1:
                first, at = span(data, at, end, BYTES)
                name, found = metadata_v1(data, first, at)
                walk.about[name] = found
            elif tag >> 3 in (1, 3):
                raise Malformed(f"a WriteRequest's field {tag >> 3} has the wire type {tag & 7}")
            else:
                at = behind(data, at, end, tag)
            walk.interrupted = True
            at = walk.run(at)
        return walk

    def _walk_v2(self, data: bytes, begin: int, end: int) -> Walk:
        table, at = self._known_table(data, begin)
        if table is None:
            places, at = symbols_of(data, begin, end)
            numbers = self._texts.numbers(data, places)
            symbols = [text(data, first, last) for first, last in places]
            _check_first(symbols)
            table = Dialect.v2(self._book, symbols)
            if not self._seen_before(data[begin:at]):
                with suppress(Unusual, Malformed):
                    return self._spelled(data, at, end, table, symbols, numbers)
            else:
                self._keep(data[begin:at], table)
        walk = Walk(table, data, end)
        try:
            whole = walk.run(at) == end
        except Malformed:
            whole = False
        # else something beside symbols and series, symbols behind series, or nothing that can be read
        return walk if whole else self._anyhow_v2(data, begin, end)

    def _spelled(self, data: bytes, at: int, end: int, table: Dialect, symbols: list[str], numbers: Ints) -> Walk:
        """A message of usual form with a new table: series are known by what their references spell."""
        walk = Walk(table, data, end)
        found = Spelled(data, walk.bytes, at, end, symbols, numbers)
        slots = [self._texts.slots.get(key, -1) for key in found.keys]
        part = found.found(slots)
        for number, slot in enumerate(slots):
            if slot < 0:
                refs = table.parse(data, *series_span(data, int(part.starts[number]), end))
                slots[number] = table.slot_of(data, refs)
                self._texts.remember(found.keys[number], slots[number])
        walk.take(found.found(slots))
        walk.about = found.told(slots, self.series)
        return walk

    def _seen_before(self, symbols: bytes) -> bool:
        """Whether a table was met already: only those that come again are worth a layout."""
        key = hash(symbols)
        with self._lock:
            if key in self._met:
                return True
            if len(self._met) >= _MET:
                self._met.clear()
            self._met.add(key)
        return False

    def _keep(self, symbols: bytes, table: Dialect) -> None:
        with self._lock:
            self._tables[symbols] = table
            while len(self._tables) > _TABLES or sum(each.nbytes for each in self._tables.values()) > _TABLE_BYTES:
                self._tables.popitem(last=False)

    def _anyhow_v2(self, data: bytes, at: int, end: int) -> Walk:
        """A message whose fields come in any order: all symbols first, then everything else."""
        walk = Walk(self._whole_table(data, at, end), data, end)
        walk.interrupted = True
        while at < end:
            at = walk.run(at)
            if at < end:
                tag, at = tag_at(data, at, end)
                if tag >> 3 == 5:
                    raise Malformed(f"a Request's field 5 has the wire type {tag & 7}")
                at = behind(data, at, end, tag)
        return walk

    def _known_table(self, data: bytes, at: int) -> tuple[Dialect | None, int]:
        """The dialect of a message's symbols, which begin it, where it is remembered, and the place behind them."""
        with self._lock:
            known = list(self._tables.items())
        for symbols, table in known:
            if data.startswith(symbols, at) and data[at + len(symbols)] == _SERIES_V2:
                with self._lock, suppress(KeyError):
                    self._tables.move_to_end(symbols)
                return table, at + len(symbols)
        return None, at

    def _whole_table(self, data: bytes, at: int, end: int) -> Dialect:
        symbols = []
        for number, kind, first, last in fields(data, at, end):
            if number == 4:
                if kind != BYTES:
                    raise Malformed(f"a Request's field 4 has the wire type {kind}")
                symbols.append(text(data, first, last))
        _check_first(symbols)
        return Dialect.v2(self._book, symbols)

    def _written(self, data: bytes, walks: list[Walk]) -> list[Written]:
        """What the messages say, of all at once: each step over arrays costs as much for one as for ten."""
        parts = [walk.found() for walk in walks]
        found = joined(parts)
        bounds = [0, *accumulate(len(part.value_at) for part in parts)]
        absent = len(data) - PAD
        values = words(data, np.where(found.value_at < 0, absent, found.value_at)).view("<f8")
        times = varints(words(data, np.where(found.time_at < 0, absent, found.time_at)))
        for begin, walk in zip(bounds, walks, strict=False):
            for number, milliseconds in walk.odd:
                times[begin + number] = milliseconds
        slots = found.slots if (found.counts == 1).all() else np.repeat(found.slots, found.counts)
        # compared twice, since the least int64 is its own absolute value
        out = (times > _MOST_MS) | (times < -_MOST_MS)
        if out.any():
            number = int(out.argmax())
            name, labels = self.series[int(slots[number])]
            raise TimeError(f"the time {times[number]} ms of {name[:80]} with {len(labels)} labels is out of range")
        times *= 1000
        return [
            Written(slots[a:b], times[a:b], values[a:b], walk.about, walk.histograms, walk.exemplars)
            for (a, b), walk in zip(pairwise(bounds), walks, strict=True)
        ]


def _check_first(symbols: list[str]) -> None:
    if symbols and symbols[0]:
        raise Malformed(f"the first symbol is {symbols[0][:80]!r} and not empty")
