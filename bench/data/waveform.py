"""Mains voltage and current of a building, as an analog-digital converter gives them: rows of streams, piece by piece.

Three phases of 60 Hz: voltages with a little fifth harmonic, currents with a fifth and seventh harmonic whose size changes
when loads switch, all with Gaussian noise of the converter. `uint16_6` has six columns around the middle of 16 bits;
`float32_8` adds power and phase; `uint16_2` at 100 kHz is one voltage and one current.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kymograph.model.stream import Layout

START = 1_772_409_600_000_000  # 2026-03-02T00:00:00Z in µs
Rows = np.ndarray[Any, Any]
_MIDDLE = 32_768
_VOLTS, _AMPS = 11_000.0, 900.0  # amplitudes in steps of the converter
_NOISE = 4.0  # standard deviation in steps
_POOL = 1 << 22


class Waveform:
    """Rows of one layout at one rate; the same seed gives the same rows.

    Args:
        layout: such as `uint16_6`.
        rate: rows per second.
    """

    def __init__(self, layout: str, rate: int, seed: int = 1) -> None:
        self.layout = Layout.parse(layout)
        self.rate = rate
        self._random = np.random.default_rng(seed)
        self._noise = self._random.normal(0, _NOISE, _POOL).astype(np.float32)
        self._done = 0

    def pieces(self, rows: int, size: int = 1 << 20) -> Iterator[Rows]:
        """The next `rows` rows as arrays of at most `size`."""
        while rows > 0:
            count = min(rows, size)
            yield self.next(count)
            rows -= count

    def next(self, count: int) -> Rows:
        """The next rows: `timestamp` µs, `data` of shape (count, columns)."""
        made = np.empty(count, self.layout.rows)
        numbers = self._done + np.arange(count, dtype=np.int64)
        made["timestamp"] = START + numbers * 1_000_000 // self.rate
        # within one cycle, because float32 holds no large angle finely enough
        turn = ((numbers * 60 % self.rate) * (2 * np.pi / self.rate)).astype(np.float32)
        for column in range(self.layout.count):
            values = self._column(column, turn, count)
            if self.layout.dtype.kind == "f":
                made["data"][:, column] = values / 100
            else:
                made["data"][:, column] = np.clip(np.rint(values) + _MIDDLE, 0, 65_535)
        self._done += count
        return made

    def _column(self, column: int, turn: Rows, count: int) -> Rows:
        first = int(self._random.integers(0, _POOL))
        noise = np.take(self._noise, np.arange(first, first + count), mode="wrap")
        phase = turn + np.float32(column % 3 * 2 * np.pi / 3)
        half = self.layout.count // 2
        if column < half:
            return np.float32(_VOLTS) * (np.sin(phase) + np.float32(0.02) * np.sin(5 * phase)) + noise
        # a load of another size every so often, the same within a piece
        size = np.float32(_AMPS * (1 + 3 * self._random.random()))
        return (
            size * (np.sin(phase) + np.float32(0.2) * np.sin(5 * phase) + np.float32(0.1) * np.sin(7 * phase)) + noise
        )
