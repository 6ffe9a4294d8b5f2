"""The lines of a body that were not taken, and why: the first ones with their words, the others by number only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# named with what is wrong; a body of nothing but broken lines must not become many times its size in words
MOST_NAMED = 1000

Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(order=True)
class Fault:
    """A line that was not taken: its number from 1, what is wrong ("has no fields"), and the line itself, shortened."""

    line: int
    message: str
    text: str = ""


class Faults:
    """Faults in the order of lines. Its length counts all of them, iterating gives those that are named."""

    def __init__(self) -> None:
        self._named: list[Fault] = []
        self._single: list[int] = []
        self._several: list[Ints] = []

    def __len__(self) -> int:
        return len(self._named) + len(self._single) + sum(map(len, self._several))

    def __iter__(self) -> Iterator[Fault]:
        return iter(sorted(self._named))

    def add(self, line: int, message: str, text: str = "") -> None:
        if len(self._named) < MOST_NAMED:
            self._named.append(Fault(line, message, text))
        else:
            self._single.append(line)

    def add_all(self, lines: Ints, message: str) -> None:
        """The same of many lines."""
        room = MOST_NAMED - len(self._named)
        self._named += [Fault(line, message) for line in lines[:room].tolist()]
        if len(lines) > room:
            self._several.append(lines[max(0, room) :])

    def extend(self, others: Faults) -> None:
        for fault in others:
            self.add(fault.line, fault.message, fault.text)
        self._single += others._single
        self._several += others._several

    def divided(self, ends: Sequence[int]) -> list[Faults]:
        """Those of several bodies that were one: `ends` are the numbers of the last line of each."""
        found = [Faults() for _ in ends]
        for fault in self:
            place = int(np.searchsorted(ends, fault.line))
            found[place].add(fault.line - (ends[place - 1] if place else 0), fault.message, fault.text)
        for lines in (np.array(self._single, np.int64), *self._several):
            places = np.searchsorted(ends, lines)
            for place in np.unique(places).tolist():
                before = ends[place - 1] if place else 0
                found[place]._several.append(lines[places == place] - before)
        return found
