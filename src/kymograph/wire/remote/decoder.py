"""Remote write, both versions: bytes of a message to arrays of series, times and values, at the speed of memory.

Sources: "Prometheus Remote-Write 1.0" and "2.0" and their messages `prometheus.WriteRequest` and
`io.prometheus.write.v2.Request`. Decoding through protobuf objects gives 0.14 million samples/s. Here a series is taken
apart once; later it is found by the raw bytes of its labels, and whole messages by their layout (see `layout`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from kymograph.errors import TimeError
from kymograph.model.time import MAX_TIME
from kymograph.wire.protobuf import BYTES, Malformed, behind, fields, span, tag_at, text
from kymograph.wire.remote.exemplars import Told
from kymograph.wire.remote.layout import PAD, Ints, varints
from kymograph.wire.remote.metadata import About, metadata_v1
from kymograph.wire.remote.series import Labels
from kymograph.wire.remote.symbols import Spelled, Texts, Unusual, symbols_of
from kymograph.wire.remote.walk import Book, Dialect, Walk, series_span

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
        return self._written(self._walk_v1(message) if version == V1 else self._walk_v2(message))

    def _walk_v1(self, message: bytes) -> Walk:
        end = len(message) - PAD
        walk = Walk(self._first, message, end)
        at = walk.run(0)
        while at < end:
            tag, at = tag_at(message, at, end)
            if tag == _METADATA_V1:
                first, at = span(message, at, end, BYTES)
                name, found = metadata_v1(message, first, at)
                walk.about[name] = found
            elif tag >> 3 in (1, 3):
                raise Malformed(f"a WriteRequest's field {tag >> 3} has the wire type {tag & 7}")
            else:
                at = behind(message, at, end, tag)
            walk.interrupted = True
            at = walk.run(at)
        return walk

    def _walk_v2(self, message: bytes) -> Walk:
        end = len(message) - PAD
        table, at = self._known_table(message)
        if table is None:
            places, at = symbols_of(message, 0, end)
            numbers = self._texts.numbers(message, places)
            symbols = [text(message, first, last) for first, last in places]
            _check_first(symbols)
            table = Dialect.v2(self._book, symbols)
            if not self._seen_before(message[:at]):
                with suppress(Unusual, Malformed):
                    return self._spelled(message, at, end, table, symbols, numbers)
            else:
                self._keep(message[:at], table)
        walk = Walk(table, message, end)
        try:
            whole = walk.run(at) == end
        except Malformed:
            whole = False
        # else something beside symbols and series, symbols behind series, or nothing that can be read
        return walk if whole else self._anyhow_v2(message, end)

    def _spelled(self, message: bytes, at: int, end: int, table: Dialect, symbols: list[str], numbers: Ints) -> Walk:
        """A message of usual form with a new table: series are known by what their references spell."""
        walk = Walk(table, message, end)
        found = Spelled(message, walk.bytes, at, end, symbols, numbers)
        slots = [self._texts.slots.get(key, -1) for key in found.keys]
        part = found.found(slots)
        for number, slot in enumerate(slots):
            if slot < 0:
                refs = table.parse(message, *series_span(message, int(part.starts[number]), end))
                slots[number] = table.slot_of(message, refs)
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

    def _anyhow_v2(self, message: bytes, end: int) -> Walk:
        """A message whose fields come in any order: all symbols first, then everything else."""
        walk = Walk(self._whole_table(message, end), message, end)
        walk.interrupted = True
        at = 0
        while at < end:
            at = walk.run(at)
            if at < end:
                tag, at = tag_at(message, at, end)
                if tag >> 3 == 5:
                    raise Malformed(f"a Request's field 5 has the wire type {tag & 7}")
                at = behind(message, at, end, tag)
        return walk

    def _known_table(self, message: bytes) -> tuple[Dialect | None, int]:
        """The dialect of the message's symbols, which begin it, where it is remembered, and the place behind them."""
        with self._lock:
            known = list(self._tables.items())
        for symbols, table in known:
            if message.startswith(symbols) and message[len(symbols)] == _SERIES_V2:
                with self._lock, suppress(KeyError):
                    self._tables.move_to_end(symbols)
                return table, len(symbols)
        return None, 0

    def _whole_table(self, message: bytes, end: int) -> Dialect:
        symbols = []
        for number, kind, first, last in fields(message, 0, end):
            if number == 4:
                if kind != BYTES:
                    raise Malformed(f"a Request's field 4 has the wire type {kind}")
                symbols.append(text(message, first, last))
        _check_first(symbols)
        return Dialect.v2(self._book, symbols)

    def _written(self, walk: Walk) -> Written:
        slots, values, words = walk.samples()
        times = varints(words)
        for number, milliseconds in walk.odd:
            times[number] = milliseconds
        # not by their absolute values: the least int64 is its own
        if len(times) and not -_MOST_MS <= times.min() <= times.max() <= _MOST_MS:
            number = int(((times > _MOST_MS) | (times < -_MOST_MS)).argmax())
            name, labels = self.series[int(slots[number])]
            raise TimeError(f"the time {times[number]} ms of {name[:80]} with {len(labels)} labels is out of range")
        times *= 1000
        return Written(slots, times, values.view("<f8"), walk.about, walk.histograms, walk.exemplars)


def _check_first(symbols: list[str]) -> None:
    if symbols and symbols[0]:
        raise Malformed(f"the first symbol is {symbols[0][:80]!r} and not empty")
