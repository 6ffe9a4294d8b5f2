"""The oracle's rings: a dictionary of slots each, one sample after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from kymograph.engine.rings import SLOT_BYTES, Floats, Ints, Ring, RingSamples
from kymograph.errors import AlreadyExists, LimitExceeded, NotFound

Bits = int  # of a float64, so that no payload of a NaN is lost


class MemoryRings:
    """Satisfies `engine.rings.Rings`.

    Args:
        lock: the engine's.
        readable, writable: raise when the engine is not.
        registered: whether there is such a series; `sampled`: whether it has rows in the table `samples`.
        cap: bytes the whole store may take.
    """

    def __init__(
        self,
        lock: threading.RLock,
        readable: Callable[[], None],
        writable: Callable[[], None],
        registered: Callable[[int], bool],
        sampled: Callable[[int], bool],
        cap: int | None,
    ) -> None:
        self._lock = lock
        self._readable, self._writable = readable, writable
        self._registered, self._sampled = registered, sampled
        self._cap = cap
        self._rings: dict[int, Ring] = {}
        self._slots: dict[int, dict[int, tuple[int, Bits]]] = {}

    def define(self, rings: Mapping[int, Ring]) -> None:
        with self._lock:
            self._writable()
            for number, ring in rings.items():
                if not self._registered(number):
                    raise NotFound(f"there is no series {number}")
                if self._rings.get(number, ring) != ring:
                    raise AlreadyExists(f"series {number} is another ring already")
                if number not in self._rings and self._sampled(number):
                    raise AlreadyExists(f"series {number} has samples already")
            self._check_cap({**self._rings, **rings})
            self._rings = {**self._rings, **rings}
            for number in rings:
                self._slots.setdefault(number, {})

    def _check_cap(self, rings: Mapping[int, Ring]) -> None:
        if self._cap is not None and sum(ring.bytes for ring in rings.values()) > self._cap // 4:
            raise LimitExceeded(f"the rings would take more than a quarter of the cap of {self._cap} bytes")

    def all(self) -> Mapping[int, Ring]:
        with self._lock:
            self._readable()
            return self._rings

    def write(self, ids: Ints, times: Ints, values: Floats) -> int:
        with self._lock:
            self._writable()
            numbers = ids.tolist()
            for number in numbers:
                if number not in self._rings:
                    raise NotFound(f"series {number} is no ring")
            for number, time, bits in zip(numbers, times.tolist(), values.view(np.int64).tolist(), strict=True):
                self._put(number, time, bits)
            return len(ids)

    def _put(self, number: int, time: int, bits: Bits) -> None:
        ring, slots = self._rings[number], self._slots[number]
        slot = (time // ring.step) % ring.slots
        if slot not in slots or slots[slot][0] // ring.step <= time // ring.step:
            slots[slot] = (time, bits)

    def read(self, ids: Sequence[int] | None = None, start: int | None = None, end: int | None = None) -> RingSamples:
        with self._lock:
            self._readable()
            wanted = self._slots.keys() if ids is None else set(ids) & self._slots.keys()
            found = sorted(
                (number, time, bits)
                for number in wanted
                for time, bits in self._slots[number].values()
                if (start is None or time >= start) and (end is None or time < end)
            )
        columns = np.array(found, np.int64).reshape(-1, 3).T.copy()
        return RingSamples(columns[0], columns[1], columns[2].view(np.float64))

    def resize(self, series_id: int, step: int, slots: int) -> None:
        with self._lock:
            self._writable()
            if series_id not in self._rings:
                raise NotFound(f"series {series_id} is no ring")
            ring = replace(self._rings[series_id], step=step, slots=slots)
            self._check_cap({**self._rings, series_id: ring})
            kept = sorted(self._slots[series_id].values())
            self._rings = {**self._rings, series_id: ring}
            self._slots[series_id] = {}
            for time, bits in kept:
                self._put(series_id, time, bits)

    def drop(self, ids: Sequence[int]) -> None:
        with self._lock:
            self._writable()
            self._rings = {number: ring for number, ring in self._rings.items() if number not in ids}
            self._slots = {number: slots for number, slots in self._slots.items() if number not in ids}

    def delete(self, ids: Sequence[int], start: int | None, end: int | None) -> int:
        """Empty the slots whose sample lies in [start, end). Returns how many."""
        gone = 0
        for number in set(ids) & self._slots.keys():
            slots = self._slots[number]
            for slot, (time, _) in list(slots.items()):
                if (start is None or time >= start) and (end is None or time < end):
                    del slots[slot]
                    gone += 1
        return gone

    def usage(self) -> int:
        with self._lock:
            self._readable()
            return SLOT_BYTES * sum(len(slots) for slots in self._slots.values())
