"""The registry of scalar series: names and labels by id, only ever growing, with snapshots that cost nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

Series = tuple[str, Mapping[str, str]]
Identity = tuple[str, tuple[tuple[str, str], ...]]


def identity(name: str, labels: Mapping[str, str]) -> Identity:
    """What makes a series that one: its name, and its labels in whatever order."""
    return name, tuple(sorted(labels.items()))


class Registry:
    """Series by id and ids by identity. One thread adds at a time; any number look, also meanwhile."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._series: list[Series] = []
        self._places: dict[int, int] = {}
        self._known: dict[Identity, int] = {}

    def find(self, name: str, labels: Mapping[str, str]) -> int | None:
        """The id of a series, None where it is not registered."""
        return self._known.get(identity(name, labels))

    def add(self, number: int, name: str, labels: Mapping[str, str]) -> None:
        """Take a series that is not there; ids ascend."""
        self._series.append((name, dict(labels)))
        self._places[number] = len(self._ids)
        # last: a snapshot sees what the list of ids has
        self._ids.append(number)
        self._known[identity(name, labels)] = number

    @property
    def last(self) -> int:
        """The greatest id given so far, 0 when there is none."""
        return self._ids[-1] if self._ids else 0

    def snapshot(self) -> Mapping[int, Series]:
        """Every series by id, as of now, ascending."""
        return _Snapshot(self._ids, self._series, self._places)


class _Snapshot(Mapping[int, Series]):
    """The first series of a registry, however many are added later."""

    def __init__(self, ids: list[int], series: list[Series], places: dict[int, int]) -> None:
        self._ids, self._series, self._places = ids, series, places
        self._size = len(ids)

    def __getitem__(self, number: int) -> Series:
        place = self._places[number]
        if place >= self._size:
            raise KeyError(number)
        return self._series[place]

    def __iter__(self) -> Iterator[int]:
        return islice(self._ids, self._size)

    def __len__(self) -> int:
        return self._size
