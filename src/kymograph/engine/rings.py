"""What a ring is, and the ability of an engine to keep them: series whose storage is bounded by construction.

A ring has `slots` slots of `step` each. A sample belongs into slot `(time // step) % slots`; the last write into a slot
wins, but a sample whose step is older than the one in the slot changes nothing. What is in a slot stays until a newer
step takes it: nothing else ever removes it, neither age nor the cap of the store.

The samples of rings are rows of the table `samples`: `Engine.append` of that table puts them into their rings, and its
`scan`, `latest`, `statistics`, `delete` and `drop_table` know them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from kymograph.errors import InvalidInput
from kymograph.model.time import MAX_TIME

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]

MAX_SLOTS = 2**25  # a year of seconds, 512 MiB
SLOT_BYTES = 16  # time and value


@dataclass(frozen=True)
class Ring:
    """How one series is kept.

    Attributes:
        step: µs that one slot stands for.
        slots: how many there are, 1 to `MAX_SLOTS`.
        kind: what its values are, such as gauge or counter.

    Raises:
        InvalidInput: a step or a number of slots that is out of range.
    """

    step: int
    slots: int
    kind: str = "gauge"

    def __post_init__(self) -> None:
        if type(self.step) is not int or not 0 < self.step <= MAX_TIME:
            raise InvalidInput(f"a ring cannot have a step of {self.step!r} µs", hint="a positive duration")
        if type(self.slots) is not int or not 0 < self.slots <= MAX_SLOTS:
            raise InvalidInput(f"a ring cannot have {self.slots!r} slots", hint=f"1 to {MAX_SLOTS:,}")

    @property
    def bytes(self) -> int:
        """What all slots take together."""
        return self.slots * SLOT_BYTES


class RingSamples(NamedTuple):
    """Samples by series, then time.

    Attributes:
        ids: int64 of shape (n,).
        times: int64 µs of shape (n,).
        values: float64 of shape (n,), bits as written.
    """

    ids: Ints
    times: Ints
    values: Floats


@runtime_checkable
class Rings(Protocol):
    """The rings of one engine, by id of their series. Safe for many threads; changes are durable on return."""

    def define(self, rings: Mapping[int, Ring]) -> None:
        """Make these registered series rings, all or none; equal ones may be there already.

        Raises:
            NotFound: a series that is not registered.
            AlreadyExists: a series that is another ring, or has samples already.
            LimitExceeded: all rings together would take more than a quarter of the store's cap.
        """

    def all(self) -> Mapping[int, Ring]:
        """Every ring by the id of its series; the caller must not change it."""

    def write(self, ids: Ints, times: Ints, values: Floats) -> int:
        """Put samples into their slots in the order given, in one durable step. Returns how many were given.

        Raises:
            NotFound: a series that is no ring; nothing is stored.
        """

    def read(self, ids: Sequence[int] | None = None, start: int | None = None, end: int | None = None) -> RingSamples:
        """Samples of [start, end) of these rings, or of all; ids that are no rings have none."""

    def resize(self, series_id: int, step: int, slots: int) -> None:
        """Give a ring another step and number of slots at once; samples that still find a slot stay.

        Samples go into their new slots in order of time, so that the newest of each slot is kept. Raises NotFound.
        """

    def drop(self, ids: Sequence[int]) -> None:
        """Forget rings and their samples; the series stay registered. Ids that are no rings are passed over."""

    def usage(self) -> int:
        """Bytes that the slots written so far take; never more than the sum of `Ring.bytes`, rounded up to pages."""
