"""Remote write, both versions: bytes of a message to arrays of series, times and values, at the speed of memory.

Sources: "Prometheus Remote-Write 1.0" and "2.0" and their messages `prometheus.WriteRequest` and
`io.prometheus.write.v2.Request`. Decoding through protobuf objects gives 0.14 million samples/s. Here a series is taken
apart once; later it is found by the raw bytes of its labels, and whole messages by their layout (see `remote_layout`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from kymograph.errors import TimeError
from kymograph.model.time import MAX_TIME
from kymograph.wire.protobuf import BYTES, Malformed, behind, fields, span, tag_at, text, varint
from kymograph.wire.remote_layout import PAD, Ints, varints, words
from kymograph.wire.remote_metadata import About, metadata_v1
from kymograph.wire.remote_series import Labels
from kymograph.wire.remote_walk import Book, Dialect, Walk

V1, V2 = "prometheus.WriteRequest", "io.prometheus.write.v2.Request"
_METADATA_V1 = 3 << 3 | BYTES
_SYMBOLS_V2, _SERIES_V2 = 4 << 3 | BYTES, 5 << 3 | BYTES
# symbol tables of version 2 that are remembered, and their bytes
_TABLES, _TABLE_BYTES = 64, 32 * 2**20
_MOST_MS = MAX_TIME // 1000


@dataclass(frozen=True)
class Written:
    """What one message says.

    Attributes:
        slots: int64, n; which series each sample is of, a number that `Decoder.series` knows.
        times: int64 µs, n.
        values: float64, n, bits as sent.
        about: metadata by the name of the metric family, as far as it was not said in a message before.
        histograms, exemplars: how many native histograms and exemplars there are; they are not among the samples.
    """

    slots: Ints
    times: Ints
    values: np.ndarray[tuple[int], np.dtype[np.float64]]
    about: dict[str, About] = field(default_factory=dict)
    histograms: int = 0
    exemplars: int = 0


class Decoder:
    """Reads messages and remembers the series and layouts it has seen. Safe for many threads.

    Attributes:
        series: slot to metric name and labels (sorted, without empty ones); only grows.
    """

    def __init__(self) -> None:
        self._book = Book()
        self._first = Dialect.v1(self._book)
        self._tables: OrderedDict[bytes, Dialect] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def series(self) -> list[tuple[str, Labels]]:
        return self._book.series

    @property
    def nbytes(self) -> int:
        """Bytes of memory this takes, about; replace it by a new one when they are too many."""
        return self._book.nbytes + self._first.nbytes + sum(table.nbytes for table in list(self._tables.values()))

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
        return self._read_v1(message) if version == V1 else self._read_v2(message)

    def _read_v1(self, message: bytes) -> Written:
        end = len(message) - PAD
        walk = Walk(self._first, message, end)
        about: dict[str, About] = {}
        at = walk.run(0)
        while at < end:
            tag, at = tag_at(message, at, end)
            if tag == _METADATA_V1:
                first, at = span(message, at, end, BYTES)
                name, found = metadata_v1(message, first, at)
                about[name] = found
            elif tag >> 3 in (1, 3):
                raise Malformed(f"a WriteRequest's field {tag >> 3} has the wire type {tag & 7}")
            else:
                at = behind(message, at, end, tag)
            walk.interrupted = True
            at = walk.run(at)
        return self._written(walk, message, about)

    def _read_v2(self, message: bytes) -> Written:
        end = len(message) - PAD
        table, at = self._known_table(message)
        walk = Walk(table, message, end)
        try:
            whole = walk.run(at) == end
        except Malformed:
            whole = False
        if not whole:
            # something beside symbols and series, symbols behind series, or nothing that can be read
            walk = self._anyhow_v2(message, end)
        return self._written(walk, message, walk.about)

    def _anyhow_v2(self, message: bytes, end: int) -> Walk:
        """A message whose fields come in any order: all symbols first, then everything else."""
        table, _ = self._table(message, 0, end, whole=True)
        walk = Walk(table, message, end)
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

    def _known_table(self, message: bytes) -> tuple[Dialect, int]:
        """The dialect of the message's symbols, which begin it, and the place behind them."""
        for symbols, table in list(self._tables.items()):
            if message.startswith(symbols) and message[len(symbols)] == _SERIES_V2:
                return table, len(symbols)
        table, at = self._table(message, 0, len(message) - PAD, whole=False)
        if at:
            with self._lock:
                self._tables[message[:at]] = table
                while len(self._tables) > _TABLES or sum(map(len, self._tables)) > _TABLE_BYTES:
                    self._tables.popitem(last=False)
        return table, at

    def _table(self, message: bytes, at: int, end: int, whole: bool) -> tuple[Dialect, int]:
        symbols = []
        behind_symbols = at
        if whole:
            for number, kind, first, last in fields(message, at, end):
                if number == 4:
                    if kind != BYTES:
                        raise Malformed(f"a Request's field 4 has the wire type {kind}")
                    symbols.append(text(message, first, last))
        else:
            while at < end and message[at] == _SYMBOLS_V2:
                size, first = varint(message, at + 1, end)
                at = first + size
                if at > end:
                    raise Malformed(f"the message is cut off: the symbol at byte {first} has {size} bytes")
                symbols.append(text(message, first, at))
            behind_symbols = at
        if symbols and symbols[0]:
            raise Malformed(f"the first symbol is {symbols[0][:80]!r} and not empty")
        return Dialect.v2(self._book, symbols), behind_symbols

    def _written(self, walk: Walk, message: bytes, about: dict[str, About]) -> Written:
        found = walk.found()
        absent = len(message) - PAD
        values = words(message, np.where(found.value_at < 0, absent, found.value_at)).view("<f8")
        times = varints(words(message, np.where(found.time_at < 0, absent, found.time_at)))
        for number, milliseconds in walk.odd:
            times[number] = milliseconds
        out = np.abs(times) > _MOST_MS
        # the least int64 is its own absolute value
        out |= times == np.iinfo(np.int64).min
        if out.any():
            number = int(out.argmax())
            name, labels = self.series[int(np.repeat(found.slots, found.counts)[number])]
            raise TimeError(f"the time {times[number]} ms of {name[:80]} with {len(labels)} labels is out of range")
        slots = found.slots if (found.counts == 1).all() else np.repeat(found.slots, found.counts)
        return Written(slots, times * 1000, values, about, walk.histograms, walk.exemplars)
